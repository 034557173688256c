"""A model as something to run: its session, and where batch, channels and space are in its input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model.runtime import Port, Session, first_line, plain_session
from aarewrite.model.types import Array, DType

ModelLike = str | Path | onnx.ModelProto

EXECUTION_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

LAYOUTS = {  # name -> (channel axis or None, spatial axes), the batch axis being 0
    "nchw": (1, (2, 3)),
    "nhwc": (3, (1, 2)),
    "ncl": (1, (2,)),
    "nlc": (2, (1,)),
    "nl": (None, (1,)),
    "ncdhw": (1, (2, 3, 4)),
    "ndhwc": (4, (1, 2, 3)),
}
LAYOUTS_BY_RANK = {2: ("nl",), 3: ("ncl", "nlc"), 4: ("nchw", "nhwc"), 5: ("ncdhw", "ndhwc")}
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(uint16)": np.uint16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True)
class InputSpec:
    """One input of a model, with its axes named.

    Attributes:
        name: The tensor's name.
        dtype: numpy's dtype.
        layout: A key of `LAYOUTS`.
        batch: The batch size baked into the model, None when it is open.
        channels: Channel count, None when open or when the layout has no channel axis.
        size: Spatial size, one entry per spatial axis; None where the model leaves it open.
    """

    name: str
    dtype: DType
    layout: str
    batch: int | None
    channels: int | None
    size: tuple[int | None, ...]

    @property
    def channel_axis(self) -> int | None:
        """Axis of the channels, counted with the batch axis."""
        return LAYOUTS[self.layout][0]

    @property
    def axes(self) -> tuple[int, ...]:
        """Spatial axes, counted with the batch axis."""
        return LAYOUTS[self.layout][1]

    def shape(self, size: Sequence[int], channels: int | None = None) -> tuple[int, ...]:
        """Shape of one sample (no batch axis) at a spatial size."""
        dims = [0] * (len(self.axes) + (self.channel_axis is not None))
        for axis, extent in zip(self.axes, size, strict=True):
            dims[axis - 1] = extent
        if self.channel_axis is not None:
            dims[self.channel_axis - 1] = self.channels or channels or 1
        return tuple(dims)

    def describe(self) -> str:
        """Say layout and sizes as one reads them, `nchw ?x3x224x224`."""
        dims: list[object] = ["?"] * (1 + len(self.axes) + (self.channel_axis is not None))
        dims[0] = self.batch or "?"
        for axis, extent in zip(self.axes, self.size, strict=True):
            dims[axis] = extent or "?"
        if self.channel_axis is not None:
            dims[self.channel_axis] = self.channels or "?"
        return f"{self.layout} {'x'.join(map(str, dims))} {self.dtype}"


class Model:
    """A model ready to run on one provider.

    Args:
        source: A path or a ModelProto. The proto is not changed.
        provider: `cpu` or `cuda`.
        label: What messages and results call it; the file's name by default.
        profile: Prefix of an ONNX Runtime profile to write, for node placement.

    Raises:
        UsageError: The file does not exist.
        CannotHandle: ONNX Runtime does not load it, or it has no input one could shift.
    """

    def __init__(
        self,
        source: ModelLike,
        provider: str = "cpu",
        *,
        layout: str = "auto",
        label: str = "",
        profile: Path | None = None,
    ) -> None:
        self.source = source
        self.provider = provider
        self.label = label or (Path(source).name if not isinstance(source, onnx.ModelProto) else "model")
        self.session = open_session(source, provider, self.label, profile)
        self.inputs = tuple(_input_spec(value, layout, self.label) for value in self.session.get_inputs())
        self.output_names = tuple(value.name for value in self.session.get_outputs())
        self.constants: dict[str, Array] = {}  # inputs that are the same for every sample

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

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run a batch of any size, in pieces where the model's batch size is fixed.

        Args:
            feeds: One array `(n, ...)` for every image input; constants are added.

        Returns:
            Every output by name, `(n, ...)`.

        Raises:
            CannotHandle: ONNX Runtime refuses the input, with its reason in one line.
        """
        specs = {spec.name: spec for spec in self.image_inputs}
        n = len(next(iter(feeds.values())))
        step = self.batch or n
        pieces = []
        for start in range(0, n, step):
            piece = {}
            for name, array in feeds.items():
                rows = array[start : start + step]
                if len(rows) < step:  # fill a fixed batch with copies; their results are dropped below
                    rows = np.concatenate([rows, np.repeat(rows[-1:], step - len(rows), axis=0)])
                piece[name] = rows.astype(specs[name].dtype, copy=False)
            pieces.append(self._run_once(piece))
        if len(pieces) == 1 and step <= n:
            return dict(zip(self.output_names, pieces[0], strict=True))
        return {
            name: np.concatenate([piece[i] for piece in pieces])[:n] if pieces[0][i].ndim else pieces[0][i]
            for i, name in enumerate(self.output_names)
        }

    def _run_once(self, feeds: Mapping[str, Array]) -> list[Array]:
        try:
            outputs: list[Array] = self.session.run(None, {**feeds, **self.constants})
            return outputs
        except Exception as error:  # ONNX Runtime's exceptions share no public base
            shapes = ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
            raise CannotHandle(
                f"{self.label}: does not run on {shapes}: {first_line(error)}",
                "check the data's size against the model's input, or set --size or --preprocess",
            ) from None


