"""Reading and writing ONNX models with the weights set aside.

Rewriting a graph never needs the large weights, so they are kept beside a small `skeleton` proto in which each
of them is an external-data stub. Planning, editing, shape inference and checking then cost the same for a
1 MB and a 1 GB model, and every ONNX Runtime session shares one copy of the weights.
"""

from __future__ import annotations

import contextlib
import dataclasses
import filecmp
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError

from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model import external, wire
from aarewrite.model.external import external_files as external_files
from aarewrite.model.soundness import check_sound
from aarewrite.model.types import DEFAULT_DOMAIN, Array
from aarewrite.outputs import copy, write_bytes

SET_ASIDE_BYTES = 1024  # smaller tensors stay in the skeleton: shapes, pads and taps are read from there
KINDS = onnx.TensorProto
SET_ASIDE_KINDS = frozenset(  # whole bytes an element, and ONNX Runtime takes such arrays: not complex, not 2 to 6 bits
    (
        KINDS.FLOAT, KINDS.DOUBLE, KINDS.FLOAT16, KINDS.BFLOAT16, KINDS.BOOL, KINDS.INT8, KINDS.INT16, KINDS.INT32,
        KINDS.INT64, KINDS.UINT8, KINDS.UINT16, KINDS.UINT32, KINDS.UINT64, KINDS.FLOAT8E4M3FN, KINDS.FLOAT8E4M3FNUZ,
        KINDS.FLOAT8E5M2, KINDS.FLOAT8E5M2FNUZ,
    )
)  # fmt: skip
OLDEST_OPSET = 7
LARGEST_FILE = 2**31 - 1  # bytes that protobuf reads
PAGE = 4096  # bytes: where data begins on a page, it can be mapped into memory


@dataclass
class Model:
    """An ONNX model: a skeleton proto and the raw bytes of its large initializers."""

    proto: onnx.ModelProto  # without the data of large initializers of the main graph
    weights: dict[str, bytes] = field(default_factory=dict)  # initializer name -> `raw_data` of each set aside
    folder: Path = field(default_factory=Path.cwd)  # where external data files of the original are looked up
    path: Path | None = None  # the file it was read from; None for a model given in memory
    said_default: frozenset[str] = frozenset()  # of `weights`: the proto spells out data_location = DEFAULT

    def with_proto(self, proto: onnx.ModelProto) -> Model:
        """The same weights under another skeleton."""
        return dataclasses.replace(self, proto=proto)

    def to_proto(self) -> onnx.ModelProto:
        """The complete ModelProto, weights included (a copy)."""
        return onnx.ModelProto.FromString(b"".join(self.serialised()))

    def self_contained(self) -> onnx.ModelProto:
        """The complete ModelProto with the data of its external files inside, which runs in any folder (a copy).
        Errors as of `read_in`."""
        proto = self.to_proto()
        external.read_in((*proto.graph.initializer, *external.nested_tensors(proto)), self.folder)
        return proto

    def array(self, tensor: onnx.TensorProto) -> Array:
        """The value of one of its tensors, wherever the data is. Errors as of `read_in`."""
        if external.is_stub(tensor):
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            return np.frombuffer(self.weights[tensor.name], dtype).reshape(tuple(tensor.dims))
        if external.is_external(tensor):
            tensor = deepcopy(tensor)
            external.read_in([tensor], self.folder)
        return np.asarray(onnx.numpy_helper.to_array(tensor))

    @cached_property
    def readable(self) -> onnx.ModelProto:
        """What is to be interpreted or run: the skeleton with the data of its external files inside, but for the main
        graph's initializers, which ONNX Runtime finds, and without sizes that are none. The skeleton itself where it
        has neither; tensors whose file is missing stay as they are."""
        outside = any(map(external.is_external, external.nested_tensors(self.proto)))
        if not outside and not any(_sizes_that_are_none(self.proto)):
            return self.proto
        proto = deepcopy(self.proto)
        for size in list(_sizes_that_are_none(proto)):
            size.Clear()
        for tensor in external.nested_tensors(proto):
            with contextlib.suppress(CannotHandle):
                external.read_in([tensor], self.folder)
        return proto

    def serialised(self) -> list[bytes]:
        """The complete model's bytes in pieces, weights included."""
        return wire.with_weights(self.proto, self._restore)

    def _restore(self, tensor: onnx.TensorProto) -> bytes | None:
        if not external.is_stub(tensor):
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
        model.folder, model.path = path.parent, path
        return _checked(model, str(path))
    except (DecodeError, wire.WireError, UnicodeDecodeError):
        raise CannotHandle(f"{path}: not a readable ONNX model", "the file may be truncated; export again") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _read(stream: BinaryIO, size: int) -> Model:
    said_default = set()

    def stub(tensor: onnx.TensorProto, raw: bytes) -> bool:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.data_type not in SET_ASIDE_KINDS:
            return False
        if tensor.HasField("data_location"):
            said_default.add(tensor.name)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", external.STUB_LOCATION), ("offset", "0"), ("length", str(len(raw)))):
            tensor.external_data.add(key=key, value=value)
        return True

    skeleton, weights = wire.lift_weights(stream, size, SET_ASIDE_BYTES, stub)
    return Model(onnx.ModelProto.FromString(skeleton), weights, said_default=frozenset(said_default))


