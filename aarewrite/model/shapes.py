"""Element types and shapes of every tensor, in subgraphs and functions too, by shape inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import onnx

from aarewrite.errors import UsageError
from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.inference import infer
from aarewrite.model.model_file import Model
from aarewrite.model.types import Tensor

Dim = int | str | None


@dataclass(frozen=True)
class TensorType:
    """Element type (an `onnx.TensorProto` enum, 0 where unknown) and dimensions (None where unknown)."""

    dtype: int
    dims: tuple[Dim, ...] | None

    def dim(self, axis: int) -> int | None:
        """The size of an axis where it is static, else None."""
        size = self.dims[axis] if self.dims is not None and axis < len(self.dims) else None
        return size if isinstance(size, int) else None


UNKNOWN = TensorType(0, None)


class Shapes:
    """Types of the tensors of an edited graph, as they were when this object was made.

    Args:
        editor: The graph.
        sizes: Input name -> shape, where the user states sizes the model leaves open.
        exported: The model that the graph makes now, where it was edited since it was read.

    Raises:
        UsageError: `sizes` names no input of the model or contradicts its shape.
    """

    def __init__(
        self,
        editor: GraphEditor,
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        exported: Model | None = None,
    ) -> None:
        proto = with_input_shapes(exported or editor.model, input_shapes or {})
        self._types: dict[tuple[str, str], TensorType] = {}
        self._read(infer(proto), editor.scopes, editor.scopes[0])
        self._infer_functions(editor, proto)

    def of(self, scope: Scope, tensor: Tensor) -> TensorType:
        """The type of a tensor as seen from a scope; unknown parts are 0 and None."""
        found = self._types.get((scope.name, tensor.name))
        if found is None:
            return UNKNOWN if scope.parent is None else self.of(scope.parent, tensor)
        return found

    def spatial(self, scope: Scope, tensor: Tensor, rank: int | None = None) -> tuple[int | None, ...]:
        """Spatial sizes of a map (all axes but batch and channels), None per axis where symbolic; `rank` is the
        number of spatial axes, where the operator tells."""
        found = self.of(scope, tensor)
        if found.dims is None or (rank is not None and len(found.dims) != rank + 2):
            return (None,) * (rank or 0)
        return tuple(found.dim(axis) for axis in range(2, len(found.dims)))

    def _read(self, inferred: onnx.ModelProto, scopes: Sequence[Scope], root: Scope) -> None:
        """Take the types of `root` and its subgraphs from a model that has its nodes as the main graph."""
        for scope in scopes:
            graph = _locate(inferred, scope) if scope.root is root else None
            if graph is None:
                continue
            for info in (*graph.value_info, *graph.input, *graph.output):
                if info.type.WhichOneof("value") == "tensor_type":
                    self._types[scope.name, info.name] = _tensor_type(info.type.tensor_type)
            for tensor in graph.initializer:
                self._types[scope.name, tensor.name] = TensorType(tensor.data_type, tuple(tensor.dims))

    def _infer_functions(self, editor: GraphEditor, proto: onnx.ModelProto) -> None:
        """Infer each function's body with the argument types on which all of its calls agree."""
        protos = {(f.domain, f.name, f.overload): f for f in proto.functions}
        for key, calls in editor.calls().items():
            arguments = [
                _agreed([self.of(scope, node.inputs[k]) for scope, node in calls if k < len(node.inputs)])
                for k in range(len(protos[key].input))
            ]
            self._read(infer(_as_model(proto, protos[key], arguments)), editor.scopes, editor.functions[key])


def with_input_shapes(model: Model, shapes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """A copy of the skeleton whose graph inputs have the given shapes; the skeleton itself if there are none."""
    if not shapes:
        return model.readable
    proto = deepcopy(model.readable)
    inputs = {value.name: value for value in proto.graph.input}
    for name, shape in shapes.items():
        if name not in inputs:
            raise UsageError(f"--input {name}: the model has no such input", f"it has {', '.join(inputs)}")
        declared = inputs[name].type.tensor_type
        if declared.HasField("shape"):
            dims = [dim.dim_value if dim.dim_value > 0 else None for dim in declared.shape.dim]
            if len(dims) != len(shape) or any(d not in (None, s) for d, s in zip(dims, shape, strict=True)):
                text = "x".join(str(d or "?") for d in dims)
                raise UsageError(f"--input {name}: {'x'.join(map(str, shape))} contradicts {text}")
        del declared.shape.dim[:]
        declared.shape.dim.extend(onnx.TensorShapeProto.Dimension(dim_value=size) for size in shape)
    return proto


def _tensor_type(proto: onnx.TypeProto.Tensor) -> TensorType:
    if not proto.HasField("shape"):
        return TensorType(proto.elem_type, None)
    dims = tuple(dim.dim_value if dim.dim_value > 0 else dim.dim_param or None for dim in proto.shape.dim)
    return TensorType(proto.elem_type, dims)


def _locate(proto: onnx.ModelProto, scope: Scope) -> onnx.GraphProto | None:
    """The GraphProto of a scope inside a (shape-inferred) model with the same node order."""
    if scope.parent is None or scope.owner is None:
        return proto.graph
    around = _locate(proto, scope.parent)
    node, name = scope.owner
    position = next(k for k, other in enumerate(scope.parent.nodes) if other is node)
    if around is None or position >= len(around.node):
        return None
    return next((a.g for a in around.node[position].attribute if a.name == name), None)


def _agreed(types: list[TensorType]) -> TensorType:
    """What all calls of a function agree on for one argument."""
    dtypes = {t.dtype for t in types}
    dtype = dtypes.pop() if len(dtypes) == 1 else 0
    shapes = [t.dims for t in types if t.dims is not None]
    if len(shapes) < len(types) or len({len(dims) for dims in shapes}) != 1:
        return TensorType(dtype, None)
    return TensorType(dtype, tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True)))


def _as_model(model: onnx.ModelProto, function: onnx.FunctionProto, arguments: list[TensorType]) -> onnx.ModelProto:
    proto = onnx.ModelProto(ir_version=model.ir_version)
    proto.opset_import.extend(function.opset_import or model.opset_import)
    proto.functions.extend(model.functions)
    proto.graph.name = function.name
    proto.graph.node.extend(function.node)
    for name, argument in zip(function.input, arguments, strict=True):
        known = onnx.helper.make_tensor_value_info(name, argument.dtype, argument.dims)
        proto.graph.input.append(known if argument.dtype else onnx.ValueInfoProto(name=name))
    return proto
