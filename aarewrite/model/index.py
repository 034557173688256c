"""Models as protos laid open for reading: constants, who reads what, and graphs with concrete sizes and shapes."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import onnx
import onnx.inliner
import onnx.numpy_helper

from aarewrite.errors import CannotHandle
from aarewrite.model.external import bodies
from aarewrite.model.inference import infer
from aarewrite.model.model_file import load
from aarewrite.model.runner import InputSpec, Model
from aarewrite.model.runtime import first_line
from aarewrite.model.types import DEFAULT_DOMAIN, Array

Attributes = dict[str, Any]


def label(node: onnx.NodeProto) -> str:
    """The node's name, or its first output's where it has none."""
    return node.name or node.output[0]


def attributes(node: onnx.NodeProto) -> Attributes:
    """The node's attributes as Python values."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def consumed(node: onnx.NodeProto) -> set[str]:
    """Every tensor a node reads, those its If/Loop/Scan bodies capture from outside included."""
    names = set(node.input)
    for body in bodies(node):
        inner = {value.name for value in body.output}.union(*map(consumed, body.node))
        made = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
        names |= inner.difference(made, *(child.output for child in body.node))
    return names - {""}


def only_reader(model: onnx.ModelProto, name: str) -> onnx.NodeProto | None:
    """The one node that reads tensor `name`; None when there are several or it is an output."""
    if any(value.name == name for value in model.graph.output):
        return None
    found = [node for node in model.graph.node if name in consumed(node)]
    return found[0] if len(found) == 1 else None


def ancestors(model: onnx.ModelProto, names: Sequence[str]) -> set[int]:
    """Indices of the nodes that the tensors `names` depend on."""
    missing = set(names)
    found: set[int] = set()
    for index, node in reversed(list(enumerate(model.graph.node))):
        if missing & set(node.output):
            found.add(index)
            missing |= consumed(node)
    return found


class Constants:
    """The constants of a model: initializers, Constant nodes, and Identity of either."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self._makers = {
            name: node
            for node in model.graph.node
            if node.op_type in ("Constant", "Identity") and node.domain in DEFAULT_DOMAIN
            for name in node.output
        }

    def source(self, name: str) -> str | None:
        """The constant behind `name`, through Identity nodes; None when it is computed."""
        while name not in self._initializers:
            maker = self._makers.get(name)
            if maker is None:
                return None
            if maker.op_type == "Constant":
                return name if any(a.name == "value" for a in maker.attribute) else None
            name = maker.input[0]
        return name

    def tensor(self, name: str) -> onnx.TensorProto:
        """The tensor that holds constant `name` (as `source` gives it); changing it changes the model."""
        if name in self._initializers:
            return self._initializers[name]
        return next(a.t for a in self._makers[name].attribute if a.name == "value")

    def array(self, name: str) -> Array:
        """The value of constant `name` (as `source` gives it)."""
        return onnx.numpy_helper.to_array(self.tensor(name))


@dataclass(frozen=True)
class OpenGraph:
    """A private copy of a model with concrete sizes; reading only."""

    proto: onnx.ModelProto  # functions inlined, shapes inferred as far as they can be
    size: tuple[int, ...]  # spatial size of the input
    inputs: tuple[InputSpec, ...] = ()  # those that carry what is shifted

    @cached_property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shape of every tensor that shape inference reached."""
        graph = self.proto.graph
        found: dict[str, tuple[int | None, ...]] = {value.name: tuple(value.dims) for value in graph.initializer}
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                found[value.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)
        return found

    @cached_property
    def producers(self) -> dict[str, onnx.NodeProto]:
        """The node that writes a tensor, by its name."""
        return {name: node for node in self.proto.graph.node for name in node.output}

    @cached_property
    def _constants(self) -> Constants:
        return Constants(self.proto)

    def constant(self, tensor: str) -> Array | None:
        """Value of a constant as `Constants` knows them, None for anything computed."""
        source = self._constants.source(tensor)
        return None if source is None else self._constants.array(source)

    def spatial(self, tensor: str) -> tuple[int, ...] | None:
        """Spatial extents of a channels-first tensor, None when unknown or of another rank."""
        shape = self.shapes.get(tensor, ())
        extents = tuple(extent for extent in shape[2:] if extent)
        return extents if len(shape) - 2 == len(extents) == len(self.size) else None


def open_graph(model: Model, size: Sequence[int], batch: int = 1, weights: bool = True) -> OpenGraph:
    """Copy a model's graph, give its inputs concrete sizes and infer shapes; a `CannotHandle` where it is too large or
    not sound enough for that. Without `weights` it holds none, and does not run."""
    try:
        source = model.source
        if weights:
            proto = deepcopy(source) if isinstance(source, onnx.ModelProto) else onnx.load(source)
        else:
            proto = deepcopy(load(source).readable)
        if proto.functions:
            proto = onnx.inliner.inline_local_functions(proto)
        specs = {spec.name: spec for spec in model.image_inputs}
        for value in proto.graph.input:
            if spec := specs.get(value.name):
                dims = value.type.tensor_type.shape.dim
                dims[0].dim_value = spec.batch or batch
                for axis, extent in zip(spec.axes, size, strict=True):
                    dims[axis].dim_value = extent
        del proto.graph.value_info[:]  # shapes stated for another size would contradict
        for value in proto.graph.output:
            for dim in value.type.tensor_type.shape.dim:
                if dim.HasField("dim_param") or dim.dim_value <= 0:
                    dim.Clear()
        return OpenGraph(infer(proto), tuple(size), model.image_inputs)
    except Exception as error:  # protobuf, checker and inference errors share no base
        raise CannotHandle(
            f"{model.label}: its graph cannot be read: {first_line(error)}", "run onnx.checker on the model"
        ) from None
