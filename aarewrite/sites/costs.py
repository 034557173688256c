"""What a model costs in one run: multiply-accumulates, bytes of activations moved, weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import onnx

from aarewrite.model.external import tensors
from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.model_file import Model
from aarewrite.model.shapes import Shapes
from aarewrite.model.types import Node, Tensor
from aarewrite.sites.macs import calls_of, model_macs
from aarewrite.sites.regions import POINTWISE, QUANTISATION

VIEWS = frozenset(("Constant", "Dropout", "Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"))
FUSING = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))  # they apply the pointwise operators behind them
KEEPING = VIEWS - {"Constant", "Shape", "Size"} | {"Transpose"}  # as many elements come out as go in
T = onnx.TensorProto
SIZES = frozenset((T.INT64, T.BOOL, T.STRING))  # no maps, no weights


@dataclass(frozen=True)
class Cost:
    """Of a model at batch size 1; None where a size is unknown."""

    macs: int | None = None  # multiply-accumulates
    activation_bytes: int | None = None  # of the maps that operators read and write
    parameters: int | None = None  # elements of its weights


def cost(editor: GraphEditor, shapes: Shapes, model: Model) -> Cost:
    """The cost of a graph and of the model that it makes."""
    return Cost(model_macs(editor, shapes), activation_bytes(editor, shapes), parameters(model))


def activation_bytes(editor: GraphEditor, shapes: Shapes) -> int | None:
    """Bytes of the maps that all operators read and write in one run, a function's as often as it is called. None
    where a map's size is unknown.

    Views move none, nor do what only constants go into, and quantisation. Neither does a pointwise operator that alone
    reads a convolution or matrix product, itself or through others of its kind: runtimes apply it there. Tensors of
    integers of 64 bits are sizes, not maps.
    """
    total = 0
    calls = calls_of(editor)
    for scope in editor.scopes:
        times = calls.get(scope.root.function, 1)
        for node in scope.nodes if times else ():
            if not _moves_nothing(editor, scope, node):
                size = _sum(_size(editor, shapes, scope, tensor) for tensor in (*_read(editor, node), *node.outputs))
                if size is None:
                    return None
                total += times * size
    return total


def parameters(model: Model) -> int:
    """Elements of all weights of a model, each counted once however often it is read."""
    return sum(prod(tensor.dims) for tensor in tensors(model.proto) if tensor.data_type not in SIZES | {T.UNDEFINED})


def _moves_nothing(editor: GraphEditor, scope: Scope, node: Node) -> bool:
    if node.op in VIEWS | QUANTISATION or all(editor.is_constant(tensor) for tensor in node.inputs):
        return True
    if editor.called(node) in editor.functions or list(node.subgraphs()):
        return True  # their nodes are counted
    return _is_fused(editor, scope, node)


def _is_fused(editor: GraphEditor, scope: Scope, node: Node) -> bool:
    maps = _read(editor, node)
    if node.op not in POINTWISE or len(maps) != 1 or len(maps[0].outputs) != 1 or scope.is_output(maps[0]):
        return False
    producer = maps[0].inputs[0] if maps[0].inputs else None
    return producer is not None and (producer.op in FUSING or _is_fused(editor, scope, producer))


def _read(editor: GraphEditor, node: Node) -> list[Tensor]:
    """The maps that go into a node."""
    return [tensor for tensor in node.inputs if tensor.name and not editor.is_constant(tensor)]


def _size(editor: GraphEditor, shapes: Shapes, scope: Scope, tensor: Tensor) -> int | None:
    """Bytes of a map; where its shape is unknown, of what a node that keeps or joins sizes made it of."""
    found = shapes.of(scope, tensor)
    if found.dtype in SIZES or not tensor.name:
        return 0
    sizes = [dim for dim in found.dims or () if isinstance(dim, int)]
    if found.dims is not None and len(sizes) == len(found.dims) and found.dtype:
        return prod(sizes) * int(onnx.helper.tensor_dtype_to_np_dtype(found.dtype).itemsize)
    maker = tensor.inputs[0] if tensor.inputs else None
    maps = _read(editor, maker) if maker else []
    if maker and maker.op in KEEPING:  # its other inputs are sizes
        return _size(editor, shapes, scope, maps[0]) if maps else None
    if maker and (maker.op == "Concat" or (maker.op in POINTWISE and len(maps) == 1)):
        return _sum(_size(editor, shapes, scope, source) for source in maps)
    return None


def _sum(sizes: Iterable[int | None]) -> int | None:
    found = list(sizes)
    return None if None in found else sum(size for size in found if size is not None)
