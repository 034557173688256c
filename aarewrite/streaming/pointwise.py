"""Operators that map index to index along the stream: pointwise ones, products with constants and whatever works along
other axes alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import onnx

from aarewrite.model.shapes import Dim
from aarewrite.streaming.rules import Ask, Draft, Fit, Rule, meeting
from aarewrite.streaming.tracks import Range, Track, joined

UNKNOWN_SHAPE = "the shape of its input is not known"
OVER_THE_STREAM = "it works over the axis that the stream runs along"
REPEATING = (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"))  # by whole numbers, of Resize "nearest"
SOFTMAX_OF_ONE_AXIS_SINCE = 13  # before it, over all axes from `axis` on


def elementwise(ask: Ask) -> Fit:
    """Whatever combines its operands value by value."""
    if len(ask.used_outputs()) > 1:
        return "its further outputs are read"
    found = meeting(ask)
    return found if isinstance(found, str) else ask.along(found[0])


def normalisation(ask: Ask) -> Fit:
    """BatchNormalization with constant statistics."""
    if reason := ask.only_streams(0):
        return reason
    if ask.first.axis == 1 or ask.attrs.get("training_mode") or len(ask.used_outputs()) > 1:
        return OVER_THE_STREAM
    return ask.along()


def quantisation(ask: Ask) -> Fit:
    """QuantizeLinear and DequantizeLinear with one scale, or one for each index of another axis."""
    if reason := ask.only_streams(0):
        return reason
    shape, dims = ask.dims(1), ask.dims(0)
    if shape is None or dims is None:
        return UNKNOWN_SHAPE
    if prod(size if isinstance(size, int) else 0 for size in shape) == 1:
        return ask.along()
    axis = int(ask.attrs.get("axis", 1)) % len(dims)
    return "its scales differ along the window" if axis == ask.first.axis or len(shape) > 1 else ask.along()


def along_others(ask: Ask) -> Fit:
    """Softmax, ArgMax and others that work along one axis."""
    dims = ask.dims(0)
    if (reason := ask.only_streams(0)) or dims is None:
        return reason or UNKNOWN_SHAPE
    op, track = ask.node.op_type, ask.first
    several = op in ("Hardmax", "LogSoftmax", "Softmax") and ask.opset < SOFTMAX_OF_ONE_AXIS_SINCE
    default = {"ArgMax": 0, "ArgMin": 0, "LpNormalization": -1, "TopK": -1}.get(op, 1 if several else -1)
    if op == "CumSum":
        given = ask.numbers("axis", 1)
        if given is None:
            return "its axis is computed"
        default = given[0]
    axis = int(ask.attrs.get("axis", default)) % len(dims)
    if axis == track.axis or (axis < track.axis and (several or op == "LayerNormalization")):
        return OVER_THE_STREAM
    dropped = op in ("ArgMax", "ArgMin") and not ask.attrs.get("keepdims", 1) and axis < track.axis
    return ask.along(track.on(track.axis - dropped))


def cross_channel(ask: Ask) -> Fit:
    """LRN: across channels."""
    return OVER_THE_STREAM if ask.first.axis == 1 else ask.along()


def reduction(ask: Ask) -> Fit:
    """Reductions over other axes."""
    dims = ask.dims(0)
    if (reason := ask.only_streams(0)) or dims is None:
        return reason or UNKNOWN_SHAPE
    axes = ask.numbers("axes", 1)
    if not axes:
        return "it reduces the whole window" if not ask.attrs.get("noop_with_empty_axes") else ask.along()
    axes = [axis % len(dims) for axis in axes]
    if ask.first.axis in axes:
        return "it reduces the axis that the stream runs along"
    gone = 0 if ask.attrs.get("keepdims", 1) else sum(axis < ask.first.axis for axis in axes)
    return ask.along(ask.first.on(ask.first.axis - gone))


def product(ask: Ask) -> Fit:
    """MatMul with a constant, not summed over the stream."""
    left, right = ask.dims(0), ask.dims({"QLinearMatMul": 3}.get(ask.node.op_type, 1))
    if len(ask.tracks) > 1:
        return "it is a product of two parts of the window"
    place, track = next(iter(ask.tracks.items()))
    if (reason := ask.only_streams(place)) or left is None or right is None:
        return reason or UNKNOWN_SHAPE
    own, other = (left, right) if place == 0 else (right, left)
    summed = len(own) - 1 if place == 0 else max(0, len(own) - 2)
    if track.axis == summed:
        return "it sums over the axis that the stream runs along"
    rank = max(len(own), len(other))
    if len(other) < 2 or len(own) < 2:
        return "a product with a vector"
    axis = track.axis + rank - len(own)
    beside = axis - (rank - len(other))
    if axis < rank - 2 and beside >= 0 and other[beside] != 1:
        return "its constant differs along the window"
    return ask.along(track.on(axis))


def gemm(ask: Ask) -> Fit:
    """Gemm with constant weights, the stream along its rows."""
    if reason := ask.only_streams(0):
        return reason
    if ask.first.axis != int(bool(ask.attrs.get("transA"))):
        return "it sums over the axis that the stream runs along"
    bias = ask.dims(2) if ask.given(2) else ()
    if bias is None or (len(bias) == 2 and bias[0] != 1):
        return "its constant differs along the window"
    return ask.along(ask.first.on(0))


def concatenation(ask: Ask) -> Fit:
    """Concat along another axis."""
    out = ask.out_dims()
    if len(ask.tracks) < len(ask.node.input):
        return "not all of what it joins is streamed"
    if out is None or len({track.axis for track in ask.tracks.values()}) > 1:
        return UNKNOWN_SHAPE if out is None else "its operands carry the stream on different axes"
    if int(ask.attrs["axis"]) % len(out) == ask.first.axis:
        return "it joins along the stream"
    track = joined(list(ask.tracks.values()))
    return track if isinstance(track, str) else ask.along(track)


def splitting(ask: Ask) -> Fit:
    """Split along another axis."""
    dims = ask.dims(0)
    if (reason := ask.only_streams(0)) or dims is None:
        return reason or UNKNOWN_SHAPE
    axis = int(ask.attrs.get("axis", 0)) % len(dims)
    return "it splits the stream's axis" if axis == ask.first.axis else ask.along()


def transposition(ask: Ask) -> Fit:
    """Transpose."""
    dims = ask.dims(0)
    if dims is None:
        return UNKNOWN_SHAPE
    order = ask.attrs.get("perm") or list(range(len(dims)))[::-1]
    return ask.along(ask.first.on(list(order).index(ask.first.axis)))


@dataclass(frozen=True)
class Reshaped(Rule):
    """A Reshape that keeps the order of indices along the stream's axis: one of them becomes `parts`, or `joins` of
    them one."""

    shape: tuple[int, ...]  # for the whole window
    parts: int
    joins: int

    def made(self, wanted: Range) -> Range:
        """What the whole indices that are read give."""
        low, high = self.reads(wanted)
        return low * self.parts // self.joins, high * self.parts // self.joins

    def reads(self, made: Range) -> Range:
        """The indices that the range is made of."""
        return made[0] * self.joins // self.parts, -(-made[1] * self.joins // self.parts)

    def fit(self, node: onnx.NodeProto, made: Range, draft: Draft) -> None:
        """The same with the range's length."""
        shape = list(self.shape)
        shape[self.track.axis] = made[1] - made[0]
        constant = draft.constant(f"{node.name}/shape", np.array(shape, np.int64))
        node.op_type, node.input[:] = "Reshape", [node.input[0], constant]
        del node.attribute[:]


