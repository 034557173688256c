"""Reading and writing ONNX models with the weights set aside.

Rewriting a graph never needs the large weights, so they are kept beside a small `skeleton` proto in which each
of them is an external-data stub. Planning, editing, shape inference and checking then cost the same for a
1 MB and a 1 GB model, and every ONNX Runtime session shares one copy of the weights.
"""

from __future__ import annotations

import contextlib
import dataclasses
import filecmp
import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import onnx
from google.protobuf.message import DecodeError, EncodeError

from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model import wire
from aarewrite.model.external import (
    STUB_LOCATION,
    check_locations,
    graphs,
    is_external,
    is_stub,
    nested_tensors,
    read_in,
    with_bodies,
)
from aarewrite.model.external import external_files as external_files
from aarewrite.model.types import DEFAULT_DOMAIN
from aarewrite.outputs import copy, write_bytes

SET_ASIDE_BYTES = 1024  # smaller tensors stay in the skeleton: shapes, pads and taps are read from there
OLDEST_OPSET = 7


@dataclass
class Model:
    """An ONNX model: a skeleton proto and the raw bytes of its large initializers.

    Attributes:
        proto: The model without the data of large initializers of the main graph.
        weights: Initializer name -> `raw_data` of each tensor set aside.
        folder: Where external data files of the original are looked up.
        path: The file it was read from; None for a model given in memory.
        said_default: Those of `weights` whose proto spells out data_location = DEFAULT; it is put back.
    """

    proto: onnx.ModelProto
    weights: dict[str, bytes] = field(default_factory=dict)
    folder: Path = field(default_factory=Path.cwd)
    path: Path | None = None
    said_default: frozenset[str] = frozenset()

    def with_proto(self, proto: onnx.ModelProto) -> Model:
        """The same weights under another skeleton."""
        return dataclasses.replace(self, proto=proto)

    def to_proto(self) -> onnx.ModelProto:
        """The complete ModelProto, weights included (a copy)."""
        return onnx.ModelProto.FromString(b"".join(self.serialised()))

    def self_contained(self) -> onnx.ModelProto:
        """The complete ModelProto with the data of its external files inside, which runs in any folder (a copy).

        Raises:
            CannotHandle: A data file is missing or too short.
        """
        proto = self.to_proto()
        for tensor in (*proto.graph.initializer, *nested_tensors(proto)):
            if is_external(tensor):
                read_in(tensor, self.folder)
        return proto

    @cached_property
    def readable(self) -> onnx.ModelProto:
        """What is to be interpreted or run: the skeleton with the data of its external files inside, but for the main
        graph's initializers, which ONNX Runtime finds, and without sizes that are none. The skeleton itself where it
        has neither; tensors whose file is missing stay as they are."""
        if not any(map(is_external, nested_tensors(self.proto))) and not any(_sizes_that_are_none(self.proto)):
            return self.proto
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        for size in list(_sizes_that_are_none(proto)):
            size.Clear()
        for tensor in nested_tensors(proto):
            if is_external(tensor):
                with contextlib.suppress(CannotHandle):
                    read_in(tensor, self.folder)
        return proto

    def serialised(self) -> Iterator[bytes]:
        """The complete model's bytes in pieces, weights included."""
        return wire.with_weights(self.proto, self._restore)

    def _restore(self, tensor: onnx.TensorProto) -> bytes | None:
        if not is_stub(tensor):
            return None
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        if tensor.name in self.said_default:
            tensor.data_location = onnx.TensorProto.DEFAULT
        return self.weights[tensor.name]


def opset_of(imports: Iterable[onnx.OperatorSetIdProto]) -> int:
    """Version of ONNX's own operator set among `opset_import` entries; 0 where it is not stated."""
    return next((int(entry.version) for entry in imports if entry.domain in DEFAULT_DOMAIN), 0)


def load(source: str | os.PathLike[str] | onnx.ModelProto | Model) -> Model:
    """Read a model from a file, or take one from memory, which is left as it is.

    Raises:
        UsageError: The file does not exist.
        CannotHandle: It is not an ONNX model, or its opset is older than 7.
    """
    if isinstance(source, Model):
        return source
    if isinstance(source, onnx.ModelProto):
        try:
            data = source.SerializeToString()
        except (EncodeError, ValueError):
            raise CannotHandle("the model: larger than protobuf's 2 GB", "save it with external data first") from None
        return _checked(_read(io.BytesIO(data), len(data)), "the model")
    path = Path(source)
    if not path.is_file():
        what = "not a file" if path.exists() else "no such file"
        raise UsageError(f"{path}: {what}", "give the path of an .onnx file")
    try:
        with path.open("rb") as stream:
            model = _read(stream, path.stat().st_size)
    except (DecodeError, wire.WireError, UnicodeDecodeError):
        raise CannotHandle(f"{path}: not a readable ONNX model", "the file may be truncated; export again") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    model.folder, model.path = path.parent, path
    return _checked(model, str(path))


