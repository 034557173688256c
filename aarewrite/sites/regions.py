"""The pointwise region behind an operator: where its blur belongs.

The blur belongs after the nonlinearity: in front of it, blur-then-subsample of a convolution would only be a
blurred input (Zhang 2019, section 3). A region is every pointwise node that the operator's output flows through
alone: activations in one node or several (SiLU, HardSwish, GELU, Mish), BatchNormalization, constant scales and
shifts, quantisation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.types import MICROSOFT, Node, Tensor, in_default_domain, integer, is_parameter

# The operators that work point by point: stated here once, for regions and for whatever else only needs that.
NONLINEAR = frozenset((
    "Abs", "Celu", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Max", "Min",
    "Mish", "PRelu", "Pow", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh",
    "ThresholdedRelu",
))  # fmt: skip
AFFINE = frozenset(("Add", "BatchNormalization", "Cast", "Div", "Dropout", "Identity", "Mul", "Neg", "Sub", "Sum"))
POINTWISE = NONLINEAR | AFFINE
FLOATS = frozenset((1, 10, 11, 16))  # FLOAT, FLOAT16, DOUBLE, BFLOAT16
QUANTISATION = frozenset(("QuantizeLinear", "DequantizeLinear"))  # of ONNX, and the same of ONNX Runtime


@dataclass(frozen=True)
class Region:
    """The pointwise region behind a tensor."""

    end: Tensor  # the last one that every reader of the operator's result shares, behind the first nonlinearity
    inner: tuple[Tensor, ...]  # those in front of `end`; they become dense maps
    nonlinear: bool  # whether a nonlinearity lies in between
    normalised: bool  # whether a BatchNormalization is the first node behind the operator


def pointwise_region(editor: GraphEditor, scope: Scope, start: Tensor, spatial: int) -> Region:
    """Follow `start`, a map with `spatial` spatial axes, through its pointwise consumers to the last tensor
    that all of its readers share.

    A tensor is a candidate when everything computed from `start` so far flows through it, i.e. when it is the
    only tensor of the region with readers yet to come. The walk stops at the second nonlinearity: what follows
    belongs to the next layer.
    """
    local = {id(node) for node in scope.nodes}
    readers = [node for node in start.outputs if id(node) in local]
    normalised = len(readers) == 1 and readers[0].op == "BatchNormalization"
    waiting = {start.name: _reader_count(scope, start)}  # region tensors -> readers not yet in the region
    dense: list[Tensor] = []
    best, best_inner, crossed, segment_nonlinear = start, 0, False, False
    for node in _in_order(editor, scope, local, start, spatial):
        for tensor in node.inputs:
            if tensor.name in waiting:
                waiting[tensor.name] -= 1
        waiting = {name: count for name, count in waiting.items() if count}
        output = node.outputs[0]
        itself = node.op in ("Mul", "Div") and not any(editor.is_constant(tensor) for tensor in node.inputs)
        segment_nonlinear |= node.op in NONLINEAR or itself
        dense.append(output)
        waiting[output.name] = _reader_count(scope, output)
        if set(waiting) != {output.name}:
            continue
        if segment_nonlinear and crossed:
            break
        crossed |= segment_nonlinear
        segment_nonlinear = False
        if node.op == "DequantizeLinear":
            continue  # stay in the quantised domain: a blur must not leave a float island
        best, best_inner = output, len(dense) - 1
    inner = (start, *dense[:best_inner]) if best is not start else ()
    return Region(best, inner, crossed, normalised)


def _in_order(editor: GraphEditor, scope: Scope, local: set[int], start: Tensor, spatial: int) -> Iterator[Node]:
    """The region's nodes in topological order; `local`, those of the scope, loses them."""
    inside, tensors = {id(start)}, [start]
    while True:
        readers = (reader for tensor in tensors for reader in tensor.outputs if id(reader) in local)
        node = next((reader for reader in readers if _pointwise(editor, scope, reader, inside, spatial)), None)
        if node is None:
            return
        local.remove(id(node))
        inside.add(id(node.outputs[0]))
        tensors.append(node.outputs[0])
        yield node


def _pointwise(editor: GraphEditor, scope: Scope, node: Node, inside: set[int], spatial: int) -> bool:
    """Whether a node maps region tensors point by point, every other operand being a per-channel constant."""
    known = node.op in POINTWISE and in_default_domain(node)
    known |= node.op in QUANTISATION and (in_default_domain(node) or node.domain == MICROSOFT)
    dropping = node.op == "Dropout" and len(node.inputs) > 2 and bool(node.inputs[2].name)
    training = dropping or is_parameter(node, "training_mode") or integer(node, "training_mode") != 0
    if not known or training or any(output.outputs or scope.is_output(output) for output in node.outputs[1:]):
        return False
    if node.op == "Cast" and integer(node, "to") not in FLOATS:
        return False
    data = [tensor for tensor in node.inputs if id(tensor) in inside]
    others = [tensor for tensor in node.inputs if tensor.name and id(tensor) not in inside]
    if not data or not all(editor.is_constant(tensor) for tensor in others):
        return False
    if node.op in QUANTISATION:
        return all(prod(editor.constant_shape(tensor) or ()) == 1 for tensor in others)
    if node.op == "BatchNormalization":
        return len(data) == 1
    return all(_per_channel(editor, tensor, spatial) for tensor in others)


def _per_channel(editor: GraphEditor, tensor: Tensor, spatial: int) -> bool:
    """Whether a constant is the same at every position and for every sample: it then fits a larger map too."""
    shape = editor.constant_shape(tensor)
    if shape is None or len(shape) > spatial + 2:
        return False
    aligned = (1,) * (spatial + 2 - len(shape)) + shape
    return aligned[0] == 1 and all(size == 1 for size in aligned[2:])


def _reader_count(scope: Scope, tensor: Tensor) -> int:
    """Number of readers; a graph output has one more, outside the model."""
    return len(tensor.outputs) + (1 if scope.is_output(tensor) else 0)
