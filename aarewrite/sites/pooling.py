"""Which operators pool a whole map into one value per channel."""

from __future__ import annotations

from typing import Any

from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.shapes import Shapes

GLOBAL = frozenset(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "ReduceMean", "ReduceMax"))
SIZED_POOLS = frozenset(("AveragePool", "MaxPool"))  # global where they cover the whole map


def covers_map(editor: GraphEditor, shapes: Shapes, scope: Scope, node: Any, rank: int | None = None) -> bool:
    """Whether a node pools over all positions of its input; `rank` is the number of spatial axes, where known."""
    if node.op not in GLOBAL | SIZED_POOLS or node.domain not in (None, "", "ai.onnx"):
        return False
    if node.op.startswith("Global"):
        return True
    size = shapes.spatial(scope, node.inputs[0], rank)
    if node.op in SIZED_POOLS:
        return list(size) == list(node.attrs["kernel_shape"]) and not any(node.attrs.get("pads") or [0])
    given = editor.constant_value(node.inputs[1]) if len(node.inputs) > 1 else node.attrs.get("axes")
    axes = {int(axis) % (len(size) + 2) for axis in given} if given is not None else set()
    return bool(size) and axes >= set(range(2, len(size) + 2))
