"""A model as something to run: its session, and where batch, channels and space are in its input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import onnxruntime as ort

from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model.runtime import Port, Session, dtype_of, first_line, plain_session
from aarewrite.model.types import Array, DType

T = TypeVar("T")
ModelLike = str | Path | onnx.ModelProto

EXECUTION_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

MOST_FILLED = 2**16  # samples of a fixed batch, of which most are copies
# n: batch, c: channels, the others are space; of each rank ONNX's own order first
LAYOUTS = ("nl", "ncl", "nlc", "nchw", "nhwc", "ncdhw", "ndhwc")
SHIFTABLE = frozenset(("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16"))


@dataclass(frozen=True)
class InputSpec:
    """One input of a model, with its axes named."""

    name: str  # the tensor's name
    dtype: DType  # numpy's dtype
    layout: str  # one of `LAYOUTS`
    batch: int | None  # the batch size baked into the model, None when it is open
    channels: int | None  # channel count, None when open or when the layout has no channel axis
    size: tuple[int | None, ...]  # spatial size, one entry per spatial axis; None where the model leaves it open

    @property
    def channel_axis(self) -> int | None:
        """Axis of the channels, counted with the batch axis."""
        return self.layout.index("c") if "c" in self.layout else None

    @property
    def axes(self) -> tuple[int, ...]:
        """Spatial axes, counted with the batch axis."""
        return tuple(axis for axis, letter in enumerate(self.layout) if letter not in "nc")

    def shape(self, size: Sequence[int], channels: int | None = None) -> tuple[int, ...]:
        """Shape of one sample (no batch axis) at a spatial size."""
        return tuple(self._in_order(1, self.channels or channels or 1, size)[1:])

    def describe(self) -> str:
        """Say layout and sizes as one reads them, `nchw ?x3x224x224`."""
        dims = self._in_order(self.batch, self.channels, self.size)
        return f"{self.layout} {'x'.join(str(dim or '?') for dim in dims)} {self.dtype}"

    def _in_order(self, batch: T, channels: T, size: Sequence[T]) -> list[T]:
        values = {"n": batch, "c": channels} | dict(zip(self.layout.strip("nc"), size, strict=True))
        return [values[letter] for letter in self.layout]


class Model:
    """A model, never changed, ready to run on one provider (`cpu` or `cuda`).

    `label` is what messages and results call it, by default the file's name; `profile` is the prefix of an ONNX Runtime
    profile to write, for node placement; `threads` of one operator, 0: as many as cores.

    Raises:
        UsageError: The file does not exist.
        CannotHandle: ONNX Runtime does not load it, the provider is not there, or no input could be shifted.
    """

    def __init__(
        self,
        source: ModelLike,
        provider: str = "cpu",
        *,
        layout: str = "auto",
        label: str = "",
        profile: Path | None = None,
        threads: int = 0,
    ) -> None:
        self.source = source
        self.provider = provider
        self.label = label or (Path(source).name if not isinstance(source, onnx.ModelProto) else "model")
        self.session = open_session(source, provider, self.label, profile, threads)
        self.inputs = tuple(_input_spec(value, layout, self.label) for value in self.session.get_inputs())
        # sequences and maps, such as those of a ZipMap, are not measured
        self.output_names = tuple(v.name for v in self.session.get_outputs() if v.type.startswith("tensor("))
        if not self.output_names:
            raise CannotHandle(f"{self.label}: none of its outputs is a tensor", "take a model before its ZipMap")
        self.constants: dict[str, Array] = {}  # inputs that are the same for every sample

    def twin(self, source: ModelLike, provider: str, label: str = "", profile: Path | None = None) -> Model:
        """Open the same model on another provider, or one made from it, with this one's layout and constants."""
        layout = self.image_inputs[0].layout
        twin = Model(source, provider, layout=layout, label=label or self.label, profile=profile)
        twin.constants = self.constants
        return twin

    @property
    def image_inputs(self) -> tuple[InputSpec, ...]:
        """The inputs that carry what is shifted: floats or bytes of rank 2 to 5, without constants."""
        found = tuple(spec for spec in self.inputs if spec is not None and spec.name not in self.constants)
        if not found:
            raise CannotHandle(f"{self.label}: no input that could be shifted", "verify a vision or signal model")
        return found

    @property
    def batch(self) -> int | None:
        """The batch size baked into the model, None when it is open.

        Constants (a recurrent state, say) come with one sample's size, so they pin the batch to 1.
        """
        return 1 if self.constants else self.image_inputs[0].batch

    def feed(self, arrays: Iterable[Array]) -> dict[str, Array]:
        """Name one array an image input."""
        return {spec.name: array for spec, array in zip(self.image_inputs, arrays, strict=True)}

    def run(self, feeds: Mapping[str, Array], names: Iterable[str] = ()) -> dict[str, Array]:
        """Run a batch of any size, in pieces where the model's batch size is fixed: `(n, ...)` by name to `(n, ...)`.
        Only the outputs of these `names`, if any are given.

        Raises:
            CannotHandle: ONNX Runtime refuses the input, with its reason in one line.
        """
        wanted = tuple(names) or self.output_names
        dtypes = {spec.name: spec.dtype for spec in self.image_inputs}
        n = len(next(iter(feeds.values())))
        step = self.batch or n
        if step > max(n, MOST_FILLED):
            raise CannotHandle(f"{self.label}: a fixed batch of {step}", "export it with a smaller or an open batch")
        filled = -(-n // step) * step  # a fixed batch is filled with copies; their results are dropped below
        cast = {name: array.astype(dtypes[name], copy=False) for name, array in feeds.items()}
        if filled > n:
            cast = {name: array[np.minimum(np.arange(filled), n - 1)] for name, array in cast.items()}
        pieces = [
            self._run_once({name: array[start : start + step] for name, array in cast.items()}, wanted)
            for start in range(0, filled, step)
        ]
        if len(pieces) == 1 and filled == n:
            return dict(zip(wanted, pieces[0], strict=True))
        return {
            name: np.concatenate(found)[:n] if found[0].ndim else found[0]
            for name, found in zip(wanted, zip(*pieces, strict=True), strict=True)
        }

    def _run_once(self, feeds: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
        try:
            return self.session.run(names, {**feeds, **self.constants})
        except Exception as error:  # ONNX Runtime's exceptions share no public base
            shapes = ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
            raise CannotHandle(
                f"{self.label}: does not run on {shapes}: {first_line(error)}",
                "check the data's size against the model's input, or set --size or --preprocess",
            ) from None


def cuda_available() -> bool:
    """Whether this onnxruntime has a CUDA provider at all; starting it may still fail."""
    return EXECUTION_PROVIDERS["cuda"] in ort.get_available_providers()


def open_session(
    source: ModelLike,
    provider: str,
    label: str,
    profile: Path | None = None,
    threads: int = 0,
    entries: Iterable[tuple[str, str]] = (),
) -> Session:
    """Open an ONNX Runtime session on exactly the provider asked for. Errors as of `Model`, the rest as in
    `plain_session`."""
    if not isinstance(source, onnx.ModelProto) and not Path(source).is_file():
        raise UsageError(f"{source}: no such file", "name an existing .onnx file")
    wanted = EXECUTION_PROVIDERS[provider]
    if wanted not in ort.get_available_providers():
        raise CannotHandle(
            f"no {wanted} in onnxruntime {ort.__version__} on this machine",
            "install onnxruntime-gpu[cuda,cudnn] where an NVIDIA GPU is, or use --provider cpu",
        )
    # TF32 would drop 13 bits of mantissa and hide a real difference between providers.
    first = [(wanted, {"use_tf32": "0"})] if provider == "cuda" else []
    model = source if isinstance(source, onnx.ModelProto) else Path(source)
    try:
        session = plain_session(
            model, threads, entries, providers=[*first, EXECUTION_PROVIDERS["cpu"]], profile=profile
        )
    except Exception as error:
        raise CannotHandle(f"{label}: ONNX Runtime does not load it: {first_line(error)}", "check the model") from None
    if session.get_providers()[0] != wanted:  # ONNX Runtime falls back to the CPU with only a warning
        raise CannotHandle(
            f"{label}: ONNX Runtime could not start {wanted} and fell back to {session.get_providers()[0]}",
            "install the CUDA and cuDNN versions this onnxruntime-gpu needs, or use --provider cpu",
        )
    return session


def likely_layout(dims: Sequence[int | str | None]) -> str:
    """The layout that an input's sizes speak for, "" for a rank that no image or signal has.

    Only a small last axis beside a larger axis 1 speaks for channels-last; ONNX's own order is channels-first.
    """
    few, fitting = (1, 2, 3, 4), [name for name in LAYOUTS if len(name) == len(dims)]
    last = len(dims) >= 4 and dims[-1] in few and dims[1] not in few
    return fitting[-1 if last else 0] if fitting else ""


def _input_spec(value: Port, layout: str, label: str) -> InputSpec | None:
    """Read an input's axes, or None for one that cannot carry an image or a signal."""
    dtype, fitting = dtype_of(value), [name for name in LAYOUTS if len(name) == len(value.shape)]
    if dtype is None or dtype.name not in SHIFTABLE or not fitting:
        return None
    dims = [dim if isinstance(dim, int) and dim > 0 else None for dim in value.shape]
    if layout == "auto":
        layout = likely_layout(dims)
    elif layout not in fitting:
        raise UsageError(
            f"{label}: layout {layout!r} does not fit input {value.name!r} of rank {len(dims)}",
            f"use one of {', '.join(fitting)}",
        )
    by_letter = dict(zip(layout, dims, strict=True))
    size = tuple(dim for letter, dim in by_letter.items() if letter not in "nc")
    return InputSpec(value.name, dtype, layout, dims[0], by_letter.get("c"), size)
