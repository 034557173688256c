"""The layers of a model pair: what is repaired, where its weights are, what surrounds it.

A layer is a Conv, Gemm or MatMul that exists in both models and reads, in the rewritten one, something that a blur
has changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from aarewrite.calibration.equations import F64
from aarewrite.model.external import bodies, with_bodies
from aarewrite.model.index import Constants, ancestors, attributes, consumed, label, only_reader

KINDS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class LayerRepair:
    """What was done to one layer.

    Errors are mean squared ones relative to the variance of the layer's target: 0.1 means that a tenth of what
    the layer tells apart is lost.
    """

    name: str  # its node's, or its first output's
    kind: str  # Conv, Gemm or MatMul
    before: float = 0.0  # error with the given weights, on samples that were not fitted to
    after: float = 0.0  # the same with the repaired weights
    own_before: float = 0.0  # error on all calibration samples, with the given weights as stored
    own_after: float = 0.0  # the same with the repaired weights
    alpha: float = math.inf  # regularisation chosen for it; infinity when it was left alone
    reason: str = ""  # why it was left alone; empty when it was repaired

    @property
    def repaired(self) -> bool:
        """Whether its weights changed."""
        return not self.reason


@dataclass(frozen=True)
class Layer:
    """A layer that can be repaired."""

    name: str  # as in `LayerRepair`
    kind: str
    index: int  # its node's place in the rewritten model
    original_index: int  # and in the original
    input: str  # the tensor it reads in the rewritten model
    target: str  # the tensor it makes in the original model
    weight: str  # name of the constant that holds the weights
    bias: str  # name of the constant that holds the bias; empty when there is none
    # Places of the nodes that read the bias, or could: the layer itself or the Add behind a MatMul, then their
    # copies for further views; empty when there is none
    bias_nodes: tuple[int, ...]
    group: int = 1  # groups of a Conv, else 1
    # The other operand of the Add that the output goes to, in the rewritten model; empty when there is none that is
    # known by the time this layer is repaired
    addend: str = ""
    total: str = ""  # the result of that Add in the original model
    scale: F64 | None = None  # of the BatchNormalization right behind the layer, per output; None: there is none
    shift: F64 | None = None
    low: float = -math.inf  # below it, the activation behind the layer (or behind the sum) tells no values apart
    high: float = math.inf  # nor above this

    @property
    def reads(self) -> list[str]:
        """The tensors of the rewritten model that its repair needs."""
        return [name for name in (self.input, self.addend) if name]

    @property
    def aim(self) -> str:
        """The tensor of the original model that its output, or the sum with it, is fitted to."""
        return self.total or self.target


def find_layers(
    original: onnx.ModelProto, rewritten: onnx.ModelProto, residual: bool = True
) -> tuple[list[Layer], list[LayerRepair]]:
    """The layers behind a blur, in topological order, and those that cannot be repaired.

    `residual`: whether the last layer of a residual block is fitted to the block's sum.
    """
    constants = Constants(rewritten)
    twins, copies = _twins(original, rewritten)
    copied = {place for places in copies.values() for place in places}
    users: dict[str | None, list[str]] = {}  # of each constant, what reads it
    for index, node in enumerate(rewritten.graph.node):
        if node.op_type != "Identity" and index not in copied:
            for name in consumed(node):
                users.setdefault(constants.source(name), []).append(label(node))
    changed: set[str] = set()  # tensors whose values the rewrite may have changed
    layers: list[Layer] = []
    left: list[LayerRepair] = []
    for index, node in enumerate(rewritten.graph.node):
        twin = original.graph.node[twins[index]] if index in twins else None
        if node.op_type in KINDS and twin is not None and twin.op_type == node.op_type and node.input[0] in changed:
            others = [user for user in users.get(constants.source(node.input[1]), []) if user != label(node)]
            found = _layer(rewritten, index, twins[index], twin.output[0], constants, others, copies.get(index, ()))
            if isinstance(found, str):
                left.append(LayerRepair(label(node), node.op_type, reason=found))
            else:
                layers.append(found)
        behind = not consumed(node).isdisjoint(changed)
        for inner in with_bodies(child for body in bodies(node) for child in body.node):
            if behind and inner.op_type in KINDS:
                left.append(LayerRepair(label(inner), inner.op_type, reason="it is inside an If, Loop or Scan body"))
        if twin is None or behind or list(node.input) != list(twin.input) or attributes(node) != attributes(twin):
            changed |= set(node.output)
    return [_with_surroundings(layer, layers, original, rewritten, residual) for layer in layers], left


def _twins(original: onnx.ModelProto, rewritten: onnx.ModelProto) -> tuple[dict[int, int], dict[int, list[int]]]:
    """The places of the rewritten model's nodes in the original; and the copies of layers for further views, which
    read the weights of the first and are repaired with it: their places by that of the layer.

    Nodes are known by their labels, an unnamed layer whose output took another name still by its weights.
    """
    before: dict[str, int] = {}
    for index, node in enumerate(original.graph.node):
        for key in _keys(node):
            before.setdefault(key, index)
    twins: dict[int, int] = {}
    firsts: dict[int, int] = {}
    copies: dict[int, list[int]] = {}
    for index, node in enumerate(rewritten.graph.node):
        twin = next((before[key] for key in _keys(node) if key in before), None)
        if twin is None:
            continue
        first = firsts.setdefault(twin, index) if node.op_type in KINDS else index
        if first != index and label(node) not in before:
            copies.setdefault(first, []).append(index)
        else:
            twins[index] = twin
    return twins, copies


def _keys(node: onnx.NodeProto) -> list[str]:
    return [label(node), *(f"weight {name}" for name in node.input[1:2] if node.op_type in KINDS)]


def _layer(
    model: onnx.ModelProto,
    index: int,
    original_index: int,
    target: str,
    constants: Constants,
    others: Sequence[str],
    copies: Sequence[int],
) -> Layer | str:
    """The layer at a place of the rewritten model, whose copies are at these, or why it cannot be repaired.

    `others`: what else reads its weights.
    """
    node = model.graph.node[index]
    weight, values = constants.source(node.input[1]), attributes(node)
    if weight is None:
        return "its weights are computed in the graph"
    tensor = constants.tensor(weight)
    if tensor.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE):
        return f"its weights are {onnx.TensorProto.DataType.Name(tensor.data_type)}"
    if others:
        return f"its weights are shared with {others[0]}"
    if node.op_type == "Gemm" and values.get("transA", 0):
        return "transA=1"
    if node.op_type == "MatMul" and len(tensor.dims) != 2:
        return "its weights are not a matrix"
    outputs = tensor.dims[0] if node.op_type == "Conv" or values.get("transB", 0) else tensor.dims[1]
    bias, bias_nodes = "", (index, *copies)
    if node.op_type == "MatMul":
        # A MatMul has no bias of its own: the Add behind it has.
        adds = [only_reader(model, model.graph.node[place].output[0]) for place in bias_nodes]
        bias_nodes = ()
        if adds[0] is not None and adds[0].op_type == "Add":
            other = constants.source(_other(adds[0], node.output[0]))
            if other is not None and _is_vector(constants.tensor(other), outputs):
                bias, bias_nodes = other, tuple(_place(model, add) for add in adds if add is not None)
    elif len(node.input) > 2 and node.input[2]:
        source = constants.source(node.input[2])
        if source is None or not _is_vector(constants.tensor(source), outputs):
            return "its bias is no constant with one value per output"
        bias = source
    group, kind = int(values.get("group", 1)), node.op_type
    return Layer(label(node), kind, index, original_index, node.input[0], target, weight, bias, bias_nodes, group)


def _other(add: onnx.NodeProto, operand: str) -> str:
    return add.input[1] if add.input[0] == operand else add.input[0]


def _place(model: onnx.ModelProto, node: onnx.NodeProto) -> int:
    """The node's index: outputs are unique, so they tell equal nodes apart."""
    return next(i for i, one in enumerate(model.graph.node) if one.output[0] == node.output[0])


