"""A blur whose border is put together by Split and Concat: for runtimes without the reflecting or edge modes of Pad.

Where an axis is of unknown size, Slices take the place of its Split. CoreML takes those of static maps alone, but a
Split at an open batch, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import onnx

from aarewrite.model.graph import GraphEditor
from aarewrite.model.types import Node, Tensor
from aarewrite.passes.lowering import Lowering, PaddedBlur

OLDEST_SLICE_WITH_INPUTS, OLDEST_SPLIT_WITH_INPUTS = 10, 13


class SlicedBlur(Lowering):
    """Single samples, Concat, and the Conv as it was."""

    name = "slices"

    @classmethod
    def fits(cls, blur: PaddedBlur) -> bool:
        """The map is known to be larger than what is padded, or its size is open (the Pad needs it as well)."""
        rows = zip(blur.begin, blur.end, blur.size, strict=True)
        return all(n is None or n > max(b, e) for b, e, n in rows)

    @classmethod
    def pays(cls, blur: PaddedBlur) -> bool:
        """Never: it copies the map once an axis."""
        return False

    @classmethod
    def nodes(cls, editor: GraphEditor, blur: PaddedBlur) -> list[Node]:
        """Along each axis that is padded: the samples beyond the border, the map, the samples beyond the other."""
        made: list[Node] = []
        source = blur.source
        for axis, (begin, end) in enumerate(zip(blur.begin, blur.end, strict=True), start=2):
            if begin or end:
                reflect = blur.mode == "reflect"
                front = [k if reflect else 0 for k in range(begin, 0, -1)]
                back = [-1 - k if reflect else -1 for k in range(1, end + 1)]
                beyond = _samples(editor, blur, source, axis, [*front, *back], made)
                parts = [*beyond[:begin], source, *beyond[begin:]]
                source = editor.variable(f"{blur.name}/joined_{axis}")
                made.append(editor.node("Concat", f"{blur.name}/Concat_{axis}", parts, [source], axis=axis))
        attributes = {key: value for key, value in blur.conv.attrs.items() if key != "auto_pad"}
        made.append(editor.node("Conv", f"{blur.name}/Filter", [source, blur.conv.inputs[1]], [], **attributes))
        return made


def _samples(
    editor: GraphEditor, blur: PaddedBlur, source: Tensor, axis: int, wanted: Sequence[int], made: list[Node]
) -> list[Tensor]:
    """Samples of an axis, each from the front or (below 0) from the back."""
    n = blur.size[axis - 2]
    if n is None:
        return [_slice(editor, blur, source, axis, at, made) for at in wanted]
    places = {at % n for at in wanted}
    bounds = sorted({0, n, *places, *(at + 1 for at in places)})
    pieces = {begin: editor.variable(f"{blur.name}/piece_{axis}") for begin in bounds[:-1]}
    sizes, name = [end - begin for begin, end in pairwise(bounds)], f"{blur.name}/Split_{axis}"
    if blur.scope.opset < OLDEST_SPLIT_WITH_INPUTS:
        node = editor.node("Split", name, [source], list(pieces.values()), axis=axis, split=sizes)
    else:
        lengths = editor.constant(blur.scope, f"{blur.name}/sizes", np.array(sizes), onnx.TensorProto.INT64)
        node = editor.node("Split", name, [source, lengths], list(pieces.values()), axis=axis)
    made.append(node)
    return [pieces[at % n] for at in wanted]


def _slice(editor: GraphEditor, blur: PaddedBlur, source: Tensor, axis: int, at: int, made: list[Node]) -> Tensor:
    """One sample of an axis, from the front or (below 0) from the back."""
    output, name = editor.variable(f"{blur.name}/sample_{axis}"), f"{blur.name}/Slice_{axis}"
    stop = at + 1 if at != -1 else np.iinfo(np.int64).max
    if blur.scope.opset < OLDEST_SLICE_WITH_INPUTS:
        node = editor.node("Slice", name, [source], [output], axes=[axis], starts=[at], ends=[stop])
    else:
        bounds = (np.array([v]) for v in (at, stop, axis))
        inputs = [editor.constant(blur.scope, f"{blur.name}/bound", v, onnx.TensorProto.INT64) for v in bounds]
        node = editor.node("Slice", name, [source, *inputs], [output])
    made.append(node)
    return output