def _checked(model: Model, name: str) -> Model:
    proto = model.proto
    if not proto.graph.node and not proto.graph.output:
        raise CannotHandle(f"{name}: holds no graph", "is it an ONNX file?")
    parts = [(name, proto.graph.node, proto.opset_import)]
    parts += [(f"{name}: function {f.name}", f.node, f.opset_import) for f in proto.functions]
    for owner, nodes, imports in parts:
        version = opset_of(imports)
        if 0 < version < OLDEST_OPSET:
            raise CannotHandle(
                f"{owner}: opset {version} is older than {OLDEST_OPSET}",
                "convert it with onnx.version_converter or export again",
            )
        if version == 0 and any(node.domain in DEFAULT_DOMAIN for node in external.with_bodies(nodes)):
            raise CannotHandle(
                f"{owner}: has operators of ONNX but imports no version of their set",
                "add the opset they were exported with to its opset_import",
            )
    external.check_locations(proto, model.folder, name)
    check_sound(proto, name)
    return model


def _sizes_that_are_none(proto: onnx.ModelProto) -> Iterator[onnx.TensorShapeProto.Dimension]:
    """Sizes declared as -1 or 0, as Paddle's exporters write what is open: shape inference would calculate with them.
    Initializers have the sizes that they say."""
    infos = [info for function in proto.functions for info in function.value_info]
    for graph in external.graphs(proto):
        infos += (*graph.input, *graph.output, *graph.value_info)
    sizes = (size for info in infos for size in info.type.tensor_type.shape.dim)
    return (size for size in sizes if size.dim_value <= 0 and size.HasField("dim_value"))


def save(model: Model, path: Path, unchanged: bool = False, outside: bool = False) -> None:
    """Write the complete model to `path`, atomically; "-" is stdout. Where it is `unchanged`, its file as it is.

    External data files of the original are left where they are when `path` is in the same folder, and
    copied beside the new file otherwise. With `outside`, large weights go to a data file of their own beside it, named
    after what it holds: an earlier output keeps its own.

    Raises:
        UsageError: As of `data_files_to_bring` and `write_bytes`; or the file would have more than protobuf's 2 GB.
    """
    for source, target in data_files_to_bring(model, path).items():
        target.parent.mkdir(parents=True, exist_ok=True)
        copy(source, target)
    if outside and model.weights:
        model, name, pieces = _outside(model, path.name)
        if not (path.parent / name).exists():
            write_bytes(path.parent / name, pieces)
        unchanged = False
    if unchanged and model.path is not None:
        copy(model.path, path)
    else:
        pieces = model.serialised()
        if sum(map(len, pieces)) > LARGEST_FILE:
            raise UsageError(f"{path}: more than the 2 GB that protobuf takes", "add --external-data")
        write_bytes(path, pieces)


def _outside(model: Model, name: str) -> tuple[Model, str, list[bytes]]:
    """The model with the weights set aside in a data file, that file's name, and its bytes in pieces."""
    proto, pieces, offset = deepcopy(model.proto), list[bytes](), 0
    digest = hashlib.sha256()
    stubs = [tensor for tensor in proto.graph.initializer if external.is_stub(tensor)]
    for tensor in stubs:
        data = model.weights[tensor.name]
        pieces += [bytes(-offset % PAGE), data]
        offset += -offset % PAGE
        digest.update(data)
        entries = {"offset": str(offset), "length": str(len(data))}
        for entry in tensor.external_data:
            entry.value = entries.get(entry.key, entry.value)
        offset += len(data)
    name = f"{name}.{digest.hexdigest()[:12]}.data"
    for tensor in stubs:
        next(entry for entry in tensor.external_data if entry.key == "location").value = name
    return Model(proto, folder=model.folder, path=model.path), name, pieces


def copy_unchanged(model: Model, path: Path) -> None:
    """Write a model that needs no change: a file's bytes as they are, a model from memory as protobuf has it."""
    save(model, path, unchanged=True)


def data_files_to_bring(model: Model, path: Path) -> dict[Path, Path]:
    """The model's external data files, and where each must be copied so that `path` finds it; a `UsageError` says
    that one is missing or `path` itself, or what is in the way of its copy."""
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


def recorded(model: Model, key: str) -> dict[str, object]:
    """What an earlier run recorded in the model's metadata under `key`; {} for nothing."""
    return dict(_parsed(next((entry.value for entry in model.proto.metadata_props if entry.key == key), "{}")))


@lru_cache(maxsize=8)  # sites ask for the same record one after another
def _parsed(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
