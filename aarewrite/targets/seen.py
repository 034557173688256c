"""A node as a runtime's importer sees it: its version, attributes, types, sizes and constant inputs."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import onnx
import onnx.inliner

from aarewrite.model.external import bodies
from aarewrite.model.inference import infer
from aarewrite.model.shapes import Dim
from aarewrite.model.soundness import unwritable
from aarewrite.model.types import DEFAULT_DOMAIN, Array

NOT_STORED = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)


class Lack(NamedTuple):
    """Why a runtime does not take a node, and what to do about it."""

    reason: str
    next_step: str
    of_model: bool = False  # it holds for every node alike


@dataclass(frozen=True)
class Seen:
    """A node with what is known of its inputs. A type is "" and sizes are None where unknown."""

    node: onnx.NodeProto
    opset: int  # of the node's domain; 0 where the model does not import it
    types: Mapping[str, onnx.TypeProto.Tensor]  # of the tensors by name
    constants: Mapping[str, onnx.TensorProto]

    @property
    def op(self) -> str:
        """The operator."""
        return self.node.op_type

    @property
    def domain(self) -> str:
        """The operator's domain, "" for ONNX's own."""
        return "" if self.node.domain in DEFAULT_DOMAIN else self.node.domain

    @property
    def name(self) -> str:
        """The node's name, or its first output's where it has none."""
        return self.node.name or next(iter(self.node.output), "")

    @property
    def schema(self) -> onnx.defs.OpSchema | None:
        """The operator as ONNX defines it at the model's opset; None for a custom one."""
        return as_defined(self.op, self.opset, self.domain)

    @property
    def version(self) -> int:
        """The opset in which this version of the operator came; 0 for one that ONNX does not define."""
        return self.schema.since_version if self.schema else 0

    def has(self, place: int) -> bool:
        """Whether an input is given."""
        return place < len(self.node.input) and bool(self.node.input[place])

    def type(self, place: int) -> str:
        """An input's element type as ONNX calls it, for example float16."""
        found = self.types.get(self.node.input[place]) if self.has(place) else None
        return onnx.TensorProto.DataType.Name(found.elem_type).lower() if found and found.elem_type else ""

    def dims(self, place: int) -> tuple[Dim, ...] | None:
        """An input's shape."""
        found = self.types.get(self.node.input[place]) if self.has(place) else None
        if found is None or not found.HasField("shape"):
            return None
        return tuple(dim.dim_value if dim.dim_value > 0 else dim.dim_param or None for dim in found.shape.dim)

    def is_constant(self, place: int) -> bool:
        """Whether an input is an initializer or a Constant."""
        return self.has(place) and self.node.input[place] in self.constants

    def value(self, place: int) -> Array | None:
        """A constant input's value; None where it is none, or is not stored in the model itself."""
        tensor = self.constants.get(self.node.input[place]) if self.has(place) else None
        if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        return onnx.numpy_helper.to_array(tensor)

    def ints(self, name: str, default: Iterable[int] = ()) -> tuple[int, ...]:
        """An attribute as integers."""
        return next((tuple(a.ints) for a in self.node.attribute if a.name == name), tuple(default))

    def integer(self, name: str, default: int = 0) -> int:
        """An attribute as an integer."""
        return next((int(a.i) for a in self.node.attribute if a.name == name), default)

    def text(self, name: str, default: str = "") -> str:
        """An attribute as text."""
        return next((a.s.decode() for a in self.node.attribute if a.name == name), default)


def as_defined(op: str, opset: int, domain: str) -> onnx.defs.OpSchema | None:
    """An operator as ONNX defines it at an opset; None for one that it does not define."""
    try:
        return onnx.defs.get_schema(op, opset, domain)
    except onnx.defs.SchemaError:
        return None


def expands(node: Seen) -> bool:
    """Whether ONNX defines the node by simpler ones, by which ONNX Runtime replaces it where it has no kernel."""
    # onnx's stubs leave both out
    return any(getattr(node.schema, name, False) for name in ("has_function", "has_context_dependent_function"))


def seen_nodes(model: onnx.ModelProto) -> Iterator[Seen]:
    """Every node that a runtime is left with: those of bodies and of functions' calls too, without what is computed
    from constants alone, which importers fold. They leave weights quantised."""
    whole = _settled(model)
    opsets = {"" if entry.domain in DEFAULT_DOMAIN else entry.domain: entry.version for entry in whole.opset_import}
    yield from _of_graph(whole.graph, opsets, {}, {})


def _settled(model: onnx.ModelProto) -> onnx.ModelProto:
    """With its functions written out and types inferred; where functions cannot be written out, which no runtime takes
    and onnx may crash at, as it is."""
    if any(unwritable(model.functions)):
        return model
    return infer(onnx.inliner.inline_local_functions(model) if model.functions else model)


def _of_graph(
    graph: onnx.GraphProto,
    opsets: Mapping[str, int],
    types: Mapping[str, onnx.TypeProto.Tensor],
    constants: Mapping[str, onnx.TensorProto],
) -> Iterator[Seen]:
    own = {value.name: value.type.tensor_type for value in (*graph.input, *graph.value_info, *graph.output)}
    for tensor in graph.initializer:
        own[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims).tensor_type
    fixed = {tensor.name: tensor for tensor in graph.initializer} | _constants(graph.node)
    yield from _of_nodes(graph.node, opsets, ChainMap(own, dict(types)), ChainMap(fixed, dict(constants)))


def _of_nodes(
    nodes: Iterable[onnx.NodeProto],
    opsets: Mapping[str, int],
    types: Mapping[str, onnx.TypeProto.Tensor],
    constants: Mapping[str, onnx.TensorProto],
) -> Iterator[Seen]:
    known = dict(constants)
    for proto in nodes:
        node = Seen(proto, opsets.get("" if proto.domain in DEFAULT_DOMAIN else proto.domain, 0), types, known)
        inner = [graph for graph in bodies(proto) if graph.node]
        fixed = not inner and _is_constant(node)
        if not fixed or node.op == "DequantizeLinear":
            yield node
        known |= dict.fromkeys(proto.output, NOT_STORED) if fixed else {}
        for graph in inner:
            yield from _of_graph(graph, opsets, types, known)


def _is_constant(node: Seen) -> bool:
    """Whether what a node computes is the same for every input of the model."""
    if node.op == "Shape" and all(isinstance(d, int) for d in node.dims(0) or (None,)):
        return True
    read = node.node.input[: 1 if node.op == "CastLike" else None]  # of the other input, it reads the type
    return bool(read) and all(name in node.constants or not name for name in read)


def _constants(nodes: Iterable[onnx.NodeProto]) -> dict[str, onnx.TensorProto]:
    """The values of Constant nodes; those that are no dense tensor are an empty one, of which nothing is stored."""
    return {
        node.output[0]: next((a.t for a in node.attribute if a.name == "value"), NOT_STORED)
        for node in nodes
        if node.op_type == "Constant" and node.domain in DEFAULT_DOMAIN
    }
