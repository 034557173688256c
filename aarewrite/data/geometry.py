"""Where the crops lie: the size of the model's input, of the canvas they are cut from, and preparing samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aarewrite.data.arrays import Array, window
from aarewrite.data.dataset import Data
from aarewrite.data.noise import pink_noise
from aarewrite.data.preprocess import Preprocess, channels_last, to_model_units
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model.runner import InputSpec
from aarewrite.model.types import DType

CANVAS_RATIO = 256 / 224  # R. Zhang, ICML 2019: crops of 224 from a canvas of 256
LARGEST_SAMPLE = 2**25  # elements, with the margin that views are cut from: a picture in 4K
LARGEST_NOISE = 2**23  # elements of a synthetic one: a picture in full HD
LONGEST = 8  # of a picture's side, in canvases: what lies further out is cut off before it is scaled
UNKNOWN_SIZE = {1: 1024, 2: 224, 3: 32}  # where neither model nor data say it, by the number of axes
SMALLEST_SLACK = 4  # room for one pixel to every side even where 8/7 of the size gives less


@dataclass(frozen=True)
class Geometry:
    """Sizes in pixels (or time steps), one entry per spatial axis."""

    size: tuple[int, ...]  # the model's input
    canvas: tuple[int, ...]  # what crops are cut from
    # The canvas was made by reflecting the samples' borders, because they are no larger than `size`
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
    """One sample, decoded once."""

    index: int  # its number in the data
    canvas: Array  # in the model's units and layout, no batch axis, spatial size `Geometry.canvas`
    picture: Array | None = None  # `(H, W, 3)` uint8 of the canvas for reports, None where it is no picture
    # Of a picture `(stored, canvas)`, both `(H, W, C)` bytes: as it was decoded, and as the canvas before preprocessing
    raw: tuple[Array, Array] | None = None
    pair: tuple[Array, ...] = ()  # canvases of the two distorted versions; empty but for two-input metrics
    remark: str = ""  # what had to be done to read it, where that may change what the model sees


def plan_geometry(spec: InputSpec, data: Data, recipe: Preprocess, size: Sequence[int] | None) -> Geometry:
    """Choose input and canvas size: the model's own, else `size`, the preprocessing's, the data's, 224.

    Raises:
        UsageError: Stored samples are smaller than the model's input or of another rank.
    """
    stored = None
    if data.sample_shape is not None:
        stored = tuple(channels_last(np.empty(data.sample_shape, np.bool_), spec).shape[:-1])
    rank = len(spec.axes)
    if size and len(size) not in (1, rank):
        raise UsageError(f"--size has {len(size)} numbers, the input {rank} spatial axes", "correct it")
    asked = (list(size) * rank)[:rank] if size else [None] * rank  # one number counts for every axis
    found = stored or (None,) * rank
    for fixed, own in zip(spec.size, asked, strict=True):
        if fixed and own not in (None, fixed):
            raise CannotHandle(f"input {spec.name!r} is fixed to {spec.describe()}", f"leave --size {own} out")
    chosen = tuple(
        fixed or own or recipe.size or _size_from(have, spec)
        for fixed, own, have in zip(spec.size, asked, found, strict=True)
    )
    wanted = canvas_around(chosen)
    synthetic = data.kind == "synthetic"
    if math.prod(wanted) * (spec.channels or 1) > (LARGEST_NOISE if synthetic else LARGEST_SAMPLE):
        text = "x".join(map(str, chosen))
        raise CannotHandle(
            f"input {spec.name!r} ({spec.describe()}): a{' synthetic' * synthetic} sample of {text} is too large",
            "set a smaller --size where the model leaves it open" + ", or give real data" * synthetic,
        )
    if stored is None:
        return Geometry(chosen, wanted)
    if any(have < need for have, need in zip(stored, chosen, strict=True)):
        raise UsageError(
            f"samples of {'x'.join(map(str, stored))} are smaller than input {spec.name!r} ({spec.describe()})",
            "give larger samples, or set --size where the model's size is open",
        )
    if all(have >= need + SMALLEST_SLACK for have, need in zip(stored, chosen, strict=True)):
        canvas = tuple(min(have, want) for have, want in zip(stored, wanted, strict=True))
        return Geometry(chosen, canvas)
    return Geometry(chosen, wanted, padded=True)


def canvas_around(size: Sequence[int]) -> tuple[int, ...]:
    """The canvas that inputs of a size are cut from: 256 for 224, and some room for small ones."""
    return tuple(max(round(extent * CANVAS_RATIO), extent + SMALLEST_SLACK) for extent in size)


def _size_from(stored: int | None, spec: InputSpec) -> int:
    if stored is None:
        return UNKNOWN_SIZE[len(spec.axes)]
    size = round(stored / CANVAS_RATIO)
    return size - size % 8 if size >= 16 else stored  # networks with skips want a divisible size


def prepare(data: Data, i: int, spec: InputSpec, recipe: Preprocess, geometry: Geometry, seed: int) -> Sample:
    """Load sample i and bring it to the canvas, in the model's units.

    Raises:
        UsageError: It does not fit the model.
        UnreadableSample: It is broken.
    """
    remark = ""
    if data.kind == "synthetic":
        shape = spec.shape(geometry.canvas, channels=3 if len(spec.axes) == 2 else 1)
        noise = pink_noise(shape, (seed, i), tuple(axis - 1 for axis in spec.axes))
        if not recipe.apply:
            return Sample(i, noise if spec.dtype.kind == "f" else _in_range(noise, spec.dtype))
        last = noise[..., None] if spec.channel_axis is None else np.moveaxis(noise, spec.channel_axis - 1, -1)
        # The preset expects bytes: a grey level of 128 with a spread of 48.
        decoded = members = [np.clip(last * 48 + 128, 0, 255).astype(np.uint8)]
    else:
        decoded, remark = data.load(i)
        stored = decoded
        if data.kind == "images":
            _check_takes_images(spec)
            decoded = [_middle(image, geometry.canvas) for image in decoded]
            stored = [resize_to_cover(image, geometry.canvas, recipe.interpolation) for image in decoded]
        members = [_fit(channels_last(raw, spec), geometry) for raw in stored]
    canvas, *distorted = (to_model_units(member, spec, recipe) for member in members)
    pictured = members[0].dtype == np.uint8 and members[0].shape[-1] in (1, 3) and members[0].ndim == 3
    raw = (channels_last(decoded[0], spec), members[0]) if pictured else None
    return Sample(i, canvas, _picture(members[0]), raw, tuple(distorted), remark)


def _check_takes_images(spec: InputSpec) -> None:
    if len(spec.axes) != 2:
        raise CannotHandle(f"input {spec.name!r} ({spec.describe()}) takes no images", "give an .npz of signals")
    if spec.channels not in (None, 1, 3):
        raise CannotHandle(
            f"input {spec.name!r} ({spec.describe()}) has {spec.channels} channels, images have 3", "give an .npz"
        )


def _in_range(noise: Array, dtype: DType) -> Array:
    """Noise over the whole range of an integer type, three standard deviations to each side."""
    limits = np.iinfo(dtype)
    spread = np.clip((noise + 3) / 6, 0, 1) * (limits.max - limits.min) + limits.min
    return np.rint(spread).astype(dtype)


def _fit(values: Array, geometry: Geometry) -> Array:
    """Centre-crop `(spatial..., C)` to the canvas, or reflect its borders where it is smaller."""
    for axis, want in enumerate(geometry.canvas):
        have = values.shape[axis]
        if have > want:
            values = window(values, [axis], [(have - want) // 2], [want])
        elif have < want:
            pads = [(0, 0)] * values.ndim
            pads[axis] = ((want - have) // 2, (want - have + 1) // 2)
            values = np.pad(values, pads, mode="reflect" if have > 1 else "edge")
    return values


def _middle(image: Array, canvas: tuple[int, ...]) -> Array:
    """The middle of a picture, `LONGEST` canvases along each side at most: 8000x1 would be scaled to 2 million pixels
    for the few in its centre that are looked at."""
    density = min(have / want for have, want in zip(image.shape, canvas, strict=False))
    for axis, want in enumerate(canvas):
        most = math.ceil(LONGEST * want * density)
        if (excess := image.shape[axis] - most) > 0:
            image = window(image, [axis], [excess // 2], [most])
    return image


def resize_to_cover(image: Array, canvas: tuple[int, ...], interpolation: str) -> Array:
    """Resize `(H, W, 3)` uint8 so that it just covers the canvas (short side 256 for a square of 256)."""
    target = cover(image.shape[:2], canvas)
    if target == image.shape[:2]:
        return image
    from PIL import Image  # there: it has read the image

    return np.asarray(Image.fromarray(image).resize((target[1], target[0]), Image.Resampling[interpolation.upper()]))


def cover(size: Sequence[int], canvas: Sequence[int]) -> tuple[int, ...]:
    """The smallest size of the same shape, up to rounding, that covers the canvas."""
    factor = max(want / have for have, want in zip(size, canvas, strict=True))
    return tuple(max(want, round(have * factor)) for have, want in zip(size, canvas, strict=True))


def _picture(values: Array) -> Array | None:
    """Bytes to look at from `(H, W, C)`; floats, which must be finite, are stretched to their own range."""
    if values.ndim != 3 or values.shape[-1] not in (1, 3):
        return None
    if values.dtype != np.uint8:
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            return None
        values = ((values - low) / (high - low or 1) * 255).astype(np.uint8)
    return np.repeat(values, 3, axis=-1) if values.shape[-1] == 1 else values
