"""Outputs whose size depends on values: what detectors select has as many rows as pass the threshold."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain

import onnx

from aarewrite.model.external import with_bodies
from aarewrite.model.index import ancestors, consumed

SELECTING = frozenset(("Compress", "NonMaxSuppression", "NonZero", "StringSplit", "Unique"))
DECIDING = frozenset(("If", "Loop"))  # the size may depend on which branch is taken, or how often
# operator -> where its inputs that are sizes begin
SIZED_BY_INPUTS = {
    "CenterCropPad": 1, "ConstantOfShape": 0, "Expand": 1, "OneHot": 1, "Pad": 1, "Range": 0, "Reshape": 1, "Resize": 1,
    "Slice": 1, "Split": 1, "Tile": 1, "TopK": 1, "Upsample": 1,
}  # fmt: skip
MOST_AXES = 32
ASKING = frozenset(("Shape", "Size"))  # their results are sizes, whatever the values


def free_axes(proto: onnx.ModelProto, certain: bool = False) -> dict[str, set[int]]:
    """The axes of each output whose size depends on values, of a model whose inputs have sizes and whose types are
    inferred: those that are open behind an operator that selects, or whose sizes are calculated from values; unless
    this must be `certain`, behind an If or Loop, too."""
    found = {}
    for output in proto.graph.output:
        dims = output.type.tensor_type.shape.dim
        behind = [proto.graph.node[index] for index in ancestors(proto, [output.name])]
        if any(_selects(proto, node, SELECTING if certain else SELECTING | DECIDING) for node in behind):
            axes = range(len(dims)) if output.type.tensor_type.HasField("shape") else range(MOST_AXES)
            found[output.name] = {axis for axis in axes if axis >= len(dims) or not dims[axis].dim_value}
    return found


def _selects(proto: onnx.ModelProto, node: onnx.NodeProto, selecting: Collection[str]) -> bool:
    """Whether a node gives a size that depends on values."""
    called = (one.node for one in proto.functions if (one.domain, one.name) == (node.domain, node.op_type))
    if any(one.op_type in selecting for one in with_bodies(chain([node], *called))):
        return True
    first = SIZED_BY_INPUTS.get(node.op_type)
    return first is not None and any(_is_calculated(proto, name) for name in node.input[first:] if name)


def _is_calculated(proto: onnx.ModelProto, name: str) -> bool:
    """Whether a tensor depends on what values the inputs have, not only on their sizes."""
    makers = {output: node for node in proto.graph.node for output in node.output}
    inputs = {value.name for value in proto.graph.input} - {tensor.name for tensor in proto.graph.initializer}
    waiting, seen = {name}, set[str]()
    while waiting:
        seen |= waiting
        if waiting & inputs:
            return True
        read = (consumed(makers[one]) for one in waiting if one in makers and makers[one].op_type not in ASKING)
        waiting = set().union(*read) - seen
    return False