def _is_vector(tensor: onnx.TensorProto, length: int) -> bool:
    """Whether the tensor is one value per output, along the last axis."""
    return list(tensor.dims)[-1:] == [length] and int(np.prod(tensor.dims)) == length


def _with_surroundings(
    layer: Layer, layers: Sequence[Layer], original: onnx.ModelProto, rewritten: onnx.ModelProto, residual: bool
) -> Layer:
    """The layer with what follows it: its normalisation, its residual sum, its activation.

    The sum counts only for the last of its operands to be repaired: by then the other one is final.
    """
    known = Constants(original)
    output, target = rewritten.graph.node[layer.index].output[0], layer.target
    norm, add = only_reader(original, target), only_reader(rewritten, output)
    if layer.kind == "Conv" and norm is not None and norm.op_type == "BatchNormalization":
        affine = _affine(norm, known)
        if affine is None or add is None:
            return layer
        layer = replace(layer, scale=affine[0], shift=affine[1])
        output, target = add.output[0], norm.output[0]
        add = only_reader(rewritten, output)
    sums = [one for one in (add, only_reader(original, target)) if one is not None and one.op_type == "Add"]
    if residual and layer.kind == "Conv" and len(sums) == 2:
        other, twin = _other(sums[0], output), _other(sums[1], target)
        behind = ancestors(rewritten, [other])
        later = any(one.index in behind for one in layers if one.index >= layer.index)
        if other != output and known.source(twin) is None and not later:
            target = sums[1].output[0]
            layer = replace(layer, addend=other, total=target)
    low, high = _interval(only_reader(original, target), known)
    return replace(layer, low=low, high=high)


def _affine(norm: onnx.NodeProto, known: Constants) -> tuple[F64, F64] | None:
    """Scale and shift of a BatchNormalization with constant statistics."""
    sources = [source for name in norm.input[1:5] if (source := known.source(name)) is not None]
    if len(sources) < 4 or len(norm.output) != 1:
        return None
    gain, bias, mean, variance = (known.array(source).astype(np.float64) for source in sources)
    scale = gain / np.sqrt(variance + attributes(norm).get("epsilon", 1e-5))
    if np.abs(scale).min() < 1e-6 * np.abs(scale).max():
        return None  # a channel that is switched off has no target to go back to
    return scale, bias - mean * scale


def _interval(activation: onnx.NodeProto | None, known: Constants) -> tuple[float, float]:
    """Where the activation is one to one: outside, it does not matter what comes in."""
    if activation is None or activation.op_type not in ("Relu", "Clip"):
        return -math.inf, math.inf
    if activation.op_type == "Relu":
        return 0.0, math.inf
    values = attributes(activation)
    bounds = [values.get("min", -math.inf), values.get("max", math.inf)]
    for place, name in enumerate(activation.input[1:3]):
        if (source := known.source(name)) is not None:
            bounds[place] = known.array(source).item()
    return float(bounds[0]), float(bounds[1])
