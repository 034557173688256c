"""Blur filters: taps, n-D kernels and padding.

Source: R. Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019. The taps of size f are the
binomial coefficients of order f - 1; an n-D kernel is the outer product of its axes' taps, divided by its sum.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt

PADS = ("reflect", "edge", "zero")
LARGEST_FILTER = 7
MOST_RIPPLE = 0.3  # of a sinc cut off without a window


def binomial_taps(size: int) -> list[int]:
    """Unnormalised binomial taps of `size` (1..7), e.g. 3 -> [1, 2, 1].

    Raises:
        ValueError: `size` is out of range.
    """
    if not 1 <= size <= LARGEST_FILTER:
        raise ValueError(f"filter size {size} is not in 1..{LARGEST_FILTER}")
    return [comb(size - 1, k) for k in range(size)]


def axis_sizes(size: int, strides: tuple[int, ...]) -> tuple[int, ...]:
    """Taps per axis: `size` where the axis is subsampled, the single tap 1 where its stride is 1."""
    return tuple(size if stride > 1 else 1 for stride in strides)


def integer_kernel(sizes: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Outer product of the axes' binomial taps, shape `sizes`, not normalised."""
    return np.rint(outer(np.array(binomial_taps(size), dtype=np.float64) for size in sizes)).astype(np.int64)


def taps(size: int, strength: float = 1.0) -> npt.NDArray[np.float64]:
    """Taps that sum to 1, float64: the identity and the binomial filter mixed, `strength` in 0..1 of the latter.

    Of size 3 they are (b/4, 1 - b/2, b/4). Below strength 1 the size must be odd, for the identity needs a centre.
    """
    binomial = np.array(binomial_taps(size)) / 2.0 ** (size - 1)
    identity = np.zeros(size)
    identity[size // 2] = 1
    return binomial if strength == 1 else strength * binomial + (1 - strength) * identity


def outer(vectors: Iterable[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Outer product of one vector per axis."""
    kernel = np.ones(())
    for vector in vectors:
        kernel = np.multiply.outer(kernel, vector)
    return np.asarray(kernel)


def depthwise_kernel(sizes: tuple[int, ...], channels: int, strength: float = 1.0) -> npt.NDArray[np.float64]:
    """Depthwise Conv weight of shape (channels, 1, *sizes) whose taps sum to 1, float64.

    At strength 1 every tap is an integer times 2^-k, hence exact in float16 and bfloat16 too.
    """
    kernel = outer(taps(size, strength) for size in sizes)
    return np.broadcast_to(kernel, (channels, 1, *sizes)).copy()


def centred_pads(sizes: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Begin and end pads per axis, floor and ceil of (f - 1) / 2: with them a dense operator followed by the
    blur has the size of the strided operator (floor mode)."""
    return tuple((f - 1) // 2 for f in sizes), tuple(f // 2 for f in sizes)


def symmetric_pads(sizes: tuple[int, ...], strides: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """timm's equal pads on both sides, ((s - 1) + (f - 1)) // 2 per subsampled axis."""
    pads = tuple(((s - 1) + (f - 1)) // 2 if f > 1 else 0 for f, s in zip(sizes, strides, strict=True))
    return pads, pads


@dataclass(frozen=True)
class Blur:
    """A depthwise low-pass filter: one entry per spatial axis in sizes (taps), strides, begin and end (pads).

    `identity` makes the structural twin: every tap is 0 but the centre one, floor((f-1)/2), so that padding, size,
    stride and wiring stay those of the real filter while the map is only subsampled.
    """

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    mode: str  # "reflect", "edge" or "zero"
    strength: float = 1.0  # as in `taps`
    identity: bool = False

    def axis_taps(self) -> list[npt.NDArray[np.float64]]:
        """The taps of each axis, sum 1, float64."""
        if self.identity:
            return [np.eye(size)[(size - 1) // 2] for size in self.sizes]
        return [taps(size, self.strength) for size in self.sizes]

    def kernel(self, channels: int) -> npt.NDArray[np.float64]:
        """Depthwise Conv weight of shape (channels, 1, *sizes) whose taps sum to 1, float64."""
        return np.broadcast_to(outer(self.axis_taps()), (channels, 1, *self.sizes)).copy()

    def integer_kernel(self) -> npt.NDArray[np.int64] | None:
        """The kernel times the power of two that makes every tap whole, shape `sizes`; None where they do not fit int8
        or are mixed with the identity."""
        whole = integer_kernel(self.sizes)
        if self.strength < 1 or whole.max() > 127:
            return None
        return outer(self.axis_taps()).astype(np.int64) if self.identity else whole


def is_blur_kernel(weight: npt.NDArray[np.generic]) -> bool:
    """Whether a depthwise weight (C, 1, *k) is a low-pass filter: equal for all channels, symmetric along every axis,
    sum 1, and no frequency amplified, or only as the ripple of a filter that halves the highest frequency of every
    axis or more (a windowed sinc). The single tap 1 (plain subsampling, the structural twin) counts."""
    kernels = np.asarray(weight, dtype=np.float64)
    first = kernels[0, 0]
    flips = (np.flip(first, axis) for axis in range(first.ndim))
    tolerance = 1e-3
    alike = np.allclose(kernels, first, atol=tolerance) and abs(first.sum() - 1) <= tolerance
    if not alike or not all(np.allclose(first, flipped, atol=tolerance) for flipped in flips):
        return False
    response = np.abs(np.fft.fftn(first, [4 * size for size in first.shape], range(first.ndim)))
    highest = [response[(0,) * axis + (2 * size,)].flat[0] for axis, size in enumerate(first.shape) if size > 1]
    ripple = MOST_RIPPLE if max(highest, default=1) <= 0.5 else 0
    return bool(response.max() <= 1 + max(ripple, tolerance))


def axis_taps(kernel: npt.NDArray[np.generic], tolerance: float = 1e-3) -> list[npt.NDArray[np.float64]] | None:
    """The taps along each axis, sum 1, of a kernel that is their outer product within `tolerance` of its largest tap;
    None where it is none."""
    whole = np.asarray(kernel, dtype=np.float64)
    axes = range(whole.ndim)
    sums = [whole.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes]
    return sums if np.allclose(outer(sums), whole, rtol=0, atol=tolerance * np.abs(whole).max()) else None
