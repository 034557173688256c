"""Space-to-depth and pooling by blocks, written with Reshape: each spatial axis is split into positions and blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.shapes import Dim, Shapes
from aarewrite.model.types import Node, ints
from aarewrite.sites.pooling import reduced_axes

REDUCING = frozenset(("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"))
Axes = tuple[int, ...]


def rearranges(editor: GraphEditor, shapes: Shapes, scope: Scope, node: Node) -> str:
    """What a Reshape that splits spatial axes begins: "SpaceToDepth" with the Transpose and Reshape behind it,
    "pooling" with the reduction behind it; "" where neither."""
    if len(node.outputs[0].outputs) != 1:
        return ""
    reader = node.outputs[0].outputs[0]
    before, split = shapes.of(scope, node.inputs[0]).dims, _reshaped(editor, shapes, scope, node)
    if before is None:
        return ""
    for channels, blocks in _splits(before, split):
        if reader.op in REDUCING and len(blocks) > 1 and reduced_axes(editor, reader, len(split)) == set(blocks):
            return "pooling"
        behind = reader.outputs[0].outputs[0] if reader.op == "Transpose" and reader.outputs[0].outputs else None
        after = _reshaped(editor, shapes, scope, behind) if behind is not None and behind.op == "Reshape" else ()
        if after and _joins(split, channels, blocks, ints(reader, "perm"), after):
            return "SpaceToDepth"
    return ""


def _reshaped(editor: GraphEditor, shapes: Shapes, scope: Scope, node: Node) -> Sequence[Dim]:
    """Sizes behind a Reshape, () where not even the rank is known: those that inference tells, and where it does not,
    those that a Concat gives to the Reshape, one in each part that is calculated."""
    inferred = shapes.of(scope, node.outputs[0]).dims
    made = node.inputs[1].inputs[0] if len(node.inputs) > 1 and node.inputs[1].inputs else None
    given: list[Dim] = []
    for part in made.inputs if made is not None and made.op == "Concat" else ():
        value = editor.constant_value(part)
        given += [None] if value is None else [size if size > 0 else None for size in map(int, value.reshape(-1))]
    if inferred is None or len(inferred) != len(given):
        return inferred or given
    return [size if isinstance(size, int) else told for size, told in zip(inferred, given, strict=True)]


def _splits(before: Sequence[Dim], split: Sequence[Dim]) -> Iterator[tuple[int, Axes]]:
    """The axis of the channels, and the inner parts of all other axes but the batch's, where each may have been split
    in two. Of three axes the last is the one that is split, for heads of attention are split like that, too."""
    rank = len(before)
    if len(split) != 2 * rank - 2:
        return
    for channels in range(1, rank) if rank > 3 else (1,):
        parts, blocks, place = [], [], 0
        for axis in range(rank):
            pieces = 1 if axis in (0, channels) else 2
            parts.append(split[place : place + pieces])
            blocks += [place + 1] * (pieces - 1)
            place += pieces
        fits = all(_is_product(size, part) for size, part in zip(before, parts, strict=True))
        if fits and all(isinstance(size := split[block], int) and size > 1 for block in blocks):
            yield channels * 2 - 1, tuple(blocks)


def _is_product(size: Dim, parts: Sequence[Dim]) -> bool:
    """Whether a size may be the product of parts; open ones may be anything."""
    known = [part for part in parts if isinstance(part, int)]
    if not isinstance(size, int):
        return len(known) < len(parts) or size is None
    return size % prod(known) == 0 and (len(known) < len(parts) or prod(known) == size)


def _joins(split: Sequence[Dim], channels: int, blocks: Axes, perm: Sequence[int], after: Sequence[Dim]) -> bool:
    """Whether a Transpose brings all blocks beside the channels, and the Reshape behind it makes one axis of them. A
    partition into windows joins the blocks alone."""
    sizes = [split[part] for part in (channels, *blocks)]
    known = [size for size in sizes if isinstance(size, int)]
    if sorted(perm) != list(range(len(split))) or len(after) >= len(split) or len(known) < len(sizes):
        return False
    joined = sorted(perm.index(part) for part in (channels, *blocks))
    together = joined == list(range(joined[0], joined[0] + len(joined)))
    return together and after[-1 if joined[-1] == len(split) - 1 else min(joined[0], len(after) - 1)] == prod(known)
