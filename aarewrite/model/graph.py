"""GraphEditor: the one place that changes a graph.

The graph is held as onnx-graphsurgeon objects, which is what the passes read and wire. A GraphSurgeon round trip
loses doc strings, metadata, denotations, quantisation annotations and more, so nothing is exported through it
wholesale: `GraphEditor.export` copies the source proto and replaces only the nodes that were added, changed or
removed. What no edit touched therefore stays equal, byte for byte.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, count

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter
from onnx_graphsurgeon.logger import G_LOGGER

from aarewrite.errors import CannotHandle
from aarewrite.model.constants import Constants, Dims
from aarewrite.model.external import is_external, is_stub
from aarewrite.model.model_file import Model, opset_of
from aarewrite.model.types import Array, Graph, Node, Tensor

G_LOGGER.severity = G_LOGGER.CRITICAL  # it would write to stdout, which belongs to the tool's result
FunctionKey = tuple[str, str, str]  # domain, name and overload
Calls = dict[FunctionKey, list[tuple["Scope", Node]]]
SHAPE_KEEPING = ("Identity", "Cast", "DequantizeLinear", "QuantizeLinear")
NEVER_EDITED = (gs.Graph, gs.Tensor, gs.Node.AttributeRef)  # values of attributes
OLDEST_IR_WITH_FREE_INITIALIZERS = 4  # before it, every initializer must be a graph input as well


@dataclass(eq=False)
class Scope:
    """A list of nodes that sees one set of tensor names: the main graph, a subgraph or a function body."""

    name: str  # "" for the main graph, "If_3/then_branch" for a subgraph, "function Fire" for a function
    graph: Graph  # GraphSurgeon's Graph or Function
    kind: str  # "main", "subgraph" or "function"
    opset: int  # version of the default operator set in force
    owner: tuple[Node, str] | None = None  # the control-flow node and attribute that hold a subgraph
    function: FunctionKey | None = None  # whose body this is
    parent: Scope | None = None  # the scope around a subgraph, whose tensors it sees
    positions: dict[int, int] = field(default_factory=dict)  # id(node) -> its index in the source proto

    @property
    def nodes(self) -> list[Node]:
        """The scope's GraphSurgeon nodes in topological order (the live list)."""
        return self.graph.nodes

    @property
    def root(self) -> Scope:
        """The main graph or function that this scope is in, or is."""
        return self if self.parent is None else self.parent.root

    def is_output(self, tensor: Tensor) -> bool:
        """Whether the tensor is an output of this graph, subgraph or function."""
        return any(tensor is output for output in self.graph.outputs)


