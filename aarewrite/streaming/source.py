"""A model laid open for streaming: functions inlined, sizes of its inputs settled, every tensor's shape, and what of
it is constant.

A Shape of a tensor that a piece of the window takes the place of would say the piece's size. So each is replaced: by a
constant where its sizes are known, otherwise by one in which the open batch size is read off an input. A CastLike,
which reads no more than a type, becomes a Cast.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cached_property

import numpy as np
import onnx
import onnx.inliner

from aarewrite.errors import CannotHandle
from aarewrite.model.external import bodies, with_bodies
from aarewrite.model.index import consumed
from aarewrite.model.inference import infer
from aarewrite.model.model_file import Model, opset_of
from aarewrite.model.runtime import first_line, open_session
from aarewrite.model.shapes import UNKNOWN, Dim, TensorType, with_input_shapes
from aarewrite.model.types import DEFAULT_DOMAIN, Array
from aarewrite.rewriting.randomness import draws

LARGEST_VALUE = 1 << 16  # elements of a constant that is worked out to be looked at
SIZES_LOST = ("Flatten", "Reshape", "Resize", "Upsample")
INT64 = onnx.TensorProto.INT64
BATCH = "batch"  # the name of an open first axis that has none
SIZES = "/sizes"  # ends the names of what reads an input's shape


class Source:
    """What is read of a model before it is streamed; nothing here changes it.

    Args:
        model: The model; a batch size that it leaves open stays open.
        shapes: Input name -> shape, where the model leaves one open; its batch size is then settled too.

    Raises:
        UsageError: `shapes` names no input of the model or contradicts its shape.
        CannotHandle: Its functions cannot be inlined.
    """

    def __init__(self, model: Model, shapes: Mapping[str, Sequence[int]]) -> None:
        proto = deepcopy(with_input_shapes(model, shapes))
        if proto.functions:
            try:
                proto = onnx.inliner.inline_local_functions(proto)
            except Exception as error:  # the C++ side raises RuntimeError and others
                raise CannotHandle(f"its functions cannot be inlined: {first_line(error)}") from None
        held = {tensor.name for tensor in proto.graph.initializer}
        self.inputs = [value for value in proto.graph.input if value.name not in held]
        for value in self.inputs:
            dims = value.type.tensor_type.shape.dim
            if dims and not dims[0].dim_value and not dims[0].dim_param:
                dims[0].dim_param = BATCH
        _forget_open_sizes(proto.graph, all_of_them=bool(shapes))
        self.opset = opset_of(proto.opset_import)
        own = {value.name: value.type.tensor_type.shape.dim for value in model.proto.graph.input}
        self.axis_names = {value.name: [dim.dim_param for dim in own[value.name]] for value in self.inputs}
        self.model = model.with_proto(proto)
        self._values: dict[str, Array | None] = {}
        self._sizes: set[str] = set()  # shapes of inputs, of which nothing but an open size is read
        self.types = _types(_inferred(proto))
        while self._settle_sizes() or self._fold():
            self.types = _types(_inferred(proto))
        self.constant = self._constant()

    @property
    def proto(self) -> onnx.ModelProto:
        """The model without functions, its shapes settled."""
        return self.model.proto

    @property
    def nodes(self) -> Sequence[onnx.NodeProto]:
        """The main graph's nodes, in order."""
        return self.proto.graph.node

    @property
    def outputs(self) -> list[str]:
        """Names of the model's outputs."""
        return [value.name for value in self.proto.graph.output]

    def dims(self, name: str) -> tuple[Dim, ...] | None:
        """The shape of a tensor, None where its rank is not known."""
        return self.types.get(name, UNKNOWN).dims

    @cached_property
    def readers(self) -> dict[str, list[onnx.NodeProto]]:
        """Tensor -> the nodes that read it, in bodies too."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in consumed(node):
                found.setdefault(name, []).append(node)
        return found

    def _constant(self) -> frozenset[str]:
        """Tensors that do not depend on any input's values."""
        found = {tensor.name for tensor in self.proto.graph.initializer}
        found |= {tensor.values.name for tensor in self.proto.graph.sparse_initializer}
        for node in self.nodes:
            fixed = consumed(node) <= found or node.output[0] in self._sizes
            if fixed and not any(map(draws, with_bodies([node]))):
                found.update(node.output)
        return frozenset(found - {""})

    def _settle_sizes(self) -> bool:
        """Replace the Shape and Size nodes of the main graph whose sizes are known but for an input's open axis;
        returns whether there were any."""
        where = {
            dim.dim_param: (value.name, axis)
            for value in self.inputs
            for axis, dim in enumerate(value.type.tensor_type.shape.dim)
            if dim.dim_param
        }
        nodes = list(self.nodes)
        shapes = {
            node.output[0]: self.dims(node.input[0]) or ()
            for node in nodes
            if node.op_type == "Shape" and not node.attribute
        }
        for node in nodes:
            picked = self._picked(node, shapes)
            if picked is not None:
                node.CopyFrom(_constant_node(node.output[0], node.name, picked))
        del self.proto.graph.node[:]
        for node in nodes:
            self.proto.graph.node.extend([node] if node.output[0] in self._sizes else _settled(node, self.types, where))
        own = {name for node in nodes for name in node.output}
        fresh = {name for node in self.nodes for name in node.output if name.endswith(SIZES)} - own
        self._sizes |= fresh
        return [node.op_type for node in nodes] != [node.op_type for node in self.nodes]

    def _picked(self, node: onnx.NodeProto, shapes: Mapping[str, tuple[Dim, ...]]) -> Array | None:
        """What a Gather takes out of a shape, where it takes known sizes alone."""
        sizes = shapes.get(node.input[0], ()) if node.op_type == "Gather" else ()
        places = self._value(node.input[1]) if sizes else None
        if places is None:
            return None
        found = [sizes[int(place)] for place in places.reshape(-1)]
        known = [size for size in found if isinstance(size, int)]
        return np.reshape(np.array(known, np.int64), places.shape) if len(known) == len(found) else None

    def _fold(self) -> bool:
        """Replace whole numbers that are worked out from constants: what reads them, pads say, decides on shapes;
        returns whether there were any."""
        constant, folded = self._constant(), False
        read = {name for node in self.nodes if not set(node.output) <= constant for name in consumed(node)}
        for node in self.nodes:
            name = node.output[0]
            if (
                node.op_type == "Constant"
                or name not in read & constant
                or self.types.get(name, UNKNOWN).dtype != INT64
            ):
                continue
            value = self._value(name)
            if value is not None:
                node.CopyFrom(_constant_node(name, node.name, value))
                folded = True
        return folded

    def value(self, name: str) -> Array | None:
        """What a small constant holds; None for what is none, is large, or depends on an open size."""
        if name not in self._values:
            self._values[name] = self._value(name) if name in self.constant else None
        return self._values[name]

    def _value(self, name: str) -> Array | None:
        graph = self.proto.graph
        held = {tensor.name: tensor for tensor in graph.initializer}
        dims = self.dims(name)
        if dims is not None and any(isinstance(d, int) and d > LARGEST_VALUE for d in dims):
            return None
        if name in held:
            return self.model.array(held[name])
        wanted, nodes = {name}, list[onnx.NodeProto]()
        for node in reversed(self.nodes):
            if wanted & set(node.output):
                nodes.insert(0, node)
                wanted |= consumed(node)
        if any(value.name in wanted for value in self.inputs):
            return None
        proto = onnx.ModelProto(ir_version=self.proto.ir_version, opset_import=self.proto.opset_import)
        proto.graph.name = "value"
        proto.graph.node.extend(nodes)
        proto.graph.initializer.extend(tensor for key, tensor in held.items() if key in wanted)
        proto.graph.input.extend(value for value in graph.input if value.name in wanted)
        proto.graph.output.append(onnx.ValueInfoProto(name=name))
        try:
            return np.asarray(open_session(self.model.with_proto(proto)).run(None, {})[0])
        except Exception:  # what ONNX Runtime cannot work out alone stays unknown
            return None


