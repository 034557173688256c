"""Views of one canvas: the three ways to shift an input, and which pairs of views an image's consistency is taken from.

A view at offset `d` shows the scene moved by `-d`: position p of the view is position p + d of the scene.
Offsets count from the centre crop. The three claims are different ones and are never mixed:
`crop` (the camera moved, new content enters), `circular` (roll), `fractional` (circular, sub-pixel).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from aarewrite.data.arrays import Array, Offset, along, window
from aarewrite.data.geometry import Geometry

LARGE = 1 << 26  # bytes of a spectrum that is shifted in parts, each of which takes a few times its size
DIRECTIONS: dict[int, dict[str, tuple[int, ...]]] = {
    1: {"time": (1,)},
    2: {"horizontal": (0, 1), "vertical": (1, 0), "diagonal": (1, 1)},
    3: {"depth": (1, 0, 0), "vertical": (0, 1, 0), "horizontal": (0, 0, 1), "diagonal": (1, 1, 1)},
}


@dataclass(frozen=True)
class Views:
    """Cuts a protocol's views out of one canvas."""

    # `crop`, what a moving camera sees; `circular`, the centre crop rolled by whole pixels; `fractional`, the centre
    # crop shifted by any fraction of a pixel
    protocol: str
    geometry: Geometry  # sizes
    axes: tuple[int, ...]  # spatial axes of the canvas, which has no batch axis

    @property
    def circular(self) -> bool:
        """Whether nothing enters and nothing leaves."""
        return self.protocol != "crop"

    def centre(self, canvas: Array) -> Array:
        """Return the centre crop."""
        return window(canvas, self.axes, self.geometry.base, self.geometry.size)

    def prepare(self, canvas: Array) -> Array:
        """Do once for a canvas what all its views share: cut the centre, take its spectrum."""
        if self.protocol == "crop":
            return canvas
        crop = self.centre(canvas)
        return crop if self.protocol == "circular" else np.fft.fftn(crop.astype(np.float64), axes=self.axes)

    def at(self, state: Array, offset: Offset) -> Array:
        """Return the view at an offset of what `prepare` returned, shaped like one input without its batch axis."""
        if self.protocol == "crop":
            return window(state, self.axes, np.add(self.geometry.base, offset).tolist(), self.geometry.size)
        if self.protocol == "circular":
            return np.roll(state, [-int(shift) for shift in offset], self.axes)
        return fourier_shift(state, offset, self.axes).astype(np.float32)


def fourier_shift(spectrum: Array, offset: Offset, axes: tuple[int, ...]) -> Array:
    """Return the real signal with this spectrum, sampled at p + offset: the band-limited (sinc) circular shift.

    For even sizes the Nyquist component of a real signal has no phase; it is scaled by cos(pi d), the only
    real choice, so that whole-pixel shifts equal the roll exactly.
    """
    others = [axis for axis in range(spectrum.ndim) if axis not in axes]
    if spectrum.nbytes > LARGE and others:
        longest = max(others, key=lambda axis: spectrum.shape[axis])
        parts = np.array_split(spectrum, min(-(-spectrum.nbytes // LARGE), spectrum.shape[longest]), longest)
        return np.concatenate([_shifted(part, offset, axes) for part in parts], longest)
    return _shifted(spectrum, offset, axes)


def _shifted(spectrum: Array, offset: Offset, axes: tuple[int, ...]) -> Array:
    shifted = spectrum
    for axis, shift in zip(axes, offset, strict=True):
        n = spectrum.shape[axis]
        phase = np.exp(2j * np.pi * np.fft.fftfreq(n) * shift)
        if n % 2 == 0:
            phase[n // 2] = np.cos(np.pi * shift)
        shifted = shifted * along(phase, axis, spectrum.ndim)
    result: Array = np.fft.ifftn(shifted, axes=axes).real
    return result


@lru_cache(maxsize=16)  # an image's pairs are asked for a few times; starting a generator takes 0.4 ms
def draw_pairs(
    seed: int, index: int, geometry: Geometry, count: int = 1, fractions: bool = False
) -> tuple[tuple[Offset, Offset], ...]:
    """The pairs of views that the consistency of one image is taken from (R. Zhang, ICML 2019).

    Both offsets of a pair are uniform in 0..span-1 along each axis of the canvas, as in the paper's code; they
    count from the centre crop. The draw depends on seed and image number alone, so that two models see the same pairs,
    and the first pairs are the same whatever the count. `fractions` draws fractions of a pixel.
    """
    rng = np.random.default_rng((seed, index))
    shape = (count, 2, len(geometry.size))
    drawn = rng.uniform(0, geometry.span, shape) if fractions else rng.integers(0, geometry.span, shape)
    first, second = np.moveaxis(drawn - np.asarray(geometry.base), 1, 0).tolist()
    return tuple(zip(map(tuple, first), map(tuple, second), strict=True))