class GraphEditor:
    """Reads a model as a graph and applies insertions, changes and removals to it.

    Attributes:
        model: The model to edit; its protos are never changed.
        scopes: The main graph, its subgraphs, then every function with its subgraphs.
        functions: The scope of each function's body.
        subgraphs: (id of the control-flow node, attribute) -> the scope of that body.
        metadata: What `export` adds to the model's metadata.

    Raises:
        CannotHandle: GraphSurgeon cannot represent a construct of the model; the message names it.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        try:
            graph = gs.import_onnx(model.readable)
        except Exception as error:  # GraphSurgeon raises whatever the missing case happens to raise
            raise CannotHandle(
                f"{_unsupported_construct(model.proto)} cannot be represented by onnx-graphsurgeon ({error})",
                "remove it from the model or rewrite before it is added",
            ) from None
        self.scopes = list(_walk(Scope("", graph, "main", opset_of(model.proto.opset_import))))
        for function, proto in zip(graph.functions, model.proto.functions, strict=True):
            version, key = opset_of(proto.opset_import), (proto.domain, proto.name, proto.overload)
            self.scopes += _walk(Scope(f"function {proto.name}", function, "function", version, function=key))
        _number_namesakes(self.scopes)
        self.functions = {scope.function: scope for scope in self.scopes if scope.function}
        self.subgraphs = {(id(s.owner[0]), s.owner[1]): s for s in self.scopes if s.owner is not None}
        self._overloads: dict[int, str] = {}  # id(node) -> which of the functions of its name it calls
        roots = (scope for scope in self.scopes if scope.parent is None)
        for scope, nodes in zip(roots, (model.proto.graph.node, *(f.node for f in model.proto.functions)), strict=True):
            self._read_overloads(scope, nodes)
        self._initializers = {tensor.name: tensor for tensor in model.proto.graph.initializer}
        self._names = set(self._initializers)
        for scope in self.scopes:
            wired = (tensors for node in scope.nodes for tensors in (node.inputs, node.outputs))
            tensors = chain(scope.graph.inputs, scope.graph.outputs, *wired)
            self._names.update((node.name for node in scope.nodes), (tensor.name for tensor in tensors))
        self._keep = [node for scope in self.scopes for node in scope.nodes]  # ids stay valid
        self._touched: set[int] = set()
        self._stale: set[tuple[str, str]] = set()
        self._new_constants: dict[str, onnx.TensorProto] = {}
        self._shared: dict[tuple[str, int, tuple[int, ...], bytes], Tensor] = {}
        self._sizes: dict[str, Sequence[int]] = {}
        self._more_outputs: list[onnx.ValueInfoProto] = []
        self._unread: set[str] = set()
        self.metadata: dict[str, str] = {}

    # ---- reading -------------------------------------------------------------------------------------------

    def constant_value(self, tensor: Tensor) -> Array | None:
        """The value of a tensor that is computed from constants alone, None where it is not one (as of `Constants`)."""
        return self._constants.value(tensor)

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether the tensor's value is fixed in the model file."""
        return self._constants.covers(tensor)

    def constants(self, types: Callable[[Scope, Tensor], tuple[int, Dims | None]]) -> Constants:
        """The constants of the graph as it is now, where element types and sizes of maps are known besides."""
        blocks = [(scope.nodes, scope.opset) for scope in self.scopes]
        return Constants(blocks, self._stored, lambda node, tensor: types(self.home(node), tensor))

    def home(self, node: Node) -> Scope:
        """The scope that a node is in."""
        found = self._homes.get(id(node))
        return found or next(scope for scope in self.scopes if any(one is node for one in scope.nodes))

    def constant_shape(self, tensor: Tensor) -> tuple[int, ...] | None:
        """Shape of a constant tensor without reading its data, None where it is not one."""
        while len(tensor.inputs) == 1 and tensor.inputs[0].op in SHAPE_KEEPING and self.is_constant(tensor):
            tensor = tensor.inputs[0].inputs[0]
        source = self._initializers.get(tensor.name) if isinstance(tensor, gs.Constant) else None
        if source is not None:
            return tuple(source.dims)
        value = self.constant_value(tensor)
        return None if value is None else value.shape

    def called(self, node: Node) -> FunctionKey:
        """The function that a node calls, if it is one of the model's."""
        return node.domain or "", node.op, self._overloads.get(id(node), "")

    def calls(self) -> Calls:
        """The calls of each function, callers in front of what they call; without recursive ones, not valid ONNX."""
        calls: Calls = {key: [] for key in self.functions}
        for scope in self.scopes:
            for node in scope.nodes:
                if (key := self.called(node)) in calls:
                    calls[key].append((scope, node))
        ordered: Calls = {}
        while ready := [key for key in calls if not any(scope.root.function in calls for scope, _ in calls[key])]:
            ordered |= {key: calls.pop(key) for key in ready}
        return ordered

    def _read_overloads(self, scope: Scope, protos: Sequence[onnx.NodeProto]) -> None:
        """GraphSurgeon does not know them."""
        for node, proto in zip(scope.nodes, protos, strict=True):
            if proto.overload:
                self._overloads[id(node)] = proto.overload
            for attribute in proto.attribute:
                if inner := self.subgraphs.get((id(node), attribute.name)):
                    self._read_overloads(inner, attribute.g.node)

    @cached_property
    def _homes(self) -> dict[int, Scope]:
        return {id(node): scope for scope in self.scopes for node in scope.nodes}

    def _is_output(self, tensor: Tensor) -> bool:
        return any(scope.is_output(tensor) for scope in self.scopes)

    @cached_property
    def _constants(self) -> Constants:
        return Constants([(scope.nodes, scope.opset) for scope in self.scopes], self._stored)

    def _stored(self, tensor: gs.Constant) -> Array | None:
        """The value of an initializer or of a Constant node's attribute, None where its data is missing."""
        source = self._initializers.get(tensor.name)
        if source is None or not (is_stub(source) or is_external(source)):
            return _values(tensor)
        with contextlib.suppress(CannotHandle, ValueError):
            return self.model.array(source)
        return None

    # ---- changing ------------------------------------------------------------------------------------------

    def fresh_name(self, wanted: str) -> str:
        """`wanted`, or `wanted_1`, `wanted_2`, ... where the model already uses it."""
        candidates = chain([wanted], (f"{wanted}_{k}" for k in count(1)))
        name = next(candidate for candidate in candidates if candidate not in self._names)
        self._names.add(name)
        return name

    def variable(self, wanted: str) -> Tensor:
        """A new tensor with an unused name."""
        tensor: Tensor = gs.Variable(self.fresh_name(wanted))
        return tensor

    def constant(self, scope: Scope, wanted: str, value: Array, dtype: int) -> Tensor:
        """A constant of ONNX element type `dtype`, shared with every equal one that was added before.

        It becomes an initializer of the main graph; in functions, which have none, and before IR version 4,
        where an initializer would also have to be a graph input, it becomes a Constant node.
        """
        array = np.array(value, onnx.helper.tensor_dtype_to_np_dtype(dtype), order="C")
        as_node = scope.root.kind == "function" or self.model.proto.ir_version < OLDEST_IR_WITH_FREE_INITIALIZERS
        key = (scope.name if as_node else "", dtype, array.shape, array.tobytes())
        if key not in self._shared:
            name = self.fresh_name(wanted)
            if as_node:
                self._shared[key] = gs.Variable(name)
                value = gs.Constant(name, array)
                scope.nodes.insert(0, self.node("Constant", f"{name}/constant", [], [self._shared[key]], value=value))
            else:
                self._new_constants[name] = onnx.numpy_helper.from_array(array, name)
                self._shared[key] = gs.Constant(name, array)
        return self._shared[key]

    def source_proto(self, scope: Scope, node: Node) -> onnx.NodeProto | None:
        """The proto a node was read from, None for a node that was added. Main graph only."""
        position = scope.positions.get(id(node))
        return None if position is None or scope.kind != "main" else self.model.proto.graph.node[position]

    def set_attributes(self, node: Node, **attributes: object) -> None:
        """Set attributes of a node; None removes one."""
        for name, value in attributes.items():
            if value is None:
                node.attrs.pop(name, None)
            else:
                node.attrs[name] = value
        self._touched.add(id(node))

    def set_input(self, node: Node, index: int, tensor: Tensor) -> None:
        """Feed a node's input from another tensor."""
        self.let_go([node.inputs[index]])
        node.inputs[index] = tensor
        self._touched.add(id(node))

    def take_over(self, scope: Scope, tensor: Tensor, suffix: str = "dense") -> Tensor:
        """Detach `tensor` from its producer, which gets a new output; return that new output.

        The tensor keeps its name and consumers and awaits a new producer, so every reader of it, inside
        the model and outside, gets the anti-aliased map under the name it knows.
        """
        producer = tensor.inputs[0]
        replacement = self.variable(f"{tensor.name}/{suffix}")
        producer.outputs[_index(producer.outputs, tensor)] = replacement
        self._touched.add(id(producer))
        return replacement

    def drop_last_input(self, node: Node) -> Tensor:
        """Remove a node's last, optional input and return it."""
        self._touched.add(id(node))
        self.let_go(node.inputs[-1:])
        return node.inputs.pop()

    def drop_outputs(self, node: Node, keep: int) -> None:
        """Remove a node's optional outputs beyond the first `keep`."""
        while len(node.outputs) > keep:
            node.outputs.pop()
        self._touched.add(id(node))

    def let_go(self, tensors: Sequence[Tensor]) -> None:
        """Leave initializers out of the export where nothing reads them any more."""
        self._unread.update(tensor.name for tensor in tensors if isinstance(tensor, gs.Constant))

    def make_write(self, node: Node, tensor: Tensor) -> None:
        """Make a node write `tensor`, whose own producer is gone, in place of its output."""
        node.outputs[0] = tensor
        self._touched.add(id(node))

    def needed_by(self, node: Node, but: Node | None = None) -> list[Node]:
        """A node and those in front of it that nothing else needs, readers first; without `but` and what that needs."""
        doomed, waiting = {id(node): node}, [node]
        while waiting:
            for tensor in waiting.pop().inputs:
                maker = tensor.inputs[0] if tensor.inputs else None
                if maker is None or maker is but or id(maker) in doomed:
                    continue
                read = (reader for output in maker.outputs for reader in output.outputs)
                if not any(map(self._is_output, maker.outputs)) and all(id(reader) in doomed for reader in read):
                    doomed[id(maker)] = maker
                    waiting.append(maker)
        return list(doomed.values())

    def remove_unread(self, tensor: Tensor) -> None:
        """Remove the producer of a tensor that nothing reads any more, with what only that needed."""
        maker = tensor.inputs[0] if tensor.inputs else None
        if maker is not None and not any(output.outputs or self._is_output(output) for output in maker.outputs):
            for node in self.needed_by(maker):
                self.remove(self.home(node), node)

    def insert_after(self, scope: Scope, anchor: Node, nodes: Sequence[Node]) -> None:
        """Insert new nodes directly behind `anchor`."""
        index = _place(scope, anchor) + 1
        scope.nodes[index:index] = nodes

    def insert_before(self, scope: Scope, anchor: Node, nodes: Sequence[Node]) -> None:
        """Insert new nodes directly in front of `anchor`."""
        index = _place(scope, anchor)
        scope.nodes[index:index] = nodes

    def replace(self, scope: Scope, old: Sequence[Node], new: Node, output: Tensor) -> None:
        """Put one new node, which writes `output`, in the place of several; the first of them to go last."""
        self.insert_after(scope, old[0], [new])
        for node in old:
            self.remove(scope, node)
        new.outputs.append(output)

    def remove(self, scope: Scope, node: Node) -> None:
        """Remove a node from its scope and disconnect it; what only it read is left out, too."""
        del scope.nodes[_place(scope, node)]
        self.let_go(node.inputs)
        node.inputs.clear()
        node.outputs.clear()

    def node(self, op: str, wanted: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], **attrs: object) -> Node:
        """A new node with an unused name; insert it with `insert_after` or `insert_before`."""
        node: Node = gs.Node(op, self.fresh_name(wanted), attrs, list(inputs), list(outputs))
        return node

    def copy(self, node: Node, suffix: str, inputs: Sequence[Tensor]) -> Node:
        """A new node that does what `node` does, with new outputs; insert it with `insert_after`."""
        outputs = [self.variable(f"{t.name}/{suffix}") if t.name else gs.Variable.empty() for t in node.outputs]
        name = self.fresh_name(f"{node.name}/{suffix}") if node.name else ""
        copy: Node = gs.Node(node.op, name, dict(node.attrs), list(inputs), outputs, domain=node.domain)
        return copy

    def resize_input(self, tensor: Tensor, sizes: Sequence[int]) -> None:
        """Give an input of the model another size; 0 leaves an axis as it is."""
        self._sizes[tensor.name] = sizes
        self.mark_stale(self.scopes[0], tensor)

    def add_output(self, tensor: Tensor, dtype: int, dims: Sequence[int | str | None]) -> None:
        """Make a tensor of the main graph an output of the model, behind those there are."""
        self.scopes[0].graph.outputs.append(tensor)
        self._more_outputs.append(onnx.helper.make_tensor_value_info(tensor.name, dtype, dims))

    def mark_stale(self, scope: Scope, tensor: Tensor) -> None:
        """Note that the recorded shape of a tensor no longer holds."""
        self._stale.add((scope.name, tensor.name))

    # ---- export --------------------------------------------------------------------------------------------

    def export(self) -> Model:
        """The edited model; untouched nodes, tensors, metadata and their order are those of the source."""
        proto = deepcopy(self.model.proto)
        functions = iter(proto.functions)
        for scope in self.scopes:
            if scope.parent is None:
                self._rebuild(proto.graph if scope.kind == "main" else next(functions), scope)
        proto.graph.initializer.extend(self._new_constants.values())
        self._leave_out_unread(proto.graph)
        proto.graph.output.extend(self._more_outputs)
        for given in proto.graph.input:
            for dim, size in zip(given.type.tensor_type.shape.dim, self._sizes.get(given.name, ()), strict=False):
                if size:
                    dim.dim_value = size
        present = {entry.key: entry for entry in proto.metadata_props}
        for key, value in self.metadata.items():
            (present.get(key) or proto.metadata_props.add(key=key)).value = value
        return self.model.with_proto(proto)

    def _leave_out_unread(self, graph: onnx.GraphProto) -> None:
        """Initializers that were let go, and that no node, output or signature names."""
        if not self._unread:
            return
        wired = (tensor.name for scope in self.scopes for node in scope.nodes for tensor in node.inputs)
        outputs = (tensor.name for scope in self.scopes for tensor in scope.graph.outputs)
        unread = self._unread - {*wired, *outputs, *(value.name for value in graph.input)}
        kept = [tensor for tensor in graph.initializer if tensor.name not in unread]
        del graph.initializer[:]
        graph.initializer.extend(kept)

    def _rebuild(self, proto: onnx.GraphProto | onnx.FunctionProto, scope: Scope) -> None:
        nodes = []
        for node in scope.nodes:
            position = scope.positions.get(id(node))
            if position is None:
                nodes.append(OnnxExporter.export_node(node))
                continue
            source = proto.node[position]
            if id(node) in self._touched:
                _synchronise(source, node)
            for attribute in source.attribute:
                if (id(node), attribute.name) in self.subgraphs:
                    self._rebuild(attribute.g, self.subgraphs[id(node), attribute.name])
            nodes.append(source)
        del proto.node[:]
        proto.node.extend(nodes)
        fresh = [info for info in proto.value_info if (scope.name, info.name) not in self._stale]
        del proto.value_info[:]
        proto.value_info.extend(fresh)


