"""Operators that slide a window along the stream: convolutions, poolings, Slice, Pad, and transposed convolutions.

For an extent ke = (k - 1) d + 1, a stride s and a begin pad b, output o reads s o - b up to s o - b + ke - 1. So the
first one that no border reaches is ceil((l + b) / s), and the last one floor((L - u - ke + b) / s).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from aarewrite.streaming.rules import Ask, Draft, Fit, Rule, set_attribute
from aarewrite.streaming.tracks import Range, Track
from aarewrite.windows import Window, explicit, leaves_gaps

POOLS = frozenset(("AveragePool", "LpPool", "MaxPool"))
PADS_AS_INPUT_SINCE = 11
SLICE_INPUTS_SINCE = 10
END = 2**31 - 1  # of a Slice, where it goes on to the last index


@dataclass(frozen=True)
class Sliding(Rule):
    """A window of `extent` input indices that moves by `stride` for each output."""

    length: int  # of the input
    extent: int
    stride: int
    begin: int  # pad in front; negative where the first output begins further on
    pads: tuple[int, ...]  # of all spatial axes, begins, then ends

    def made(self, wanted: Range) -> Range:
        """A range whose windows reach at least one index."""
        low, high = wanted
        while low > 0 and self.stride * low - self.begin >= self.length:
            low -= 1
        while self.stride * (high - 1) - self.begin + self.extent <= 0:
            high += 1
        return low, high

    def reads(self, made: Range) -> Range:
        """What the windows reach of the input."""
        start, end = self._span(made)
        return max(0, start), min(self.length, end)

    def fit(self, node: onnx.NodeProto, made: Range, draft: Draft) -> None:
        """Pad what the windows reach beyond the input."""
        start, end = self._span(made)
        pads, axis = list(self.pads), self.track.axis - 2
        pads[axis], pads[axis + len(pads) // 2] = max(0, -start), max(0, end - self.length)
        set_attribute(node, "auto_pad", None)
        set_attribute(node, "ceil_mode", None)
        set_attribute(node, "pads", pads)

    def _span(self, made: Range) -> Range:
        first = self.stride * made[0] - self.begin
        return first, self.stride * (made[1] - 1) - self.begin + self.extent


def slid(track: Track, length: int, extent: int, stride: int, begin: int) -> Track:
    """The track behind such a window, of an output so long."""
    left = max(0, -(-(track.left + begin) // stride))
    last = (track.length - track.right - extent + begin) // stride
    return Track(track.axis, track.rate * stride, left, max(0, length - 1 - last), length)


def convolution(ask: Ask) -> Fit:
    """Conv, QLinearConv, ConvInteger: the window is the weights'."""
    place = {"QLinearConv": 3}.get(ask.node.op_type, 1)
    if set(ask.tracks) != {0} or (reason := ask.only_streams(0)):
        return "its weights are computed" if 0 in ask.tracks else reason
    shape = ask.dims(place)
    if shape is None or not all(isinstance(size, int) for size in shape):
        return "the shape of its weights is not known"
    return _windowed(ask, [int(size) for size in shape[2:] if isinstance(size, int)])


def pooling(ask: Ask) -> Fit:
    """MaxPool, AveragePool, LpPool."""
    if len(ask.used_outputs()) > 1:
        return "its Indices are positions in the whole window"
    if ask.only_streams(0):
        return "an operand that has to be constant is not"
    return _windowed(ask, list(ask.attrs["kernel_shape"]))


