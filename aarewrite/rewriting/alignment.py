"""Even filters move a map by half a pixel: branches that meet again must have moved alike.

Output j of a blur is centred on input s*j for odd filters and on s*j + 1/2 for even ones (semantics of Zhang 2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aarewrite.model.graph import GraphEditor
from aarewrite.passes.contract import Match
from aarewrite.sites.site import Located

MEETINGS = frozenset(("Add", "Sum", "Sub", "Mul", "Max", "Min", "Concat"))
Offset = tuple[float, ...]  # per spatial axis, in pixels of the model's input; () where nothing has moved


def misaligned(editor: GraphEditor, rewrites: Mapping[int, tuple[Located, Match]]) -> Iterator[str]:
    """One line for every node whose branches the planned rewrites, id(node) -> site and match, move apart."""
    offsets: dict[int, Offset] = {}
    for scope in editor.scopes:
        for node in scope.nodes:
            data = [tensor for tensor in node.inputs if tensor.name and not editor.is_constant(tensor)]
            branches = [offsets.get(id(tensor), ()) for tensor in data]
            if node.op in MEETINGS and len(set(branches)) > 1:
                yield (
                    f"{node.name or node.outputs[0].name}: the branches that meet here are blurred with filters of "
                    "different parity and lie part of a pixel apart; use odd filters, or even ones in all branches"
                )
            offset = max(branches, key=len, default=())
            if id(node) in rewrites:
                offset = _moved(offset, *rewrites[id(node)])
            offsets |= {id(output): offset for output in node.outputs}


def _moved(offset: Offset, located: Located, match: Match) -> Offset:
    moves = match.blur.moves
    strides = located.site.stride_so_far or (1,) * len(moves)
    before = offset or (0.0,) * len(moves)
    if len(before) != len(moves) or len(strides) != len(moves):
        return offset
    moved = tuple(o + m * s for o, s, m in zip(before, strides, moves, strict=True))
    return moved if any(moved) else ()
