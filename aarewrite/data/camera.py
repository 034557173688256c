"""What a camera sees twice: pairs of views of one scene, near (at most 1 px apart) and far, under named conditions.

A camera does not move by whole pixels. Each view is the scene moved by a fraction of a pixel, scaled, turned, sampled
with sensor noise, compressed as JPEG and resized by the user's own filter, in this order; its `CONDITIONS` say which
of these happen. Pairs of whole-pixel crops without them (severity 0) are exactly those of the `crop` protocol.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from aarewrite.data.arrays import Array, Offset, window
from aarewrite.data.geometry import Geometry, cover
from aarewrite.data.views import draw_pairs
from aarewrite.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

CONDITIONS = ("shift", "noise", "jpeg", "scale", "rotation", "resize", "mixed")  # `mixed`: all at once
SCALE, ANGLE, NOISE, QUALITY, DENSITY = 0.01, 0.5, 5.0, (75, 95), 1.25
MOST_SEVERE = 4.0  # multiplies all of these at most
# Reflected border around the scene, for what turning, scaling and interpolation read beside it: px, and a share of the
# view for the two at their most severe
BORDER, BORDER_SHARE = 4, 0.05
LARGEST_FRAME = 2.0  # density of the scene at most, relative to the canvas


@dataclass(frozen=True)
class View:
    """One exposure; without any effect and at a whole offset it is a crop of the canvas."""

    offset: Offset  # px of the model's input, from the centre crop, along (y, x)
    scale: float = 1.0  # size of things relative to the scene's, about the view's centre
    angle: float = 0.0  # by which the scene is turned about the view's centre, degrees
    noise: float = 0.0  # standard deviation of the sensor's noise, of 255
    quality: int | None = None  # of the JPEG, None: not compressed
    density: float = 1.0  # pixels of the frame per pixel of the input: the user's resize brings it back
    seed: tuple[int, ...] = field(default=(0,), repr=False)  # of the noise


@dataclass(frozen=True)
class Pair:
    """Two views of one scene."""

    condition: str  # one of `CONDITIONS`
    near: bool  # at most 1 px apart; else up to the whole span of crop offsets
    views: tuple[View, View]


def draw_camera_pairs(
    seed: int,
    index: int,
    geometry: Geometry,
    conditions: Sequence[str] = CONDITIONS,
    count: int = 1,
    severity: float = 1.0,
) -> tuple[Pair, ...]:
    """The pairs of image `index`: `count` near and far ones under each condition.

    The far pairs' whole offsets are those of `draw_pairs`, the same under every condition; near pairs begin at the
    first of each. Both views have their own fraction of a pixel (`shift`), noise of sigma 0..5 of 255, JPEG quality
    75..95, scale within 1 %, angle within 0.5 degrees, frame up to 1.25 times denser than the input (`resize`), each
    uniform, multiplied by the severity (the distance of quality from 100, the fraction of a pixel up to 1) and drawn
    anew for every view from seed, image, condition and number alone.

    Raises:
        UsageError: An unknown condition, or a severity out of range.
    """
    check_camera(conditions, severity)
    span, base = np.asarray(geometry.span, float), np.asarray(geometry.base, float)
    pairs = []
    for condition in conditions:
        code = CONDITIONS.index(condition)
        for number, far in enumerate(draw_pairs(seed, index, geometry, count)):
            rng = np.random.default_rng((seed, index, code, number))
            step, *fractions = rng.uniform(-1, 1, (3, 2))
            blend = min(severity, 1.0) if condition in ("shift", "mixed") else 0.0
            whole = np.rint(step)
            if not whole.any():  # a view that does not move shows nothing
                longer = int(np.abs(step).argmax())
                whole[longer] = math.copysign(1, step[longer])
            step = whole + blend * (step - whole)
            first, second = (
                _inside(np.add(base, whole), 0.5 * blend * fraction, span)
                for whole, fraction in zip(far, fractions, strict=True)
            )
            for near in (True, False):
                places = first - base, (_inside(first, step, span) if near else second) - base
                views = [
                    _exposure(tuple(place.tolist()), condition, severity, rng, (seed, index, code, number, near, k))
                    for k, place in enumerate(places)
                ]
                pairs.append(Pair(condition, near, (views[0], views[1])))
    return tuple(pairs)


def check_camera(conditions: Sequence[str], severity: float, count: int = 1) -> None:
    """Refuse, as `UsageError`, conditions, a severity or a count of pairs that no camera has."""
    if unknown := next((name for name in conditions if name not in CONDITIONS), None):
        raise UsageError(f"--conditions {unknown}: unknown", f"use {', '.join(CONDITIONS)}")
    if not conditions or len(set(conditions)) < len(conditions):
        given = ",".join(conditions)
        raise UsageError(f"--conditions {given!r}: none, or one twice", f"use {', '.join(CONDITIONS)}, each once")
    if not 0 <= severity <= MOST_SEVERE:
        raise UsageError(f"--severity {severity:g}: out of range", f"give a number from 0 to {MOST_SEVERE:g}")
    if count < 1:
        raise UsageError(f"--camera-pairs {count}: needs at least one pair", "give 1 or more")


def describe_conditions(conditions: Sequence[str], severity: float) -> str:
    """What the conditions do to a view at a severity, in one line."""
    effects = {
        "shift": f"moved by a fraction of a pixel (up to {min(severity, 1) / 2:g} px, band-limited)",
        "noise": f"noise of sigma 0..{severity * NOISE:g} of 255",
        "jpeg": "JPEG quality " + "..".join(str(_quality(severity, quality)) for quality in QUALITY),
        "scale": f"scale within {100 * severity * SCALE:g} %",
        "rotation": f"turned within {severity * ANGLE:g} degrees",
        "resize": f"frame 1..{1 + severity * (DENSITY - 1):g} times denser, resized by the user's filter",
    }
    if severity == 0:
        return "severity 0: whole-pixel crops without any effect"
    alone = [f"{name}: {effects[name]}" for name in conditions if name in effects]
    mixed = ["mixed: all at once" + (f" ({', '.join(effects.values())})" if not alone else "")]
    return "; ".join(alone + mixed * ("mixed" in conditions)) + "; each uniform, drawn for every view"


def _quality(severity: float, quality: float) -> int:
    return max(1, round(100 - severity * (100 - quality)))


def _inside(start: Array, step: Array, span: Array) -> Array:
    """One step from a place in 0..span, backwards where it would lead out of that."""
    there: Array = start + step
    return np.where((there < 0) | (there > span), start - step, there)


def _exposure(offset: Offset, condition: str, severity: float, rng: np.random.Generator, seed: tuple[int, ...]) -> View:
    scale, angle, noise, density = (
        severity * rng.uniform((-SCALE, -ANGLE, 0, 0), (SCALE, ANGLE, NOISE, DENSITY - 1))
    ).tolist()
    quality = _quality(severity, rng.uniform(*QUALITY))

    def on(name: str) -> bool:
        return severity > 0 and condition in (name, "mixed")

    return View(
        offset,
        1 + scale if on("scale") else 1.0,
        angle if on("rotation") else 0.0,
        noise if on("noise") else 0.0,
        quality if on("jpeg") else None,
        1 + density if on("resize") else 1.0,
        seed,
    )


@dataclass(frozen=True)
class Scene:
    """A picture that views are taken of.

    Attributes:
        frame: What the camera looks at, `(H, W, C)` bytes, C 1 or 3, of any density.
        canvas: What the user's preprocessing makes of it, `(h, w, C)` bytes.
        corner: Where the canvas begins in the frame resized to the canvas's density, px along (y, x).
        density: Frame pixels per canvas pixel along (y, x).
        geometry: Sizes.
        interpolation: Pillow's filter of the user's resize.
        finish: Brings a view, `(h, w, C)` bytes of the input's size, to the model's units and layout.
    """

    frame: Array
    canvas: Array
    corner: tuple[float, float]
    density: tuple[float, float]
    geometry: Geometry
    interpolation: str
    finish: Callable[[Array], Array]

    def view(self, view: View) -> Array:
        """One view in the model's units and layout, without a batch axis."""
        return self.finish(self.picture(view))

    def picture(self, view: View) -> Array:
        """One view as bytes, `(h, w, C)` of the model's input size."""
        from PIL import Image

        size = self.geometry.size
        moved = view.scale != 1 or view.angle != 0 or view.density != 1 or any(o % 1 for o in view.offset)
        if moved:
            image = self._sampled(view)
        else:
            starts = np.add(self.geometry.base, view.offset).tolist()
            image = window(self.canvas, (0, 1), starts, size)
        if view.noise:
            drawn = np.random.default_rng(view.seed).standard_normal(image.shape, np.float32)
            image = np.clip(np.rint(image + np.float32(view.noise) * drawn), 0, 255).astype(np.uint8)
        if view.quality is not None:
            data = io.BytesIO()
            _image(image).save(data, "jpeg", quality=view.quality)
            image = np.asarray(Image.open(data)).reshape(image.shape)
        if image.shape[:2] != size:
            resized = _image(image).resize((size[1], size[0]), Image.Resampling[self.interpolation.upper()])
            image = np.asarray(resized).reshape(*size, -1)
        result: Array = image
        return result

    def _sampled(self, view: View) -> Array:
        """The view sampled from the frame, at its own density: band-limited by Lanczos's filter, but turned by cubic
        interpolation at the frame's density."""
        from PIL import Image

        size, source = np.asarray(self.geometry.size), self._padded
        wanted = np.rint(size * view.density).astype(int)
        density = np.asarray(self.density)
        centre = (np.asarray(self.geometry.base) + view.offset + size / 2 + self.corner) * density + self._margin
        extent = size * density / view.scale  # of the view in the frame
        if view.angle:
            inner = np.rint(size * density).astype(int)
            step = extent / inner
            cos, sin = math.cos(math.radians(view.angle)), math.sin(math.radians(view.angle))
            # Pillow's coefficients: x and y in the frame of the result's pixel (x, y)
            turn = np.array([[cos * step[1], sin * step[0]], [-sin * step[1], cos * step[0]]])
            start = centre[::-1] - turn @ (inner[::-1] / 2)
            rows = (*turn[0].tolist(), float(start[0]), *turn[1].tolist(), float(start[1]))
            shape = tuple(inner[::-1].tolist())
            # It cuts fractions of a grey level off where `resize` rounds: turned views are half a level darker.
            source = source.transform(shape, Image.Transform.AFFINE, rows, Image.Resampling.BICUBIC)
            box = (0.0, 0.0, float(shape[0]), float(shape[1]))
        else:
            top, left = centre - extent / 2
            bottom, right = centre + extent / 2
            box = (float(left), float(top), float(right), float(bottom))
        found = source.resize(tuple(wanted[::-1].tolist()), Image.Resampling.LANCZOS, box=box)
        image: Array = np.asarray(found).reshape(*wanted.tolist(), -1)
        return image

    @cached_property
    def _margin(self) -> Array:
        border = BORDER + BORDER_SHARE * np.asarray(self.geometry.size)
        side: Array = np.ceil(border * self.density).astype(int)
        return side

    @cached_property
    def _padded(self) -> Picture:
        pads = [(side, side) for side in self._margin.tolist()]
        return _image(np.pad(self.frame, [*pads, (0, 0)], mode="reflect" if min(self.frame.shape[:2]) > 1 else "edge"))


