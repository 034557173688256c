"""Values that are computed from constants alone, evaluated node by node: with onnx's reference implementation, or with
ONNX Runtime where that lacks the operator's version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from aarewrite.model.model_file import Model
from aarewrite.model.runtime import open_session
from aarewrite.model.types import Array, Node, Tensor, in_default_domain, integer

Dims = Sequence[int | str | None]
RANDOM = frozenset((
    "Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
))  # fmt: skip
CONTRACTING = frozenset(
    ("Conv", "Einsum", "Gemm", "MatMul")
)  # evaluated where the product of their inputs' sizes is small
EVALUATED = CONTRACTING | frozenset((
    "Abs", "Acos", "Add", "And", "ArgMax", "ArgMin", "Asin", "Atan", "BitShift", "BlackmanWindow", "Cast", "CastLike",
    "Ceil", "Clip", "Concat", "ConstantOfShape", "Cos", "Cosh", "CumSum", "DequantizeLinear", "Div", "Equal", "Erf",
    "Exp", "Expand", "Flatten", "Floor", "Gather", "Greater", "GreaterOrEqual", "HammingWindow", "HannWindow",
    "HardSigmoid", "Identity", "IsInf", "IsNaN", "Less", "LessOrEqual", "Log", "LogSoftmax", "Max", "Mean", "Min",
    "Mod", "Mul", "Neg", "Not", "OneHot", "Or", "Pad", "Pow", "QuantizeLinear", "Range", "Reciprocal", "ReduceL1",
    "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare", "Relu", "Reshape", "Round", "Shape", "Sigmoid", "Sign", "Sin", "Sinh", "Size", "Slice",
    "Softmax", "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tan", "Tanh", "Tile", "Transpose", "Trilu",
    "Unsqueeze", "Where", "Xor",
))  # fmt: skip
SELECTING = frozenset(("Cast", "Concat", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze"))
LARGEST = 2**22  # elements of a value; what would be larger is not looked at
MOST = 2**27  # elements that are read and made in all
LONGEST = 256  # nodes that one value may need beyond those evaluated before
EVALUATED_IR = 8  # any that ONNX Runtime takes
OPEN = -(2**62) + 1  # stands for a size that is not known, in what Shape gives


class Constants:
    """What nodes make of constants, each computed once, when asked for.

    Args:
        blocks: The nodes of each scope in topological order, outer scopes first, and the version of its operator set.
        stored: The value of an initializer or a Constant node's attribute, None where there is none.
        types: The element type of a map (0 where unknown) and its sizes (None where not even their number is known);
            without it nothing that rests on them is constant.
    """

    def __init__(
        self,
        blocks: Iterable[tuple[Sequence[Node], int]],
        stored: Callable[[gs.Constant], Array | None],
        types: Callable[[Node, Tensor], tuple[int, Dims | None]] | None = None,
    ) -> None:
        self._stored, self._types = stored, types
        self._places: dict[int, tuple[int, int]] = {}  # id(node) -> its place among them, its operator set
        self._values: dict[int, Array | None] = {}  # id(tensor) -> its value
        self._kept: list[object] = []  # so that ids stay valid
        self._left = MOST
        for nodes, opset in blocks:
            for node in nodes:
                if self._fixed(node):
                    self._places[id(node)] = len(self._places), opset
                    self._kept.append(node)

    def covers(self, tensor: Tensor) -> bool:
        """Whether a tensor is an initializer, or computed from constants alone."""
        if isinstance(tensor, gs.Constant):
            return True
        node = tensor.inputs[0] if len(tensor.inputs) == 1 else None
        return node is not None and (node.op == "Constant" or id(node) in self._places)

    def value(self, tensor: Tensor) -> Array | None:
        """The value of a constant tensor, None where it is none, is too large or cannot be evaluated."""
        for node in self.chain(tensor):
            made = self._made(node)
            for output, value in zip(node.outputs, made, strict=False):
                self._values[id(output)] = value
                self._kept.append(output)
        value = self._of(tensor)
        return None if value is None or _open(value) else value

    def chain(self, tensor: Tensor) -> list[Node]:
        """The nodes that make a constant tensor, in graph order, but for those evaluated before; [] where they are too
        many, or it is not constant."""
        members: dict[int, Node] = {}
        waiting = [tensor]
        while waiting:
            current = waiting.pop()
            node = current.inputs[0] if len(current.inputs) == 1 else None
            if node is None or id(node) in members or id(current) in self._values or id(node) not in self._places:
                continue
            members[id(node)] = node
            of_maps = {"Shape": 0, "CastLike": 1} if self._types else {}  # what is read of their values
            waiting += [source for source in node.inputs[: of_maps.get(node.op)] if source.name]
        if len(members) > LONGEST:
            self._values[id(tensor)] = None
            return []
        return sorted(members.values(), key=lambda node: self._places[id(node)])

    def _fixed(self, node: Node) -> bool:
        """Whether a node gives the same whenever it runs, and all that it reads does."""
        values = node.attrs.values()
        if not in_default_domain(node) or node.op in RANDOM or any(isinstance(v, gs.Graph) for v in values):
            return False
        if any(isinstance(value, gs.Node.AttributeRef) for value in values) or not node.outputs:
            return False
        if node.op == "Shape" and self._types is not None:
            return self._types(node, node.inputs[0])[1] is not None
        if node.op == "CastLike" and self._types is not None and len(node.inputs) > 1:
            return self.covers(node.inputs[0]) and self._types(node, node.inputs[1])[0] != 0
        given = [tensor for tensor in node.inputs if tensor.name]
        return node.op == "Constant" or bool(given and all(self.covers(tensor) for tensor in given))

    def _of(self, tensor: Tensor) -> Array | None:
        if isinstance(tensor, gs.Constant):
            return self._stored(tensor)
        if id(tensor) not in self._values and len(tensor.inputs) == 1 and tensor.inputs[0].op == "Constant":
            return self._attribute(tensor.inputs[0])  # one that was added to the graph
        return self._values.get(id(tensor))

    def _attribute(self, node: Node) -> Array | None:
        value = next(iter(node.attrs.values()), None)
        if isinstance(value, gs.Constant) or value is None:
            return None if value is None else self._stored(value)
        array = np.asarray(value)
        return array.astype(np.float32) if array.dtype == np.float64 else array

    def _made(self, node: Node) -> Sequence[Array | None]:
        if node.op == "Constant":
            return [self._attribute(node)]
        if node.op == "CastLike" and self._types is not None:
            given, dtype = self._of(node.inputs[0]), self._types(node, node.inputs[1])[0]
            return [None if given is None else given.astype(onnx.helper.tensor_dtype_to_np_dtype(dtype))]
        if node.op == "Shape" and self._types is not None:
            sizes = [size if isinstance(size, int) else OPEN for size in self._types(node, node.inputs[0])[1] or ()]
            end = integer(node, "end", len(sizes))
            return [np.array(sizes[integer(node, "start") : end], dtype=np.int64)]
        values = {tensor.name: self._of(tensor) for tensor in node.inputs if tensor.name}
        known = {name: value for name, value in values.items() if value is not None}
        if len(known) < len(values) or (node.op not in SELECTING and any(map(_open, known.values()))):
            return [None] * len(node.outputs)
        made = evaluate(node, known, self._places[id(node)][1]) if self._left > 0 else [None] * len(node.outputs)
        self._left -= sum(value.size for value in (*known.values(), *made) if value is not None)
        return made


def evaluate(node: Node, values: Mapping[str, Array], opset: int) -> Sequence[Array | None]:
    """What a node of the default domain makes of the values of its inputs, by name; None where it is none of
    `EVALUATED`, the result would have more than `LARGEST` elements, or the node is not valid."""
    nothing = [None] * len(node.outputs)
    work = prod(value.size for value in values.values()) if node.op in CONTRACTING else 0
    if node.op not in EVALUATED or work > LARGEST:
        return nothing
    try:
        proto = OnnxExporter.export_node(node)
        proto.domain = ""
        if max(value.size for value in values.values()) > LARGEST or _largest(proto, values, opset) > LARGEST:
            return nothing
        made = _run(proto, values, opset)
    except Exception:  # shape inference and the runtimes raise whatever a wrong node makes them
        return nothing
    return [np.asarray(value) if isinstance(value, np.ndarray | np.generic) else None for value in made]


def _run(proto: onnx.NodeProto, values: Mapping[str, Array], opset: int) -> Sequence[object]:
    from onnx.reference import ReferenceEvaluator

    try:
        with np.errstate(all="ignore"):
            return list(ReferenceEvaluator(proto, opsets={"": opset}).run(None, dict(values)))
    except Exception:
        given = [onnx.numpy_helper.from_array(value, name) for name, value in values.items()]
        outputs = [onnx.ValueInfoProto(name=name) for name in proto.output]
        graph = onnx.helper.make_graph([proto], "one", [], outputs, given)
        imports = [onnx.helper.make_opsetid("", opset)]
        model = onnx.helper.make_model(graph, ir_version=EVALUATED_IR, opset_imports=imports)
        return list(open_session(Model(model)).run(None, {}))


def _largest(proto: onnx.NodeProto, values: Mapping[str, Array], opset: int) -> float:
    """The number of elements of a node's largest output, infinity where it is not known beforehand."""
    types, data = {}, {}
    for name, value in values.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        types[name] = onnx.helper.make_tensor_type_proto(kind, value.shape)
        if value.size <= 64:  # sizes and bounds
            data[name] = onnx.numpy_helper.from_array(value, name)
    schema = onnx.defs.get_schema(proto.op_type, opset, "")
    imports = [onnx.helper.make_opsetid("", opset)]
    found = onnx.shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=imports)
    shapes = [found[name].tensor_type for name in proto.output if name]
    if not all(one.HasField("shape") and all(d.HasField("dim_value") for d in one.shape.dim) for one in shapes):
        return float("inf")
    return max(prod(d.dim_value for d in one.shape.dim) for one in shapes)


def _open(value: Array) -> bool:
    return value.dtype == np.int64 and bool((value == OPEN).any())
