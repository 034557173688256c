"""The layers of a model pair: what is repaired, where its weights are, how its samples are cut out.

A layer is a Conv, Gemm or MatMul that exists in both models and reads, in the rewritten one, something that a blur
has changed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from aarewrite.model.index import Constants, ancestors, attributes, consumed, label, only_reader

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
Positions = tuple[NDArray[np.intp], ...]

KINDS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class Left:
    """A layer that is not repaired, and why."""

    name: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Layer:
    """A layer that can be repaired.

    Attributes:
        name: Its node's name, or its first output's where the node has none.
        kind: Conv, Gemm or MatMul.
        index: Its node's place in the rewritten model.
        original_index: Its node's place in the original model.
        input: The tensor it reads in the rewritten model.
        target: The tensor it makes in the original model.
        weight: Name of the constant that holds the weights.
        bias: Name of the constant that holds the bias; empty when there is none.
        bias_node: Place of the node that reads the bias: the layer itself, or the Add behind a MatMul; -1: none.
        bias_copies: Places of the nodes that read the bias in a second phase.
        group: Groups of a Conv, else 1.
        addend: The other operand of the Add that the output goes to, in the rewritten model; empty when there is
            none that is known by the time this layer is repaired.
        total: The result of that Add in the original model.
        scale, shift: Of the BatchNormalization right behind the layer, per output; None when there is none.
        low, high: Where the activation behind the layer (or behind the sum) stops telling values apart.
    """

    name: str
    kind: str
    index: int
    original_index: int
    input: str
    target: str
    weight: str
    bias: str
    bias_node: int
    bias_copies: tuple[int, ...] = ()
    group: int = 1
    addend: str = ""
    total: str = ""
    scale: F64 | None = None
    shift: F64 | None = None
    low: float = -math.inf
    high: float = math.inf


def find_layers(original: onnx.ModelProto, rewritten: onnx.ModelProto) -> tuple[list[Layer], list[Left]]:
    """The layers behind a blur, in topological order, and those that cannot be repaired."""
    before = _by_label(original)
    constants = Constants(rewritten)
    copies = _copies(rewritten, before)
    users = _weight_users(rewritten, constants, copies)
    changed: set[str] = set()  # tensors whose values the rewrite may have changed
    layers: list[Layer] = []
    left: list[Left] = []
    for index, node in enumerate(rewritten.graph.node):
        original_index = -1 if index in copies else before.get(label(node), before.get(_by_weight(node), -1))
        twin = original.graph.node[original_index] if original_index >= 0 else None
        if node.op_type in KINDS and twin is not None and twin.op_type == node.op_type and node.input[0] in changed:
            copied = [copy for copy, first in copies.items() if first == index]
            found = _layer(rewritten, node, index, twin, original_index, constants, users, copied)
            if isinstance(found, Layer):
                layers.append(found)
            else:
                left.append(found)
        if consumed(node) & changed:
            left += [
                Left(label(inner), inner.op_type, "it is inside an If, Loop or Scan body") for inner in _inside(node)
            ]
        if twin is None or consumed(node) & changed or _differs(node, twin):
            changed |= set(node.output)
    layers = [_with_surroundings(layer, layers, original, rewritten, constants) for layer in layers]
    return layers, left


def _inside(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The layers in the bodies of an If, Loop or Scan."""
    bodies = [body for attribute in node.attribute for body in [attribute.g, *attribute.graphs]]
    children = [child for body in bodies for child in body.node]
    return [child for child in children if child.op_type in KINDS] + [
        one for child in children for one in _inside(child)
    ]


def _by_label(model: onnx.ModelProto) -> dict[str, int]:
    found: dict[str, int] = {}
    for index, node in enumerate(model.graph.node):
        found.setdefault(label(node), index)
        found.setdefault(_by_weight(node), index)
    return found


def _copies(rewritten: onnx.ModelProto, before: Mapping[str, int]) -> dict[int, int]:
    """Layers of a second phase, and the layer whose weights each of them reads: repaired with it."""
    firsts: dict[int, int] = {}
    found = {}
    for index, node in enumerate(rewritten.graph.node):
        if node.op_type in KINDS:
            # An unnamed conv whose output took another name is still known by its weights.
            original_index = before.get(label(node), before.get(_by_weight(node), -1))
            first = firsts.setdefault(original_index, index)
            if original_index >= 0 and first != index and label(node) not in before:
                found[index] = first
    return found


def _by_weight(node: onnx.NodeProto) -> str:
    return f"weight {node.input[1]}" if node.op_type in KINDS else ""


def _differs(node: onnx.NodeProto, twin: onnx.NodeProto) -> bool:
    return list(node.input) != list(twin.input) or attributes(node) != attributes(twin)


def _weight_users(model: onnx.ModelProto, constants: Constants, copies: Collection[int]) -> dict[str, list[str]]:
    users: dict[str, list[str]] = {}
    for index, node in enumerate(model.graph.node):
        if node.op_type == "Identity" or index in copies:
            continue
        for name in consumed(node):
            source = constants.source(name)
            if source is not None:
                users.setdefault(source, []).append(label(node))
    return users