def _inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with shapes. onnx gives no name to the open size behind a Reshape to -1 or a Resize; where all others
    are known, it is the one in front."""
    known: set[str] = set()
    named = {dim.dim_param for value in proto.graph.input for dim in value.type.tensor_type.shape.dim}
    while True:
        found = infer(proto)
        types = _types(found)
        fresh = []
        for node in found.graph.node:
            if node.op_type not in SIZES_LOST or node.domain not in DEFAULT_DOMAIN:
                continue
            before, behind = (types.get(name, UNKNOWN) for name in (node.input[0], node.output[0]))
            open_size = _same_open_size(before.dims, behind.dims, node.op_type in ("Resize", "Upsample"))
            if open_size in named and node.output[0] not in known:
                dims = [size if isinstance(size, int) else open_size for size in behind.dims or ()]
                fresh.append(onnx.helper.make_tensor_value_info(node.output[0], before.dtype, dims))
        if not fresh:
            return found
        known |= {value.name for value in fresh}
        outputs = {value.name: value for value in proto.graph.output}
        for value in fresh:
            if value.name in outputs:
                outputs[value.name].CopyFrom(value)
        proto.graph.value_info.extend(value for value in fresh if value.name not in outputs)


def _same_open_size(before: tuple[Dim, ...] | None, behind: tuple[Dim, ...] | None, resized: bool) -> str | None:
    """The open size in front of a Reshape, where that behind it must be the same; that of a Resize is the batch's."""
    own = [d for d in before or () if not isinstance(d, int)]
    new = [d for d in behind or () if not isinstance(d, int)]
    if len(own) != 1 or len(new) != 1 or own[0] is None or own == new:
        return None
    if resized:
        return own[0] if (before or ())[0] == own[0] and (behind or ())[0] == new[0] else None
    volumes = [np.prod([d for d in dims or () if isinstance(d, int)], dtype=np.int64) for dims in (before, behind)]
    return own[0] if volumes[0] == volumes[1] else None


