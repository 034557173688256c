"""ONNX Runtime sessions, those of models whose weights are set aside among them, and its messages."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
import onnxruntime as ort

from aarewrite.errors import CannotHandle
from aarewrite.model import external
from aarewrite.model.model_file import Model
from aarewrite.model.types import Array, DType

LARGEST_OPTIMISED = 64 * 2**20
LARGEST_INPUT = 2**27  # elements of an input that is made up: 1 GB where it is drawn
NUMPY_KINDS = frozenset(
    ["bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
)
NO_SPINNING = (("session.intra_op.allow_spinning", "0"),)  # for runs that take turns with other work on the cores
NEWEST_HINT = "install a newer onnxruntime or export with a lower opset_version"


class Port(Protocol):
    """An input or output of a session: its name, `tensor(float)` or the like, and its shape, open axes by name."""

    name: str
    type: str
    shape: list[int | str | None]


def dtype_of(port: Port) -> DType | None:
    """numpy's dtype of a tensor's values, None for those it does not have and for anything but a tensor."""
    kind = port.type.removeprefix("tensor(").removesuffix(")")
    name = {"float": "float32", "double": "float64"}.get(kind, kind)
    return np.dtype(name) if name in NUMPY_KINDS else None


class Session(Protocol):
    """What is used of an `onnxruntime.InferenceSession`, which has no type information."""

    def get_inputs(self) -> list[Port]:
        """Its inputs, without initializers."""

    def get_outputs(self) -> list[Port]:
        """Its outputs, in the graph's order."""

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs of these names, or every one, in order."""

    def get_providers(self) -> list[str]:
        """The execution providers that it really has, the first choice first."""

    def end_profiling(self) -> str:
        """Write the profile and return its file."""


def open_session(model: Model, optimise: bool = False) -> Session:
    """A CPU `onnxruntime.InferenceSession`.

    Unoptimised it reads the set-aside weights in place, without a copy; optimised it holds its own, twice where it
    changes their layout. So models with more than `LARGEST_OPTIMISED` bytes of weights are never optimised here.

    Raises:
        CannotHandle: ONNX Runtime refuses the model; the message carries its first line.
    """
    options = _options((("session.disable_prepacking", "1"), *NO_SPINNING))  # one or two runs do not repay packing
    options.enable_cpu_mem_arena = False  # which keeps what a run took for the next one, in every session that is open
    optimise = optimise and sum(map(len, model.weights.values())) <= LARGEST_OPTIMISED
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    proto = deepcopy(model.readable)
    external.read_in(external.nested_tensors(proto), model.folder)  # says what is wrong with it
    _drop_unread_stubs(proto.graph)
    stubs = [tensor for tensor in proto.graph.initializer if external.is_stub(tensor)]
    arrays = [model.array(tensor) for tensor in stubs]
    values = [_value(array, tensor.data_type) for array, tensor in zip(arrays, stubs, strict=True)]
    shared = bool(stubs) and not optimise and not any(map(external.is_external, proto.graph.initializer))
    with tempfile.TemporaryDirectory() if shared else contextlib.nullcontext(model.folder.resolve()) as place:
        folder = Path(place)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        if shared:  # the stubs' file must exist, and is never read
            (folder / external.STUB_LOCATION).touch()
            for tensor, value in zip(stubs, values, strict=True):
                options.add_initializer(tensor.name, value)
        elif stubs:
            options.add_external_initializers([tensor.name for tensor in stubs], values)
        try:
            data = proto.SerializeToString()
            session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=False)
            session.read_in_place = arrays, values  # they must live as long as it does
            found: Session = session
            return found
        except Exception as error:  # ONNX Runtime raises a dozen private types
            logging.getLogger(__name__).debug("session refused", exc_info=True)
            text = first_line(error)
            hint = NEWEST_HINT if re.search(r"opset|ir_version|IR version", text, re.IGNORECASE) else ""
            if "No opset import" in text:
                hint = "name the domain in opset_import; in branches that of ONNX's own operators is ''"
            raise CannotHandle(f"ONNX Runtime refuses the model: {text}", hint) from None


def plain_session(
    model: onnx.ModelProto | Path,
    threads: int = 0,
    entries: Iterable[tuple[str, str]] = NO_SPINNING,
    *,
    providers: Sequence[str | tuple[str, dict[str, str]]] = ("CPUExecutionProvider",),
    profile: Path | None = None,
) -> Session:
    """A quiet, optimised `onnxruntime.InferenceSession` of a complete model.

    Args:
        model: Weights included, or the file that holds it.
        threads: Of one operator; 0: as many as cores.
        entries: Session config entries.
        providers: Execution providers in order of preference, with their options.
        profile: Prefix of an ONNX Runtime profile to write.
    """
    options = _options(entries)
    options.intra_op_num_threads = threads
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    session: Session = ort.InferenceSession(content, options, providers=list(providers), enable_fallback=False)
    return session


def _options(entries: Iterable[tuple[str, str]]) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # warnings would mix with the tool's own lines
    for name, value in entries:
        options.add_session_config_entry(name, value)
    return options


def _drop_unread_stubs(graph: onnx.GraphProto) -> None:
    """Remove what ONNX Runtime drops by itself before it could be given the data."""
    read = {value.name for value in graph.output}
    for node in external.with_bodies(graph.node):
        read.update(node.input, (value.name for body in external.bodies(node) for value in body.output))
    unread = {tensor.name for tensor in graph.initializer if external.is_stub(tensor)} - read
    for tensor in [tensor for tensor in graph.initializer if tensor.name in unread]:
        graph.initializer.remove(tensor)
    for value in [value for value in graph.input if value.name in unread]:
        graph.input.remove(value)


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what C++ libraries print to stdout to stderr: stdout belongs to the tool's result."""
    sys.stdout.flush()
    try:
        saved = os.dup(1)
    except OSError:  # no stdout at all
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def _value(array: Array, kind: int) -> object:
    if array.dtype.isbuiltin == 1:  # a type of numpy's own, not bfloat16 or float8
        return ort.OrtValue.ortvalue_from_numpy(array)
    bits = array.view(np.uint8 if array.itemsize == 1 else np.uint16)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, kind)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without ONNX Runtime's status prefix and source location."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    return re.sub(r"/\S*/onnxruntime/\S+:\d+ \S[^)]*\) ?", "", text)[:300]