def _read(stream: BinaryIO, size: int) -> Model:
    said_default = set()

    def stub(tensor: onnx.TensorProto, raw: bytes) -> bool:
        if tensor.HasField("data_location") and tensor.data_location == onnx.TensorProto.DEFAULT:
            said_default.add(tensor.name)
        return _mark_as_stub(tensor, raw)

    skeleton, weights = wire.lift_weights(stream, size, SET_ASIDE_BYTES, stub)
    return Model(onnx.ModelProto.FromString(skeleton), weights, said_default=frozenset(said_default))


def _mark_as_stub(tensor: onnx.TensorProto, raw: bytes) -> bool:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return False
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", STUB_LOCATION), ("offset", "0"), ("length", str(len(raw)))):
        tensor.external_data.add(key=key, value=value)
    return True


def _checked(model: Model, name: str) -> Model:
    if not model.proto.graph.node and not model.proto.graph.output:
        raise CannotHandle(f"{name}: holds no graph", "is it an ONNX file?")
    _check_opset(name, model.proto.graph.node, opset_of(model.proto.opset_import))
    for function in model.proto.functions:
        _check_opset(f"{name}: function {function.name}", function.node, opset_of(function.opset_import))
    check_locations(model.proto, model.folder, name)
    return model


def _check_opset(name: str, nodes: Iterable[onnx.NodeProto], version: int) -> None:
    """Refuse an old operator set, and operators of ONNX itself where the set's version, `version`, is not stated."""
    if 0 < version < OLDEST_OPSET:
        raise CannotHandle(
            f"{name}: opset {version} is older than {OLDEST_OPSET}",
            "convert it with onnx.version_converter or export again",
        )
    if version == 0 and any(node.domain in DEFAULT_DOMAIN for node in with_bodies(nodes)):
        raise CannotHandle(
            f"{name}: has operators of ONNX but imports no version of their set",
            "add the opset they were exported with to its opset_import",
        )


def _sizes_that_are_none(proto: onnx.ModelProto) -> Iterator[onnx.TensorShapeProto.Dimension]:
    """Sizes declared as -1 or 0, as Paddle's exporters write what is open: shape inference would calculate with them.
    Initializers have the sizes that they say."""
    infos = [info for function in proto.functions for info in function.value_info]
    for graph in graphs(proto):
        infos += (*graph.input, *graph.output, *graph.value_info)
    for info in infos:
        for size in info.type.tensor_type.shape.dim:
            if size.dim_value <= 0 and size.HasField("dim_value"):
                yield size


def save(model: Model, path: Path) -> None:
    """Write the complete model to `path`, atomically; "-" is stdout.

    External data files of the original are left where they are when `path` is in the same folder, and
    copied beside the new file otherwise.

    Raises:
        UsageError: The folder is missing or not writable, or a different data file is in the way.
    """
    _bring_data_files(model, path)
    write_bytes(path, model.serialised())


def copy_unchanged(model: Model, path: Path) -> None:
    """Write a model that needs no change: a file's bytes as they are, a model from memory as protobuf has it."""
    if model.path is None:
        save(model, path)
        return
    _bring_data_files(model, path)
    copy(model.path, path)


def data_files_to_bring(model: Model, path: Path) -> dict[Path, Path]:
    """The model's external data files, and where each must be copied so that `path` finds it.

    Raises:
        UsageError: One is missing or `path` itself, or a different file is in the way of its copy.
    """
    locations = external_files(model.proto)
    folders = (model.folder, path.parent)
    if os.path.realpath(path) in {os.path.realpath(folder / file) for folder in folders for file in locations}:
        raise UsageError(f"{path}: is the model's own data file", "choose another place")
    if os.path.realpath(path.parent) == os.path.realpath(model.folder):
        return {}
    found = {}
    for location in locations:
        source, target = model.folder / location, path.parent / location
        if not source.is_file():
            raise UsageError(f"{source}: the model's external data file is missing", "put it beside the model")
        if target.exists() and not filecmp.cmp(source, target, shallow=False):
            raise UsageError(f"{target}: another data file is in the way", "choose another folder with -o")
        if not target.exists():
            found[source] = target
    return found


def _bring_data_files(model: Model, path: Path) -> None:
    for source, target in data_files_to_bring(model, path).items():
        target.parent.mkdir(parents=True, exist_ok=True)
        copy(source, target)


def recorded(model: Model, key: str) -> dict[str, Any]:
    """What an earlier run recorded in the model's metadata under `key`; {} for nothing."""
    text = next((entry.value for entry in model.proto.metadata_props if entry.key == key), "{}")
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