def _number_namesakes(scopes: Sequence[Scope]) -> None:
    """Node names need not be unique: scopes with the name of an earlier one get a number behind it."""
    seen: dict[str, int] = {}
    for scope in scopes:
        seen[scope.name] = seen.get(scope.name, 0) + 1
        if seen[scope.name] > 1:
            scope.name += f"#{seen[scope.name]}"


def _values(constant: gs.Constant) -> Array | None:
    """What a constant holds, None where its data file is missing."""
    return None if constant.data_location == onnx.TensorProto.EXTERNAL else np.asarray(constant.values)


def _walk(scope: Scope) -> Iterator[Scope]:
    scope.positions = {id(node): k for k, node in enumerate(scope.nodes)}
    yield scope
    for node in scope.nodes:
        for name, value in node.attrs.items():
            if isinstance(value, gs.Graph):
                inner = f"{scope.name}/" if scope.name else ""
                label = f"{inner}{node.name or node.outputs[0].name}/{name}"
                yield from _walk(Scope(label, value, "subgraph", scope.opset, (node, name), parent=scope))


def _synchronise(proto: onnx.NodeProto, node: Node) -> None:
    """Carry a node's wiring and changed attributes over to its proto, leaving all else as it was."""
    proto.input[:] = [tensor.name for tensor in node.inputs]
    proto.output[:] = [tensor.name for tensor in node.outputs]
    kept = [attribute for attribute in proto.attribute if _same(attribute, node.attrs.get(attribute.name))]
    names = {attribute.name for attribute in kept}
    changed = [
        onnx.helper.make_attribute(name, value)
        for name, value in node.attrs.items()
        if name not in names and not isinstance(value, NEVER_EDITED)
    ]
    del proto.attribute[:]
    proto.attribute.extend([*kept, *changed])