def _windowed(ask: Ask, kernel: list[int]) -> Fit:
    track, attrs, dims = ask.first, ask.attrs, ask.dims(0)
    axis, rank = track.axis - 2, len(kernel)
    if axis == -2:
        return ask.along()
    if axis == -1:
        return "it mixes the axis that the stream runs along"
    if dims is None or len(dims) != rank + 2:
        return "the shape of its input is not known"
    if attrs.get("storage_order"):
        return "storage_order"
    strides, dilations = attrs.get("strides") or [1] * rank, attrs.get("dilations") or [1] * rank
    pads = attrs.get("pads") or [0] * 2 * rank
    ceil = bool(attrs.get("ceil_mode"))
    if ceil and "AveragePool" in ask.node.op_type and attrs.get("count_include_pad"):
        return "ceil_mode with count_include_pad"
    given = Window(
        tuple(kernel), tuple(strides), tuple(dilations), tuple(pads[:rank]), tuple(pads[rank:]),
        ask.text("auto_pad", "NOTSET"), ceil,
    )  # fmt: skip
    sizes = tuple(
        track.length if k == axis else size if isinstance(size, int) else None for k, size in enumerate(dims[2:])
    )
    window = explicit(given, sizes)
    if isinstance(window, str):
        return window
    if leaves_gaps(given, sizes):
        return "auto_pad leaves gaps between its windows"
    edges = window.begin + window.end
    if ask.node.op_type in POOLS and any(pad >= k for pad, k in zip(edges, window.kernel * 2, strict=True)):
        return "it pads by its whole window"
    length = window.output(sizes)[axis]
    extent, stride, begin = window.extent[axis], window.strides[axis], window.begin[axis]
    assert length is not None, "the stream's axis has a size"
    behind = slid(track, length, extent, stride, begin)
    return Sliding((0,), behind, track.length, extent, stride, begin, edges)


@dataclass(frozen=True)
class Sliced(Rule):
    """Every `stride`-th index from `begin` on."""

    length: int
    stride: int
    begin: int
    axis: int  # which entry of starts, ends, axes and steps is the stream's
    values: tuple[tuple[int, ...], ...]  # starts, ends, axes, steps

    def reads(self, made: Range) -> Range:
        """From the first to the last index that is taken."""
        return self.begin + self.stride * made[0], self.begin + self.stride * (made[1] - 1) + 1

    def fit(self, node: onnx.NodeProto, made: Range, draft: Draft) -> None:
        """Take the whole of the range that it is given, in the same steps."""
        starts, ends, axes, steps = (list(values) for values in self.values)
        starts[self.axis], ends[self.axis] = 0, END
        if draft.opset < SLICE_INPUTS_SINCE:
            for name, values in (("starts", starts), ("ends", ends), ("axes", axes)):
                set_attribute(node, name, values)
            return
        for k, (name, values) in enumerate((("starts", starts), ("ends", ends), ("axes", axes), ("steps", steps)), 1):
            constant = draft.constant(f"{node.name}/{name}", np.array(values, np.int64))
            if k < len(node.input):
                node.input[k] = constant
            else:
                node.input.append(constant)


def slicing(ask: Ask) -> Fit:
    """Slice, forwards."""
    track, dims = ask.first, ask.dims(0)
    if (reason := ask.only_streams(0)) or dims is None:
        return reason or "the shape of its input is not known"
    starts, ends = ask.numbers("starts", 1), ask.numbers("ends", 2)
    if starts is None or ends is None:
        return "where it begins or ends is computed"
    axes = ask.numbers("axes", 3) or list(range(len(starts)))
    steps = ask.numbers("steps", 4) or [1] * len(starts)
    axes = [axis % len(dims) for axis in axes]
    if track.axis not in axes:
        return ask.along()
    place = axes.index(track.axis)
    taken = range(track.length)[starts[place] : ends[place] : steps[place]]
    if steps[place] < 1 or not taken:
        return "it runs backwards" if taken else "it takes nothing"
    behind = slid(track, len(taken), 1, steps[place], -taken.start)
    values = tuple(starts), tuple(ends), tuple(axes), tuple(steps)
    return Sliced((0,), behind, track.length, steps[place], taken.start, place, values)


