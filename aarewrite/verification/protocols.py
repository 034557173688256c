"""The three ways to shift an input, and which shifts a run looks at.

A view at offset `d` shows the scene moved by `-d`: position p of the view is position p + d of the scene.
Offsets count from the centre crop. The three claims are different ones and are never mixed:
`crop` (the camera moved, new content enters), `circular` (roll), `fractional` (circular, sub-pixel).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from aarewrite.data.arrays import Array, Offset
from aarewrite.data.geometry import Geometry
from aarewrite.errors import UsageError

PROTOCOLS = ("crop", "circular", "fractional")
FRACTIONS = (0.25, 0.5, 0.75, 1.0)
DIRECTIONS: dict[int, dict[str, tuple[int, ...]]] = {
    1: {"time": (1,)},
    2: {"horizontal": (0, 1), "vertical": (1, 0), "diagonal": (1, 1)},
    3: {"depth": (1, 0, 0), "vertical": (0, 1, 0), "horizontal": (0, 0, 1), "diagonal": (1, 1, 1)},
}


class Views(Protocol):
    """Cuts views out of one canvas."""

    circular: bool

    def prepare(self, canvas: Array) -> Any:
        """Do once for a canvas what all its views share."""

    def at(self, state: Any, offset: Offset) -> Array:
        """Return the view at an offset, shaped like one model input without its batch axis."""


@dataclass(frozen=True)
class CropViews:
    """Crops of the canvas: what a moving camera sees."""

    geometry: Geometry
    axes: tuple[int, ...]  # spatial axes of the canvas (no batch axis)
    circular = False

    def prepare(self, canvas: Array) -> Array:
        """Return the canvas itself; crops are slices of it."""
        return canvas

    def at(self, state: Array, offset: Offset) -> Array:
        """Return the crop whose corner lies at base + offset."""
        index = [slice(None)] * state.ndim
        for axis, base, size, shift in zip(self.axes, self.geometry.base, self.geometry.size, offset, strict=True):
            index[axis] = slice(base + int(shift), base + int(shift) + size)
        return state[tuple(index)]


@dataclass(frozen=True)
class RollViews:
    """The centre crop rolled by whole pixels: nothing enters, nothing leaves."""

    geometry: Geometry
    axes: tuple[int, ...]
    circular = True

    def prepare(self, canvas: Array) -> Array:
        """Return the centre crop."""
        return CropViews(self.geometry, self.axes).at(canvas, (0,) * len(self.axes))

    def at(self, state: Array, offset: Offset) -> Array:
        """Return the centre crop rolled by -offset."""
        return np.roll(state, tuple(-int(shift) for shift in offset), self.axes)


@dataclass(frozen=True)
class FourierViews:
    """The centre crop shifted by any fraction of a pixel: the band-limited (sinc) circular shift.

    For even sizes the Nyquist component of a real signal has no phase; it is scaled by cos(pi d), the only
    real choice, so that whole-pixel shifts equal the roll exactly.
    """

    geometry: Geometry
    axes: tuple[int, ...]
    circular = True

    def prepare(self, canvas: Array) -> Array:
        """Return the centre crop's spectrum."""
        crop = RollViews(self.geometry, self.axes).prepare(canvas)
        return np.fft.fftn(crop.astype(np.float64), axes=self.axes)

    def at(self, state: Array, offset: Offset) -> Array:
        """Return the centre crop moved by -offset."""
        return fourier_shift(state, offset, self.axes).astype(np.float32)


