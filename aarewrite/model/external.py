"""External data: tensors whose values lie in files beside the model.

Every tensor of the file counts: initializers of the main graph and of If, Loop and Scan bodies, attributes (of
Constant nodes, say), both halves of sparse tensors, functions and training graphs. ONNX Runtime looks for the data of
the main graph's initializers where it is told to, and for all other relative to the current folder; so whatever runs
or interprets a model gets the others read in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path, PurePosixPath

import onnx

from aarewrite.errors import CannotHandle

STUB_LOCATION = "aarewrite-weights-set-aside"
KINDS = onnx.AttributeProto
PLAIN = frozenset((KINDS.FLOAT, KINDS.INT, KINDS.STRING, KINDS.FLOATS, KINDS.INTS, KINDS.STRINGS))


def tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model file."""
    yield from proto.graph.initializer
    yield from nested_tensors(proto)
    for training in proto.training_info:
        for graph in (training.initialization, training.algorithm):
            yield from graph.initializer
            yield from nested_tensors(onnx.ModelProto(graph=graph))


def nested_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that takes part in a run, without the main graph's dense initializers."""
    sparse: list[onnx.SparseTensorProto] = []
    for place, graph in enumerate(graphs(proto)):
        sparse += graph.sparse_initializer
        if place > 0:
            yield from graph.initializer
    held = chain(*(node.attribute for node in nodes(proto)), *(one.attribute_proto for one in proto.functions))
    for attribute in held:
        if attribute.type not in PLAIN:
            yield from (attribute.t, *attribute.tensors)
            sparse += (attribute.sparse_tensor, *attribute.sparse_tensors)
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)


def graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and every body of an If, Loop or Scan, those in functions included."""
    yield proto.graph
    for node in nodes(proto):
        yield from _bodies(node)


def nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of a model: of the main graph, of functions, and of bodies."""
    return with_bodies(chain(proto.graph.node, *(function.node for function in proto.functions)))


def with_bodies(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes and those in the bodies of each If, Loop or Scan."""
    for node in nodes:
        yield node
        for graph in _bodies(node):
            yield from with_bodies(graph.node)


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type not in PLAIN:  # most are plain: nothing further is looked at
            yield from (attribute.g, *attribute.graphs)


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's data is in a file beside the model."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL and location_of(tensor) != STUB_LOCATION


def is_stub(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's data is among the weights set aside."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL and location_of(tensor) == STUB_LOCATION


def location_of(tensor: onnx.TensorProto) -> str:
    """The file that holds the tensor's data, relative to the model's folder."""
    return _entries(tensor).get("location", "")


def _entries(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def external_files(proto: onnx.ModelProto) -> list[str]:
    """Locations of the data files that the model's external tensors refer to."""
    return sorted({location_of(tensor) for tensor in tensors(proto) if is_external(tensor)})


def check_locations(proto: onnx.ModelProto, folder: Path, name: str) -> None:
    """Refuse data files outside the model's folder.

    Raises:
        CannotHandle: A location is missing, absolute, or leads out of the folder; the message names the tensor.
    """
    inside: dict[str, str] = {"": "names no data file"}
    for tensor in tensors(proto):
        if is_external(tensor):
            location = location_of(tensor)
            if location not in inside:
                parts = PurePosixPath(location.replace("\\", "/"))
                escapes = parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]
                escapes = escapes or not (folder / location).resolve().is_relative_to(folder.resolve())
                inside[location] = f"its data file {location!r} is outside the model's folder" if escapes else ""
            if inside[location]:
                raise CannotHandle(
                    f"{name}: tensor {tensor.name!r}: {inside[location]}",
                    "put the data beside the model and save it with a relative location",
                )


def read_in(tensor: onnx.TensorProto, folder: Path) -> None:
    """Put an external tensor's data into the tensor itself.

    Raises:
        CannotHandle: The file is missing, or too short; the message names it and the tensor.
    """
    entries = _entries(tensor)
    path = folder / entries.get("location", "")
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
        with path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(length)
        if len(data) < length:
            raise ValueError(f"it ends after {offset + len(data)} bytes")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise CannotHandle(f"{path}: the data of tensor {tensor.name!r}: {why}", "put it beside the model") from None
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    tensor.raw_data = data
