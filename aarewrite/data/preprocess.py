"""Preprocessing: from a decoded image or array to the model's units, as a value that can be printed.

A wrong guess looks like a bad model, so whatever is applied is named in every result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aarewrite.data.arrays import Array, along
from aarewrite.errors import UsageError
from aarewrite.model.runner import InputSpec
from aarewrite.options import option

PER_CHANNEL = "a number, or one a channel"


@dataclass(frozen=True)
class Preprocess:
    """How raw samples become model input: `(x * scale - mean) / std` per channel."""

    name: str  # the preset's name or the file it came from, for reports
    # `rgb` or `bgr`: the order the model expects; `mean` and `std` are in this order
    channels: str = option("rgb", choices=("rgb", "bgr"))
    # Factor applied first (1/255 brings bytes to 0..1)
    scale: float = option(1.0, holds=bool, says="a number other than 0")
    mean: tuple[float, ...] = option((0.0,), holds=bool, says=PER_CHANNEL)
    std: tuple[float, ...] = option((1.0,), holds=lambda values: values and all(values), says=f"{PER_CHANNEL}, none 0")
    # Spatial size of the model's input when the model leaves it open; None takes 224
    size: int | None = option(None, holds=lambda size: size > 0, says="a number of pixels")
    layout: str = "auto"  # `auto`, or one of nchw, nhwc, ncl, nlc, nl, ncdhw, ndhwc
    # Pillow's filter for resizing
    interpolation: str = option("bilinear", choices=("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"))
    # Added to every label; None means 1 for models with 1001 outputs (index 0 is background), else 0
    label_offset: int | None = None
    apply: bool = True  # False passes arrays through untouched (already in the model's units)

    def describe(self) -> str:
        """Say in one line what is applied."""
        if not self.apply:
            return f"{self.name}: values used as they are"
        mean, std = _numbers(self.mean), _numbers(self.std)
        return f"{self.name}: {self.channels.upper()}, (x * {self.scale:.6g} - {mean}) / {std}, {self.interpolation}"


def _numbers(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else "[" + ", ".join(f"{v:g}" for v in values) + "]"


PRESETS = {
    "imagenet": Preprocess("imagenet", scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "caffe": Preprocess("caffe", channels="bgr", mean=(104.0, 117.0, 123.0)),
    "raw255": Preprocess("raw255"),
    "unit": Preprocess("unit", scale=1 / 255),
    "pm1": Preprocess("pm1", scale=1 / 127.5, mean=(1.0,)),
    "none": Preprocess("none", apply=False),
}


def to_model_units(last: Array, spec: InputSpec, recipe: Preprocess) -> Array:
    """Turn one sample, `(spatial..., C)`, into one input in the model's layout, without its batch axis.

    It is float32 for float16/32/64 inputs (the runner casts on the way in), rounded and clipped for integer inputs.
    """
    if spec.channels == 1 and last.shape[-1] == 3:  # ITU-R 601 luma; pixel by pixel, so that a crop's is the crop of it
        last = 0.299 * last[..., :1] + 0.587 * last[..., 1:2] + 0.114 * last[..., 2:]
    channels = last.shape[-1]
    if recipe.apply and channels == 3 and recipe.channels == "bgr":
        last = last[..., ::-1]
    moved = last[..., 0] if spec.channel_axis is None else np.moveaxis(last, -1, spec.channel_axis - 1)
    out = np.array(moved, dtype=np.float32, order="C")
    if recipe.apply:
        mean, std = (_per_channel(values, channels, recipe) for values in (recipe.mean, recipe.std))
        axis = out.ndim - 1 if spec.channel_axis is None else spec.channel_axis - 1
        out *= along((recipe.scale / std).astype(np.float32), axis, out.ndim)  # in place: this runs beside the model
        out -= along((mean / std).astype(np.float32), axis, out.ndim)
    if np.issubdtype(spec.dtype, np.integer):
        limits = np.iinfo(spec.dtype)
        return np.ascontiguousarray(np.clip(np.rint(out), limits.min, limits.max).astype(spec.dtype))
    return out


def _per_channel(values: tuple[float, ...], channels: int, recipe: Preprocess) -> Array:
    if channels == 1:  # a grey model given a colour preset: the mean over colours is the grey value
        values = (sum(values) / len(values),)
    if len(values) not in (1, channels):
        raise UsageError(
            f"preprocessing {recipe.name} has {len(values)} channel values, the model has {channels}",
            "give one value or one a channel",
        )
    return np.broadcast_to(np.asarray(values, np.float64), (channels,))


def channels_last(raw: Array, spec: InputSpec) -> Array:
    """Bring a sample, for 2-D models `(H, W)`, `(H, W, C)` or `(C, H, W)`, else in the model's layout, to `(..., C)`.

    Raises:
        UsageError: The sample's shape cannot be brought to the model's layout, with both named.
    """
    spatial, channels = len(spec.axes), spec.channels
    if raw.ndim == spatial and channels in (None, 1):
        return raw[..., None]
    if raw.ndim == spatial + 1 and spec.channel_axis is not None:
        first, last = raw.shape[0], raw.shape[-1]
        channels_first_layout = spec.channel_axis == 1
        if channels is None or first == last == channels:  # ambiguous: trust the model's own layout
            return np.moveaxis(raw, 0, -1) if channels_first_layout and spatial != 2 else raw
        if last == channels and (spatial == 2 or not channels_first_layout):
            return raw
        if first == channels and (spatial == 2 or channels_first_layout):
            return np.moveaxis(raw, 0, -1)
        if channels == 1 and last == 3 and spatial == 2:  # `to_model_units` makes it grey
            return raw
    raise UsageError(
        f"a sample of shape {raw.shape} does not fit input {spec.name!r} ({spec.describe()})",
        "give samples with the model's channels",
    )
