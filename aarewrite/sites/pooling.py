"""Which operators pool a whole map into one value per channel."""

from __future__ import annotations

from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.shapes import Shapes
from aarewrite.model.types import Node, in_default_domain, ints

GLOBAL = frozenset(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "ReduceMean", "ReduceMax"))
SIZED_POOLS = frozenset(("AveragePool", "MaxPool"))  # global where they cover the whole map


def covers_map(editor: GraphEditor, shapes: Shapes, scope: Scope, node: Node, rank: int | None = None) -> bool:
    """Whether a node pools over all positions of its input; `rank` is the number of spatial axes, where known."""
    if node.op not in GLOBAL | SIZED_POOLS or not in_default_domain(node):
        return False
    if node.op.startswith("Global"):
        return True
    size = shapes.spatial(scope, node.inputs[0], rank)
    if node.op in SIZED_POOLS:
        return bool(size) and list(size) == ints(node, "kernel_shape") and not any(ints(node, "pads"))
    return bool(size) and reduced_axes(editor, node, len(size) + 2) >= set(range(2, len(size) + 2))


def reduced_axes(editor: GraphEditor, node: Node, rank: int) -> set[int]:
    """The axes that a Reduce operator reduces, where it names them."""
    value = editor.constant_value(node.inputs[1]) if len(node.inputs) > 1 else None
    given = ints(node, "axes") if value is None else value.reshape(-1)
    return {int(axis) % rank for axis in given}
