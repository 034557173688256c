"""Two maps of one scene, of which one has moved: brought to the part that both show, by fractions of a pixel too."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from aarewrite.data.arrays import Array, window
from aarewrite.data.views import fourier_shift

LOBES = 4  # of the windowed sinc that fractions of a pixel are undone with, as far as the map has room


def register(
    base: Array, moved: Array, axes: Sequence[int], moves: Sequence[Fraction], circular: bool
) -> tuple[Array, Array]:
    """Return the part of two maps that both show; it may be empty.

    Position p of `moved` is position p + move of the scene that `base` has at p. Whole pixels are cut away, or rolled
    where nothing enters or leaves; fractions are undone by band-limited interpolation: exactly where the map is
    `circular`, else by a sinc windowed by its own central lobe (C. E. Duchon, 1979), whose reach is cut away too.

    Args:
        base: The map.
        moved: The same of the moved scene, of the same shape.
        axes: Those that are space.
        moves: By how many pixels of the maps, 0 or more, one an axis.
        circular: Whether what leaves at one border enters at the other.
    """
    for axis, move in zip(axes, moves, strict=True):
        whole, fraction = divmod(move, 1)
        if circular:
            moved = np.roll(moved, whole, axis) if fraction == 0 else _roll(moved, move, axis)
        elif fraction == 0:
            size = max(0, base.shape[axis] - whole)
            base, moved = window(base, [axis], [whole], [size]), window(moved, [axis], [0], [size])
        else:
            base, moved = _interpolated(base, moved, axis, whole, float(fraction))
    return base, moved


def _roll(values: Array, shift: Fraction, axis: int) -> Array:
    spectrum = np.fft.fft(values.astype(np.float64), axis=axis)
    return fourier_shift(spectrum, (-float(shift),), (axis,))


def _interpolated(base: Array, moved: Array, axis: int, whole: int, fraction: float) -> tuple[Array, Array]:
    n = base.shape[axis]
    lobes = max(1, min(LOBES, n // 4))
    first, last = lobes, n - max(whole, lobes - 1)  # positions of `moved` whose neighbours, and partners, are there
    last = max(first, last)
    offsets = np.arange(1 - lobes, lobes + 1)
    weights = np.sinc(offsets - fraction) * np.sinc((offsets - fraction) / lobes)
    weights /= weights.sum()
    values = sum(
        weight * window(moved, [axis], [first - k], [last - first]).astype(np.float64)
        for k, weight in zip(offsets.tolist(), weights.tolist(), strict=True)
    )
    return window(base, [axis], [first + whole], [last - first]), np.asarray(values)