def scene(
    stored: Array, canvas: Array, geometry: Geometry, interpolation: str, finish: Callable[[Array], Array]
) -> Scene:
    """The scene of a picture as stored, `(H, W, C)` bytes of any size, whose canvas was made by resizing it to cover
    the canvas and cutting out the centre.

    Where nothing was resized (stored arrays, reflected borders) the canvas is all there is to see.
    """
    if geometry.padded or stored.shape[:2] == canvas.shape[:2]:
        return Scene(canvas, canvas, (0, 0), (1, 1), geometry, interpolation, finish)
    target = cover(stored.shape[:2], geometry.canvas)
    most = [round(LARGEST_FRAME * extent) for extent in target]
    if stored.shape[0] > most[0]:
        from PIL import Image

        stored = np.asarray(_image(stored).resize((most[1], most[0]), Image.Resampling.LANCZOS, reducing_gap=2.0))
    corner = tuple((have - want) // 2 for have, want in zip(target, geometry.canvas, strict=True))
    density = tuple(have / want for have, want in zip(stored.shape[:2], target, strict=True))
    return Scene(stored, canvas, (corner[0], corner[1]), (density[0], density[1]), geometry, interpolation, finish)


def _image(values: Array) -> Picture:
    from PIL import Image

    picture: Picture = Image.fromarray(values[..., 0] if values.shape[-1] == 1 else np.ascontiguousarray(values))
    return picture