def cuda_available() -> bool:
    """Whether this onnxruntime has a CUDA provider at all; starting it may still fail."""
    return EXECUTION_PROVIDERS["cuda"] in ort.get_available_providers()


def open_session(source: ModelLike, provider: str, label: str, profile: Path | None = None) -> Session:
    """Open an ONNX Runtime session on exactly the provider asked for.

    Raises:
        UsageError: The file does not exist.
        CannotHandle: The model does not load, or the provider is not there.
    """
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
        session = plain_session(model, entries=(), providers=[*first, EXECUTION_PROVIDERS["cpu"]], profile=profile)
    except Exception as error:
        raise CannotHandle(f"{label}: ONNX Runtime does not load it: {first_line(error)}", "check the model") from None
    if session.get_providers()[0] != wanted:  # ONNX Runtime falls back to the CPU with only a warning
        raise CannotHandle(
            f"{label}: ONNX Runtime could not start {wanted} and fell back to {session.get_providers()[0]}",
            "install the CUDA and cuDNN versions this onnxruntime-gpu needs, or use --provider cpu",
        )
    return session


def _input_spec(value: Port, layout: str, label: str) -> InputSpec | None:
    """Read an input's axes, or None for one that cannot carry an image or a signal."""
    rank = len(value.shape)
    if value.type not in _DTYPES or rank not in LAYOUTS_BY_RANK or value.type == "tensor(bool)":
        return None
    dims = [dim if isinstance(dim, int) and dim > 0 else None for dim in value.shape]
    chosen = _layout(dims, rank, layout, value.name, label)
    channel_axis, axes = LAYOUTS[chosen]
    return InputSpec(
        value.name,
        np.dtype(_DTYPES[value.type]),
        chosen,
        dims[0],
        None if channel_axis is None else dims[channel_axis],
        tuple(dims[axis] for axis in axes),
    )


def _layout(dims: list[int | None], rank: int, layout: str, name: str, label: str) -> str:
    if layout != "auto":
        if layout not in LAYOUTS_BY_RANK[rank]:
            raise UsageError(
                f"{label}: layout {layout!r} does not fit input {name!r} of rank {rank}",
                f"use one of {', '.join(LAYOUTS_BY_RANK[rank])}",
            )
        return layout
    first, last = LAYOUTS_BY_RANK[rank][0], LAYOUTS_BY_RANK[rank][-1]
    few = (1, 2, 3, 4)
    # Only a small last axis beside a larger axis 1 speaks for channels-last; ONNX's own order is channels-first.
    return last if rank >= 4 and dims[-1] in few and dims[1] not in few else first