def _same(attribute: onnx.AttributeProto, value: object) -> bool:
    if value is None or isinstance(value, NEVER_EDITED):
        return value is not None  # removed, or as it was
    current = onnx.helper.get_attribute_value(attribute)
    current = current.decode() if isinstance(current, bytes) else current
    return bool(list(current) == list(value) if isinstance(value, list | tuple) else current == value)


def _place(scope: Scope, node: Node) -> int:
    """Where a node of a scope is now: looked for from where it was read on, for a model may have many."""
    near = min(scope.positions.get(id(node), 0), len(scope.nodes))
    indices = chain(range(near, len(scope.nodes)), range(near - 1, -1, -1))
    return next(k for k in indices if scope.nodes[k] is node)


def _index(items: Sequence[object], wanted: object) -> int:
    return next(k for k, item in enumerate(items) if item is wanted)  # identity: Node equality is structural


def _unsupported_construct(proto: onnx.ModelProto) -> str:
    """Name the part of a model that GraphSurgeon fails to import."""
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        kind = value.type.WhichOneof("value")
        if kind not in (None, "tensor_type"):
            return f"tensor {value.name!r} ({str(kind).removesuffix('_type')} type)"
    for node in proto.graph.node:
        for attribute in node.attribute:
            try:
                attribute.s.decode()
                [text.decode() for text in attribute.strings]
            except UnicodeDecodeError:
                return f"node {node.name or node.output[0]!r}: binary string attribute {attribute.name!r}"
    return "a construct of the model"