def _types(proto: onnx.ModelProto) -> dict[str, TensorType]:
    found = {tensor.name: TensorType(tensor.data_type, tuple(tensor.dims)) for tensor in proto.graph.initializer}
    for value in (*proto.graph.input, *proto.graph.value_info, *proto.graph.output):
        kind = value.type.tensor_type
        if value.type.WhichOneof("value") == "tensor_type":
            dims = tuple(dim.dim_value if dim.dim_value > 0 else dim.dim_param or None for dim in kind.shape.dim)
            found[value.name] = TensorType(kind.elem_type, dims if kind.HasField("shape") else None)
    return found


def _forget_open_sizes(graph: onnx.GraphProto, all_of_them: bool) -> None:
    """Sizes stated by name, or for other input sizes, would contradict what the inputs now have."""
    for value in graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if all_of_them or not dim.dim_value:
                dim.Clear()
    stated = [
        value
        for value in graph.value_info
        if not all_of_them and all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim)
    ]
    del graph.value_info[:]
    graph.value_info.extend(stated)


def _settled(
    node: onnx.NodeProto, types: Mapping[str, TensorType], where: Mapping[str, tuple[str, int]]
) -> Iterator[onnx.NodeProto]:
    if node.op_type == "CastLike" and (kind := types.get(node.input[1], UNKNOWN).dtype):
        yield onnx.helper.make_node("Cast", [node.input[0]], list(node.output), name=node.name, to=kind)
        return
    asks = node.op_type in ("Shape", "Size") and node.domain in DEFAULT_DOMAIN
    dims = types.get(node.input[0], UNKNOWN).dims if asks else None
    if dims is None or any(d is None or (isinstance(d, str) and d not in where) for d in dims):
        yield node
        return
    given = {a.name: a.i for a in node.attribute}
    dims = dims[slice(given.get("start"), given.get("end"))] if node.op_type == "Shape" else dims
    sizes = [d for d in dims if isinstance(d, int)]
    output = node.output[0]
    if len(sizes) == len(dims):
        value = np.array(sizes, np.int64) if node.op_type == "Shape" else np.array(np.prod(sizes, dtype=np.int64))
        yield _constant_node(output, node.name, value)
        return
    if node.op_type == "Size":
        yield node
        return
    parts = []
    for k, dim in enumerate(dims):
        parts.append(f"{output}/size{k}")
        if isinstance(dim, int):
            yield _constant_node(parts[-1], parts[-1], np.array([dim], np.int64))
            continue
        name, axis = where[str(dim)]
        sizes_of, index = parts[-1] + SIZES, f"{parts[-1]}/axis"
        yield onnx.helper.make_node("Shape", [name], [sizes_of], name=sizes_of)
        yield _constant_node(index, index, np.array([axis], np.int64))
        yield onnx.helper.make_node("Gather", [sizes_of, index], parts[-1:], name=parts[-1], axis=0)
    yield onnx.helper.make_node("Concat", parts, [output], name=node.name, axis=0)


def _constant_node(output: str, name: str, value: Array) -> onnx.NodeProto:
    return onnx.helper.make_node("Constant", [], [output], name=name, value=onnx.numpy_helper.from_array(value, output))


def captures(node: onnx.NodeProto) -> set[str]:
    """What a node's bodies read from outside."""
    return consumed(node) - set(node.input) if any(True for _ in bodies(node)) else set()