def reshaping(ask: Ask) -> Fit:
    """Reshape, Flatten, Squeeze and Unsqueeze where the stream's axis stays behind as many values as before: as it is,
    with the axes behind it joined to it, or with them split off again."""
    dims, out, track = ask.dims(0), ask.out_dims(), ask.first
    if (reason := ask.only_streams(0)) or dims is None or out is None:
        return reason or "its shape is not known"
    before = _volume(dims[: track.axis])
    fits = [
        (k, size) for k, size in enumerate(out) if isinstance(size, int) and size > 1 and _volume(out[:k]) == before
    ]
    if not fits or None in out or track.length == 1:
        return "it mixes the stream's axis with others"
    place, length = fits[0]
    if length % track.length and track.length % length:
        return "it mixes the stream's axis with others"
    parts, joins = max(1, length // track.length), max(1, track.length // length)
    left, right = (-(-edge * parts // joins) for edge in (track.left, track.right))
    behind = Track(place, track.rate * joins / parts, left, right, length)
    shape = [size if isinstance(size, int) else 0 if dims[k : k + 1] == (size,) else -1 for k, size in enumerate(out)]
    if shape.count(-1) > 1:
        return "it rearranges several open sizes"
    return Reshaped((0,), behind, tuple(shape), parts, joins)


def _volume(dims: tuple[Dim, ...]) -> tuple[int, list[str]]:
    """The product of known sizes, and the names of the open ones."""
    return prod(d for d in dims if isinstance(d, int)), sorted(str(d) for d in dims if not isinstance(d, int))


@dataclass(frozen=True)
class Repeated(Reshaped):
    """A Resize that repeats every value along the stream `parts` times."""

    scales: tuple[float, ...] = ()  # of every axis, where the node says its sizes

    def fit(self, node: onnx.NodeProto, made: Range, draft: Draft) -> None:
        """Scales in place of sizes."""
        if self.scales:
            scales = draft.constant(f"{node.name}/scales", np.array(self.scales, np.float32))
            node.input[:] = [node.input[0], "", scales]


def resizing(ask: Ask) -> Fit:
    """Resize and Upsample that leave the stream's axis as it is or repeat its values."""
    dims, out, track = ask.dims(0), ask.out_dims(), ask.first
    if (reason := ask.only_streams(0)) or dims is None or out is None or None in out:
        return reason or UNKNOWN_SHAPE
    size = out[track.axis]
    if not isinstance(size, int) or size % track.length or ask.attrs.get("axes"):
        return "it resamples the whole window"
    times = size // track.length
    how = ask.text("coordinate_transformation_mode", "half_pixel"), ask.text("nearest_mode", "round_prefer_floor")
    repeats = ask.text("mode", "nearest") == "nearest" and (ask.node.op_type == "Upsample" or how in REPEATING)
    if times > 1 and not repeats:
        return "it resamples the whole window"
    behind = Track(track.axis, track.rate / times, track.left * times, track.right * times, size)
    sizes = zip(dims, out, strict=True)
    scales = tuple(new / old if isinstance(old, int) and isinstance(new, int) else 1.0 for old, new in sizes)
    return Repeated((0,), behind, (), times, 1, scales if ask.given(3) else ())


@dataclass(frozen=True)
class Expanded(Rule):
    """An Expand of other axes; a size of 1 leaves an axis as it is."""

    shape: tuple[int, ...]

    def fit(self, node: onnx.NodeProto, made: Range, draft: Draft) -> None:
        """The same where the range has its own length."""
        node.input[1] = draft.constant(f"{node.name}/shape", np.array(self.shape, np.int64))


def expansion(ask: Ask) -> Fit:
    """Expand along other axes."""
    dims, out = ask.dims(0), ask.out_dims()
    if (reason := ask.only_streams(0)) or dims is None or out is None or None in out or len(out) < len(dims):
        return reason or UNKNOWN_SHAPE
    axis = ask.first.axis + len(out) - len(dims)
    if out[axis] != ask.first.length:
        return "it repeats along the stream"
    shape = [size if isinstance(size, int) and k != axis else 1 for k, size in enumerate(out)]
    return Expanded((0,), ask.first.on(axis), tuple(shape))


@dataclass(frozen=True)
class Picked(Rule):
    """A Gather of constant indices along the stream: whatever it gives lies along the stream no more."""

    ends: ClassVar[bool] = True
    indices: tuple[int, ...]
    shape: tuple[int, ...]

    def reads(self, made: Range) -> Range:
        """From the first to the last index picked."""
        return min(self.indices), max(self.indices) + 1

    def fit(self, node: onnx.NodeProto, made: Range, draft: Draft) -> None:
        """Count the indices from where the piece begins."""
        indices = np.reshape(np.array(self.indices, np.int64) - min(self.indices), self.shape)
        node.input[1] = draft.constant(f"{node.name}/indices", indices)


def gathering(ask: Ask) -> Fit:
    """Gather along another axis, or of constant indices along the stream."""
    dims, indices = ask.dims(0), ask.dims(1)
    if (reason := ask.only_streams(0)) or dims is None or indices is None:
        return reason or UNKNOWN_SHAPE
    axis, track = int(ask.attrs.get("axis", 0)) % len(dims), ask.first
    if axis != track.axis:
        return ask.along(track.on(track.axis + (len(indices) - 1) * (axis < track.axis)))
    value = ask.value(1)
    if value is None or not value.size:
        return "which indices it picks is computed"
    flat = tuple(int(k) % track.length for k in value.reshape(-1))
    return Picked((0,), track, flat, value.shape)