def fourier_shift(spectrum: Array, offset: Offset, axes: tuple[int, ...]) -> Array:
    """Return the real signal with this spectrum, sampled at p + offset (circular)."""
    shifted = spectrum
    for axis, shift in zip(axes, offset, strict=True):
        n = spectrum.shape[axis]
        phase = np.exp(2j * np.pi * np.fft.fftfreq(n) * shift)
        if n % 2 == 0:
            phase[n // 2] = np.cos(np.pi * shift)
        shape = [1] * spectrum.ndim
        shape[axis] = n
        shifted = shifted * phase.reshape(shape)
    result: Array = np.fft.ifftn(shifted, axes=axes).real
    return result


def make_views(protocol: str, geometry: Geometry, axes: tuple[int, ...]) -> Views:
    """Return the views of a protocol; `axes` are the canvas's spatial axes."""
    kinds: dict[str, Any] = {"crop": CropViews, "circular": RollViews, "fractional": FourierViews}
    views: Views = kinds[protocol](geometry, axes)
    return views


@dataclass(frozen=True)
class ShiftPlan:
    """Which shifts one protocol looks at; a pure function of seed and image number.

    Attributes:
        protocol: One of `PROTOCOLS`.
        geometry: Sizes.
        distances: Pixels for the agreement over distance, in every direction.
        worst_radius: Largest |shift| per axis of the worst case.
        worst_step: Grid of the worst case (1 px; half a pixel for fractional shifts).
        seed: Seed of the consistency's offsets.
        batch_offsets: Images that share one pair of offsets; 1 draws one an image, 256 is the paper's code.
    """

    protocol: str
    geometry: Geometry
    distances: tuple[float, ...]
    worst_radius: float
    worst_step: float
    seed: int
    batch_offsets: int = 1

    @property
    def directions(self) -> dict[str, tuple[int, ...]]:
        """Unit steps by name."""
        return DIRECTIONS[len(self.geometry.size)]

    def pair(self, i: int) -> tuple[Offset, Offset]:
        """Return the two offsets of the consistency for image i, relative to the centre crop."""
        drawn = _draw(self.seed, i // self.batch_offsets, self.geometry.span, self.protocol == "fractional")
        first, second = (tuple(a - b for a, b in zip(row, self.geometry.base, strict=True)) for row in drawn)
        return first, second

    def step(self, direction: str, distance: float) -> Offset:
        """Return the offset at a distance along a direction."""
        return tuple(axis * distance for axis in self.directions[direction])

    def neighbourhood(self) -> tuple[Offset, ...]:
        """Return every offset of the worst case, the centre excepted."""
        count = round(self.worst_radius / self.worst_step)
        line = [k * self.worst_step for k in range(-count, count + 1)]
        return tuple(o for o in itertools.product(line, repeat=len(self.geometry.size)) if any(o))

    def offsets(self, i: int) -> tuple[Offset, ...]:
        """Return every offset image i is viewed at, each once, the centre first."""
        centre = (0,) * len(self.geometry.size)
        lines = (self.step(name, d) for name in self.directions for d in self.distances)
        return tuple(dict.fromkeys((centre, *lines, *self.neighbourhood(), *self.pair(i))))


@lru_cache(maxsize=256)  # an image's pair is asked for a few times, and starting a generator takes 0.4 ms
def _draw(seed: int, index: int, span: tuple[int, ...], continuous: bool) -> tuple[tuple[float, ...], ...]:
    rng = np.random.default_rng((seed, index))
    shape = (2, len(span))
    rows = rng.uniform(0, span, shape) if continuous else rng.integers(0, span, shape)
    return tuple(map(tuple, rows.tolist()))


def plan_shifts(
    protocol: str,
    geometry: Geometry,
    max_shift: int | None,
    seed: int,
    batch_offsets: int = 1,
    worst_radius: int = 1,
) -> ShiftPlan:
    """Choose the shifts of a protocol.

    Raises:
        UsageError: Unknown protocol, or a shift that does not fit on the canvas.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"--protocol {protocol}: unknown", f"use {', '.join(PROTOCOLS)}")
    if batch_offsets < 1:
        raise UsageError(f"--batch-offsets {batch_offsets}: needs at least one image", "give 1 or more")
    if max_shift is not None and max_shift < 1:
        raise UsageError(f"--max-shift {max_shift}: needs at least one pixel", "give 1 or more")
    if protocol == "fractional":
        return ShiftPlan(protocol, geometry, FRACTIONS, 0.5, 0.5, seed, batch_offsets)
    limit = geometry.reach if protocol == "crop" else min(geometry.size) - 1
    if max_shift is not None and max_shift > limit:
        raise UsageError(
            f"--max-shift {max_shift}: {geometry.describe()} leave {limit} px around the centre",
            f"give at most {limit}, or larger samples",
        )
    largest = max_shift or min(8, limit)
    return ShiftPlan(
        protocol, geometry, tuple(range(1, largest + 1)), min(worst_radius, largest), 1, seed, batch_offsets
    )