def _layer(
    rewritten: onnx.ModelProto,
    node: onnx.NodeProto,
    index: int,
    twin: onnx.NodeProto,
    original_index: int,
    constants: Constants,
    users: dict[str, list[str]],
    copies: Sequence[int],
) -> Layer | Left:
    name = label(node)
    weight = constants.source(node.input[1])
    if weight is None:
        return Left(name, node.op_type, "its weights are computed in the graph")
    tensor = constants.tensor(weight)
    if tensor.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE):
        return Left(name, node.op_type, f"its weights are {onnx.TensorProto.DataType.Name(tensor.data_type)}")
    others = [user for user in users.get(weight, []) if user != name]
    if others:
        return Left(name, node.op_type, f"its weights are shared with {others[0]}")
    values = attributes(node)
    if node.op_type == "Gemm" and values.get("transA", 0):
        return Left(name, node.op_type, "transA=1")
    if node.op_type == "MatMul" and len(tensor.dims) != 2:
        return Left(name, node.op_type, "its weights are not a matrix")
    outputs = tensor.dims[0] if node.op_type == "Conv" or values.get("transB", 0) else tensor.dims[1]
    bias, bias_node, bias_copies = "", -1, list[int]()
    if node.op_type == "MatMul":
        # A MatMul has no bias of its own: the Add behind it has.
        add = only_reader(rewritten, node.output[0])
        if add is not None and add.op_type == "Add":
            other = constants.source(add.input[1] if add.input[0] == node.output[0] else add.input[0])
            if other is not None and _is_vector(constants.tensor(other), outputs):
                bias, bias_node = other, _place(rewritten, add)
                adds = [only_reader(rewritten, rewritten.graph.node[copy].output[0]) for copy in copies]
                bias_copies = [_place(rewritten, one) for one in adds if one is not None]
    else:
        bias_node, bias_copies = index, list(copies)
        if len(node.input) > 2 and node.input[2]:
            source = constants.source(node.input[2])
            if source is None or not _is_vector(constants.tensor(source), outputs):
                return Left(name, node.op_type, "its bias is no constant with one value per output")
            bias = source
    return Layer(
        name,
        node.op_type,
        index,
        original_index,
        node.input[0],
        twin.output[0],
        weight,
        bias,
        bias_node,
        tuple(bias_copies),
        int(values.get("group", 1)),
    )


def _place(model: onnx.ModelProto, node: onnx.NodeProto) -> int:
    """The node's index: outputs are unique, so they tell equal nodes apart."""
    return next(i for i, one in enumerate(model.graph.node) if one.output[0] == node.output[0])


def _is_vector(tensor: onnx.TensorProto, length: int) -> bool:
    """Whether the tensor is one value per output, along the last axis."""
    return list(tensor.dims)[-1:] == [length] and int(np.prod(tensor.dims)) == length


def _with_surroundings(
    layer: Layer, layers: Sequence[Layer], original: onnx.ModelProto, rewritten: onnx.ModelProto, known: Constants
) -> Layer:
    """The layer with what follows it: its normalisation, its residual sum, its activation.

    The sum counts only for the last of its operands to be repaired: by then the other one is final.
    """
    output = rewritten.graph.node[layer.index].output[0]
    target = layer.target
    norm = only_reader(original, target)
    if layer.kind == "Conv" and norm is not None and norm.op_type == "BatchNormalization":
        affine = _affine(norm, known)
        follower = only_reader(rewritten, output)
        if affine is None or follower is None:
            return layer
        layer = replace(layer, scale=affine[0], shift=affine[1])
        output, target = follower.output[0], norm.output[0]
    add, twin = only_reader(rewritten, output), only_reader(original, target)
    if (
        layer.kind == "Conv"
        and add is not None
        and twin is not None
        and add.op_type == twin.op_type == "Add"
        and add.input[0] != add.input[1]
    ):
        other = add.input[1] if add.input[0] == output else add.input[0]
        behind = ancestors(rewritten, [other])
        if known.source(other) is None and not any(one.index in behind for one in layers if one.index >= layer.index):
            layer = replace(layer, addend=other, total=twin.output[0])
            target = twin.output[0]
    low, high = _interval(only_reader(original, target), Constants(original))
    return replace(layer, low=low, high=high)


def _affine(norm: onnx.NodeProto, known: Constants) -> tuple[F64, F64] | None:
    """Scale and shift of a BatchNormalization with constant statistics."""
    sources = [known.source(name) for name in norm.input[1:5]]
    if len(sources) < 4 or len(norm.output) != 1:
        return None
    gain, bias, mean, variance = (known.array(name).astype(np.float64) for name in sources if name is not None)
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
        if name:
            source = known.source(name)
            bounds[place] = float(known.array(source).reshape(())) if source is not None else bounds[place]
    return float(bounds[0]), float(bounds[1])
