"""A binomial blur as average pools of 2: no Pad, and ONNX Runtime keeps the map in its blocked layout.

The binomial filter of f taps is f - 1 averages of two neighbours in turn. Behind the first of a pair the map is one
sample shorter and lies half a sample on; a reflected border then repeats its first and last sample, so that an average
that leaves out what is padded (count_include_pad = 0) is the exact one: (x[1] + 2 x[0] + x[1]) / 4 = (x[0] + x[1]) / 2.
The last pool takes the stride. An odd filter so fits every size; an even one ends in a single pool, whose windows must
end inside the map.
"""

from __future__ import annotations

import numpy as np
import onnx

from aarewrite.filters import LARGEST_FILTER, taps
from aarewrite.model.graph import GraphEditor
from aarewrite.model.types import Node
from aarewrite.passes.lowering import TOLERANCE, Lowering, PaddedBlur, blocked

DOUBLE = onnx.TensorProto.DOUBLE


class PooledBlur(Lowering):
    """AveragePool 2, stride 1 and AveragePool 2, the blur's stride; once more for every two taps more."""

    name = "average pools"

    @classmethod
    def fits(cls, blur: PaddedBlur) -> bool:
        """1. Reflected binomial taps, as many on every axis that has more than one. 2. Its windows end inside. 3. Not
        float64, for which ONNX Runtime has no AveragePool."""
        sizes = {len(t) for t in blur.taps if len(t) > 1}
        if blur.mode != "reflect" or len(sizes) != 1 or max(sizes) > LARGEST_FILTER or blur.dtype == DOUBLE:
            return False
        binomial = all(np.allclose(t, taps(len(t)), rtol=0, atol=TOLERANCE) for t in blur.taps)
        return binomial and all(_last_pads(blur, axis) is not None for axis in range(len(blur.taps)))

    @classmethod
    def pays(cls, blur: PaddedBlur) -> bool:
        """In ONNX Runtime's blocked layout."""
        return blocked(blur)

    @classmethod
    def nodes(cls, editor: GraphEditor, blur: PaddedBlur) -> list[Node]:
        """The pools."""
        n = len(blur.taps)
        kernel = [2 if len(t) > 1 else 1 for t in blur.taps]
        count = max(map(len, blur.taps)) - 1
        made: list[Node] = []
        source = blur.source
        for place in range(count):
            last = place == count - 1
            begin, end, strides = [0] * n, [0] * n, [1] * n
            if last:
                strides = list(blur.strides)
                rows = [_last_pads(blur, axis) or (0, 0) for axis in range(n)]
                begin, end = [b for b, _ in rows], [e for _, e in rows]
            elif place % 2:
                begin = end = [k - 1 for k in kernel]
            node = editor.node(
                "AveragePool", f"{blur.name}/Pool_{place}", [source], [], kernel_shape=kernel, strides=strides,
                pads=[*begin, *end],
            )  # fmt: skip
            made.append(node)
            if not last:
                source = editor.variable(f"{blur.name}/pooled_{place}")
                node.outputs.append(source)
        return made


def _last_pads(blur: PaddedBlur, axis: int) -> tuple[int, int] | None:
    """The pads of the last pool along an axis, None where it would not give the blur's samples.

    With p pairs in front, it reads samples s*j - b and the next, b = begin - p, of a map of `length` samples.
    """
    size, stride, n = len(blur.taps[axis]), blur.strides[axis], blur.size[axis]
    if size == 1:
        return (0, 0) if (blur.begin[axis], blur.end[axis]) == (0, 0) else None
    odd = size % 2
    pairs = (size - 2) // 2
    begin = blur.begin[axis] - pairs
    if n is None:  # then every size must be right: the centred pads of an odd filter
        return (1, 1) if odd and begin == 1 and blur.end[axis] == blur.begin[axis] else None
    if n <= max(blur.begin[axis], blur.end[axis]):
        return None
    length = n - odd
    outputs = (n + blur.begin[axis] + blur.end[axis] - size) // stride + 1
    least = max(0, stride * (outputs - 1) - begin + 2 - length)
    if not (0 <= begin <= odd and least <= odd):
        return None
    # Equal pads where they do as well: cuDNN takes others for equal ones.
    rows = [(begin, end) for end in (begin, least) if end >= least]
    return next((row for row in rows if (length + sum(row) - 2) // stride + 1 == outputs), None)
