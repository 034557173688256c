"""Where the crops lie: the size of the model's input, of the canvas they are cut from, and preparing samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aarewrite.data.arrays import Array
from aarewrite.data.preprocess import Preprocess, channels_last, to_model_units
from aarewrite.data.sources import INSTALL_REPORT, Data, pink_noise
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model.runner import InputSpec

CANVAS_RATIO = 256 / 224  # R. Zhang, ICML 2019: crops of 224 from a canvas of 256
SMALLEST_SLACK = 4  # room for one pixel to every side even where 8/7 of the size gives less


@dataclass(frozen=True)
class Geometry:
    """Sizes in pixels (or time steps), one entry per spatial axis.

    Attributes:
        size: The model's input.
        canvas: What crops are cut from.
        padded: The canvas was made by reflecting the samples' borders, because they are no larger than `size`.
    """

    size: tuple[int, ...]
    canvas: tuple[int, ...]
    padded: bool = False

    @cached_property
    def span(self) -> tuple[int, ...]:
        """Number of offsets the consistency draws from: 0..span-1, 32 for 224 in 256 as in the paper."""
        return tuple(canvas - size for canvas, size in zip(self.canvas, self.size, strict=True))

    @cached_property
    def base(self) -> tuple[int, ...]:
        """Offset of the centre crop."""
        return tuple(span // 2 for span in self.span)

    @property
    def reach(self) -> int:
        """The largest shift of the centre crop that stays on the canvas in every direction."""
        return min(self.base)

    def describe(self) -> str:
        """Say the geometry in one line."""
        size, canvas = ("x".join(map(str, value)) for value in (self.size, self.canvas))
        made = "samples reflected at their borders to" if self.padded else "canvas"
        return f"crops {size} from {made} {canvas}, offsets 0..{max(self.span) - 1}"


@dataclass(frozen=True)
class Sample:
    """One sample, decoded once.

    Attributes:
        index: Its number in the data.
        canvas: In the model's units and layout, no batch axis, spatial size `Geometry.canvas`.
        picture: `(H, W, 3)` uint8 of the canvas for reports, None where it is no picture.
        pair: Canvases of the two distorted versions (two-input metrics only).
    """

    index: int
    canvas: Array
    picture: Array | None = None
    pair: tuple[Array, Array] | None = None


def plan_geometry(spec: InputSpec, data: Data, recipe: Preprocess, size: Sequence[int] | None) -> Geometry:
    """Choose input and canvas size: the model's own, else `size`, the preprocessing's, the data's, 224.

    Raises:
        UsageError: Stored samples are smaller than the model's input or of another rank.
    """
    stored = _stored_size(spec, data)
    asked: list[int | None] = [None] * len(spec.axes)
    if size:
        if len(size) not in (1, len(spec.axes)):
            raise UsageError(f"--size has {len(size)} numbers, the input {len(spec.axes)} spatial axes", "correct it")
        asked = list(size) if len(size) == len(spec.axes) else [size[0]] * len(spec.axes)
    chosen = []
    for axis, fixed in enumerate(spec.size):
        if fixed and asked[axis] not in (None, fixed):
            raise CannotHandle(f"input {spec.name!r} is fixed to {spec.describe()}", f"leave --size {asked[axis]} out")
        chosen.append(fixed or asked[axis] or recipe.size or _size_from(stored[axis] if stored else None, spec))
    wanted = canvas_around(chosen)
    if stored is None:
        return Geometry(tuple(chosen), wanted)
    if any(have < need for have, need in zip(stored, chosen, strict=True)):
        raise UsageError(
            f"samples of {'x'.join(map(str, stored))} are smaller than input {spec.name!r} ({spec.describe()})",
            "give larger samples, or set --size where the model's size is open",
        )
    if all(have >= need + SMALLEST_SLACK for have, need in zip(stored, chosen, strict=True)):
        canvas = tuple(min(have, want) for have, want in zip(stored, wanted, strict=True))
        return Geometry(tuple(chosen), canvas)
    return Geometry(tuple(chosen), wanted, padded=True)


def canvas_around(size: Sequence[int]) -> tuple[int, ...]:
    """The canvas that inputs of a size are cut from: 256 for 224, and some room for small ones."""
    return tuple(max(round(extent * CANVAS_RATIO), extent + SMALLEST_SLACK) for extent in size)


def _stored_size(spec: InputSpec, data: Data) -> tuple[int, ...] | None:
    if data.sample_shape is None:
        return None
    probe = np.broadcast_to(np.zeros((), np.float32), data.sample_shape)
    size: tuple[int, ...] = channels_last(probe, spec).shape[:-1]
    return size


def _size_from(stored: int | None, spec: InputSpec) -> int:
    if stored is None:
        return 224 if len(spec.axes) == 2 else 1024
    size = round(stored / CANVAS_RATIO)
    return size - size % 8 if size >= 16 else stored  # networks with skips want a divisible size


def prepare(data: Data, i: int, spec: InputSpec, recipe: Preprocess, geometry: Geometry, seed: int) -> Sample:
    """Load sample i once and bring it to the canvas, in the model's units.

    Raises:
        UsageError: The sample cannot be decoded or has another shape; the message names it.
    """
    if data.kind == "synthetic":
        shape = spec.shape(geometry.canvas, channels=3 if len(spec.axes) == 2 else 1)
        noise = pink_noise(shape, (seed, i), tuple(axis - 1 for axis in spec.axes))
        if recipe.apply:  # the preset expects bytes: a grey level of 128 with a spread of 48
            axis = spec.channel_axis
            stacked = noise[..., None] if axis is None else np.moveaxis(noise, axis - 1, -1)
            return _finish(i, np.clip(stacked * 48 + 128, 0, 255).astype(np.uint8), spec, recipe)
        if np.issubdtype(spec.dtype, np.integer):
            limits = np.iinfo(spec.dtype)
            noise = np.clip((noise + 3) / 6, 0, 1) * (limits.max - limits.min) + limits.min
        return Sample(i, np.rint(noise).astype(spec.dtype) if spec.dtype.kind in "iu" else noise)
    if data.triplets is not None:
        members = [_fit(channels_last(raw, spec), geometry) for raw in data.triplets(i)]
        canvases = [to_model_units(member, spec, recipe) for member in members]
        return Sample(i, canvases[0], _picture(members[0]), (canvases[1], canvases[2]))
    raw = data.load(i)
    if data.kind == "images":
        if len(spec.axes) != 2:
            raise CannotHandle(f"input {spec.name!r} ({spec.describe()}) takes no images", "give an .npz of signals")
        if spec.channels not in (None, 1, 3):
            raise CannotHandle(
                f"input {spec.name!r} ({spec.describe()}) has {spec.channels} channels, images have 3", "give an .npz"
            )
        raw = resize_to_cover(raw, geometry.canvas, recipe.interpolation)
    return _finish(i, _fit(channels_last(raw, spec), geometry), spec, recipe)


def _finish(i: int, canvas: Array, spec: InputSpec, recipe: Preprocess) -> Sample:
    # channels_last has been applied: hand it on in a layout to_model_units reads without doubt.
    raw = canvas[..., 0] if spec.channel_axis is None or spec.channels == 1 else canvas
    if raw is canvas and not (len(spec.axes) == 2 or spec.layout.endswith("c")):
        raw = np.moveaxis(canvas, -1, 0)
    return Sample(i, to_model_units(raw, spec, recipe), _picture(canvas))


def _fit(values: Array, geometry: Geometry) -> Array:
    """Centre-crop `(spatial..., C)` to the canvas, or reflect its borders where it is smaller."""
    for axis, want in enumerate(geometry.canvas):
        have = values.shape[axis]
        if have > want:
            start = (have - want) // 2
            values = values[(slice(None),) * axis + (slice(start, start + want),)]
        elif have < want:
            pads = [(0, 0)] * values.ndim
            pads[axis] = ((want - have) // 2, (want - have + 1) // 2)
            values = np.pad(values, pads, mode="reflect" if have > 1 else "edge")
    return values


def resize_to_cover(image: Array, canvas: tuple[int, ...], interpolation: str) -> Array:
    """Resize `(H, W, 3)` uint8 so that it just covers the canvas (short side 256 for a square of 256)."""
    height, width = image.shape[:2]
    factor = max(canvas[0] / height, canvas[1] / width)
    target = (max(canvas[0], round(height * factor)), max(canvas[1], round(width * factor)))
    if target == (height, width):
        return image
    try:
        from PIL import Image
    except ImportError:
        raise CannotHandle("resizing images needs Pillow, which is not installed", INSTALL_REPORT) from None
    return np.asarray(Image.fromarray(image).resize((target[1], target[0]), Image.Resampling[interpolation.upper()]))


def _picture(values: Array) -> Array | None:
    """Bytes to look at from `(H, W, C)`; floats are stretched to their own range."""
    if values.ndim != 3 or values.shape[-1] not in (1, 3):
        return None
    if values.dtype != np.uint8:
        low, high = float(values.min()), float(values.max())
        values = ((values - low) / (high - low or 1) * 255).astype(np.uint8)
    return np.repeat(values, 3, axis=-1) if values.shape[-1] == 1 else values
