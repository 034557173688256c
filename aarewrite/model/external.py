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
    yield from chain.from_iterable(map(bodies, nodes(proto)))


def nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of a model: of the main graph, of functions, and of bodies."""
    return with_bodies(chain(proto.graph.node, *(function.node for function in proto.functions)))


def with_bodies(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes and those in the bodies of each If, Loop or Scan."""
    for node in nodes:
        yield node
        for graph in bodies(node):
            yield from with_bodies(graph.node)


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The bodies of an If, Loop or Scan, and what else an attribute gives as a graph."""
    for attribute in node.attribute:
        if attribute.type not in PLAIN:  # most are plain: nothing further is looked at
            yield from (attribute.g, *attribute.graphs)


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's data is in a file beside the model."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL and not is_stub(tensor)


def is_stub(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's data is among the weights set aside."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL and _entry(tensor, "location") == STUB_LOCATION


def _entry(tensor: onnx.TensorProto, key: str, default: str = "") -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == key), default)


def external_files(proto: onnx.ModelProto) -> list[str]:
    """Locations of the data files that the model's external tensors refer to."""
    return sorted(_first_users(proto))


def _first_users(proto: onnx.ModelProto) -> dict[str, str]:
    """Location of each data file -> the first tensor that refers to it."""
    found: dict[str, str] = {}
    for tensor in filter(is_external, tensors(proto)):
        found.setdefault(_entry(tensor, "location"), tensor.name)
    return found


def check_locations(proto: onnx.ModelProto, folder: Path, name: str) -> None:
    """Refuse, by a `CannotHandle` that names the tensor, locations that are missing, absolute or lead out of the
    model's folder."""
    for location, tensor in _first_users(proto).items():
        parts = PurePosixPath(location.replace("\\", "/"))
        escapes = parts.is_absolute() or ".." in parts.parts or ":" in "".join(parts.parts[:1])
        no_name = not location or "\0" in location  # of any file
        if no_name or escapes or not (folder / location).resolve().is_relative_to(folder.resolve()):
            what = "no name of a file" if no_name else "outside the model's folder"
            why = f"its data file {location!r} is {what}" if location else "names no data file"
            raise CannotHandle(
                f"{name}: tensor {tensor!r}: {why}",
                "put the data beside the model and save it with a relative location",
            )


def read_in(tensors: Iterable[onnx.TensorProto], folder: Path) -> None:
    """Put the data of those tensors that are external into the tensors themselves; a `CannotHandle` names a file that
    is missing or too short, and the tensor."""
    for tensor in filter(is_external, tensors):
        path = folder / _entry(tensor, "location")
        try:
            offset, length = int(_entry(tensor, "offset", "0")), int(_entry(tensor, "length", "-1"))
            with path.open("rb") as stream:
                stream.seek(offset)
                data = stream.read(length)
            if len(data) < length:
                raise ValueError(f"it ends after {offset + len(data)} bytes")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise CannotHandle(
                f"{path}: the data of tensor {tensor.name!r}: {why}", "put it beside the model"
            ) from None
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.raw_data = data