@dataclass(frozen=True)
class Padded(Rule):
    """A Pad; where it mirrors, the border's piece holds what that needs."""

    length: int  # of the input
    begin: int  # in front; negative takes away
    end: int
    mirrored: bool
    pads: tuple[int, ...]  # of every axis, begins, then ends

    def made(self, wanted: Range) -> Range:
        """As wanted, and with enough of what is padded for the padding's own values."""
        low, high = wanted
        if low < self.begin:
            high = max(high, self.begin + 1 + self.begin * self.mirrored)
        last = self.begin + self.length
        if high > last:
            low = min(low, last - 1 - self.end * self.mirrored)
        return max(0, low), min(high, self.track.length)

    def reads(self, made: Range) -> Range:
        """The range without the padding."""
        return max(0, made[0] - self.begin), min(self.length, made[1] - self.begin)

    def fit(self, node: onnx.NodeProto, made: Range, draft: Draft) -> None:
        """Pad on the sides where the range has padding."""
        pads, axis = list(self.pads), self.track.axis
        pads[axis] = max(0, self.begin - made[0])
        pads[axis + len(pads) // 2] = max(0, made[1] - self.begin - self.length)
        if draft.opset < PADS_AS_INPUT_SINCE:
            set_attribute(node, "pads", pads)
            return
        node.input[1] = draft.constant(f"{node.name}/pads", np.array(pads, np.int64))
        del node.input[3:]  # pads are of every axis


def padding(ask: Ask) -> Fit:
    """Pad with a constant, mirrored or repeated."""
    track, dims = ask.first, ask.dims(0)
    if (reason := ask.only_streams(0)) or dims is None:
        return reason or "the shape of its input is not known"
    written, rank = ask.numbers("pads", 1), len(dims)
    if written is None:
        return "how much it pads is computed"
    axes = [axis % rank for axis in ask.numbers("axes", 3) or range(rank)]
    pads = [0] * 2 * rank
    for k, axis in enumerate(axes):
        pads[axis], pads[axis + rank] = written[k], written[k + len(axes)]
    begin, end = pads[track.axis], pads[track.axis + rank]
    mode = ask.text("mode", "constant")
    if mode not in ("constant", "edge", "reflect") and (begin or end):
        return f"its mode {mode} reads the window's other end"
    left, right = max(0, track.left + begin), max(0, track.right + end)
    behind = Track(track.axis, track.rate, left, right, track.length + begin + end)
    return Padded((0,), behind, track.length, begin, end, mode == "reflect", tuple(pads))


@dataclass(frozen=True)
class Spread(Rule):
    """A transposed convolution: input i reaches the outputs from s i - b up to s i - b + ke - 1."""

    length: int  # of the input
    extent: int
    stride: int
    begin: int
    attributes: tuple[tuple[str, tuple[int, ...]], ...]  # pads and output_padding of all spatial axes

    def reads(self, made: Range) -> Range:
        """The inputs that reach the range."""
        first = min(made[0] + self.begin - self.extent + self.stride, made[0] + self.begin) // self.stride
        last = (made[1] - 1 + self.begin) // self.stride
        low = min(max(0, first), self.length - 1)
        return low, max(low + 1, min(self.length, last + 1))

    def fit(self, node: onnx.NodeProto, made: Range, draft: Draft) -> None:
        """Crop what these inputs reach to the range."""
        low, high = self.reads(made)
        values = {name: list(given) for name, given in self.attributes}
        axis, pads, more = self.track.axis - 2, values["pads"], values["output_padding"]
        rest = self.stride * (high - 1) - self.begin + self.extent - made[1]
        pads[axis], pads[axis + len(more)] = made[0] - (self.stride * low - self.begin), max(0, rest)
        more[axis] = max(0, -rest)
        for name in ("auto_pad", "output_shape"):
            set_attribute(node, name, None)
        set_attribute(node, "pads", pads)
        set_attribute(node, "output_padding", more)


def transposed_convolution(ask: Ask) -> Fit:
    """ConvTranspose with explicit pads."""
    track, attrs, shape, dims = ask.first, ask.attrs, ask.dims(1), ask.dims(0)
    if reason := ask.only_streams(0):
        return reason
    if shape is None or dims is None or not all(isinstance(size, int) for size in shape):
        return "the shape of its weights is not known"
    kernel = [int(size) for size in shape[2:] if isinstance(size, int)]
    rank, axis = len(kernel), track.axis - 2
    if axis < 0:
        return ask.along() if axis == -2 else "it mixes the axis that the stream runs along"
    if ask.text("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or attrs.get("output_shape"):
        return "its padding is made for an output's size"
    strides, dilations = attrs.get("strides") or [1] * rank, attrs.get("dilations") or [1] * rank
    pads = attrs.get("pads") or [0] * 2 * rank
    more = attrs.get("output_padding") or [0] * rank
    extent, stride, begin = (kernel[axis] - 1) * dilations[axis] + 1, strides[axis], pads[axis]
    length = stride * (track.length - 1) + extent + more[axis] - begin - pads[axis + rank]
    left = stride * (track.left - 1) - begin + extent
    right = length - (stride * (track.length - track.right) - begin)
    behind = Track(track.axis, track.rate / stride, max(0, left), max(0, right), length)
    attributes = ("pads", tuple(pads)), ("output_padding", tuple(more))
    return Spread((0,), behind, track.length, extent, stride, begin, attributes)
