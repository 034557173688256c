"""A blur as a depthwise Conv that pads with zeros, and what reflecting adds at the borders put in its place.

Where the stride exceeds the filter's reach r = (f - 1) / 2, only the first output of an axis, and at sizes that the
stride does not divide the last, reads beyond the border: x[-k] = x[k], x[N-1+k] = x[N-1-k], k = 1..r. Along an axis the
reflecting filter is therefore Z + E, Z with zero pads and E one or two rows, and over two axes
(Z + E)(Z' + E') = ZZ' + EZ' + (Z + E)E': rows and columns of small strided Convs, put in their place by 1x1 Convs with
large pads, which ONNX Runtime keeps in its blocked layout and adds inside a Conv.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from aarewrite.filters import outer
from aarewrite.model.graph import GraphEditor
from aarewrite.model.types import Array, Node, Tensor
from aarewrite.passes.lowering import Lowering, PaddedBlur, blocked
from aarewrite.sites.existing_blurs import BORDER


@dataclass(frozen=True)
class Axis:
    """One axis of a Conv: its taps, stride and pads."""

    taps: Array
    stride: int = 1
    begin: int = 0
    end: int = 0


ONE = np.ones(1)


class CorrectedBlur(Lowering):
    """Conv with zero pads, and borders of small Convs added to it."""

    name = "zero pads, corrected"

    @classmethod
    def fits(cls, blur: PaddedBlur) -> bool:
        """1. Two axes, reflected. 2. Each is of known size, and centred. 3. Its stride exceeds the filter's reach."""
        return blur.mode == "reflect" and len(blur.taps) == 2 and all(_fits(blur, axis) for axis in (0, 1))

    @classmethod
    def pays(cls, blur: PaddedBlur) -> bool:
        """In ONNX Runtime's blocked layout."""
        return blocked(blur)

    @classmethod
    def nodes(cls, editor: GraphEditor, blur: PaddedBlur) -> list[Node]:
        """The Conv, the Convs of the borders that there are, and Adds."""
        made: list[Node] = []

        def conv(what: str, source: Tensor, rows: Axis, columns: Axis) -> Tensor:
            assert blur.channels is not None
            window = outer([rows.taps, columns.taps])
            kernel = np.broadcast_to(window, (blur.channels, 1, *window.shape))
            weight = editor.constant(blur.scope, f"{blur.name}/{what}_taps", kernel, blur.dtype)
            output = editor.variable(f"{blur.name}/{what}/output")
            node = editor.node(
                "Conv", f"{blur.name}/{what}", [source, weight], [output], kernel_shape=list(window.shape),
                strides=[rows.stride, columns.stride], pads=[rows.begin, columns.begin, rows.end, columns.end],
                dilations=[1, 1], group=blur.channels,
            )  # fmt: skip
            made.append(node)
            return output

        def add(what: str, terms: Sequence[Tensor]) -> Tensor:
            total = terms[0]
            for term in terms[1:]:
                output = editor.variable(f"{blur.name}/{what}/output")
                made.append(editor.node("Add", f"{blur.name}/{what}", [total, term], [output]))
                total = output
            return total

        rows, columns = _zero_padded(blur, 0), _zero_padded(blur, 1)
        terms = [conv("ZeroPadded", blur.source, rows, columns)]
        for border, place in _borders(blur, 1):
            column = [conv(f"{BORDER}column", blur.source, rows, border)]
            for upper, there in _borders(blur, 0):
                corner = conv(f"{BORDER}corner", blur.source, upper, border)
                column.append(conv(f"{BORDER}corner_placed", corner, there, Axis(ONE)))
            terms.append(conv(f"{BORDER}column_placed", add(f"{BORDER}column_whole", column), Axis(ONE), place))
        for border, place in _borders(blur, 0):
            terms.append(
                conv(f"{BORDER}row_placed", conv(f"{BORDER}row", blur.source, border, columns), place, Axis(ONE))
            )
        add("Add", terms)
        made[-1].outputs.clear()
        return made


def _zero_padded(blur: PaddedBlur, axis: int) -> Axis:
    return Axis(blur.taps[axis], blur.strides[axis], blur.begin[axis], blur.end[axis])


def _borders(blur: PaddedBlur, axis: int) -> Iterator[tuple[Axis, Axis]]:
    """What the first and the last output read beyond the border: how it is computed, and how it is put in its place."""
    taps, stride, n = blur.taps[axis], blur.strides[axis], blur.size[axis]
    assert n is not None, "its size is known"
    reach = len(taps) // 2
    outputs = -(-n // stride)
    beyond = stride * (outputs - 1) + reach - (n - 1)
    if reach:
        near = np.concatenate([np.zeros(1), taps[:reach][::-1]])
        yield Axis(near, stride=n), Axis(ONE, end=outputs - 1)
    if beyond > 0:
        far = np.concatenate([taps[len(taps) - beyond :][::-1], np.zeros(1)])
        yield (
            Axis(far, stride=n - 1, begin=beyond),
            Axis(ONE, begin=outputs - 2),
        )  # two outputs, of which the first is 0


def _fits(blur: PaddedBlur, axis: int) -> bool:
    size, stride, n = len(blur.taps[axis]), blur.strides[axis], blur.size[axis]
    reach = size // 2
    if n is None or size % 2 == 0 or (blur.begin[axis], blur.end[axis]) != (reach, reach):
        return False
    return size == 1 or (stride > reach and n > max(stride, reach))
