"""Blur filters: taps, n-D kernels and padding.

Source: R. Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019. The taps of size f are the
binomial coefficients of order f - 1; an n-D kernel is the outer product of its axes' taps, divided by its sum.
"""

from __future__ import annotations

from math import comb

import numpy as np
import numpy.typing as npt

PADS = ("reflect", "edge", "zero")
LARGEST_FILTER = 7


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
    kernel = np.ones((), dtype=np.int64)
    for size in sizes:
        kernel = np.multiply.outer(kernel, np.array(binomial_taps(size)))
    return np.asarray(kernel, dtype=np.int64)


def depthwise_kernel(sizes: tuple[int, ...], channels: int) -> npt.NDArray[np.float64]:
    """Depthwise Conv weight of shape (channels, 1, *sizes) whose taps sum to 1, float64.

    Every tap is an integer times 2^-k, hence exact in float16 and bfloat16 too.
    """
    kernel = integer_kernel(sizes)
    return np.broadcast_to(kernel / kernel.sum(), (channels, 1, *sizes)).copy()


def centred_pads(sizes: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Begin and end pads per axis, floor and ceil of (f - 1) / 2: with them a dense operator followed by the
    blur has the size of the strided operator (floor mode)."""
    return tuple((f - 1) // 2 for f in sizes), tuple(f // 2 for f in sizes)


def symmetric_pads(sizes: tuple[int, ...], strides: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """timm's equal pads on both sides, ((s - 1) + (f - 1)) // 2 per subsampled axis."""
    pads = tuple(((s - 1) + (f - 1)) // 2 if f > 1 else 0 for f, s in zip(sizes, strides, strict=True))
    return pads, pads


def is_blur_kernel(weight: npt.NDArray[np.generic]) -> bool:
    """Whether a depthwise weight (C, 1, *k) is a low-pass filter: equal for all channels, non-negative,
    symmetric along every axis, sum 1. The single tap 1 (plain subsampling, the structural twin) counts."""
    kernels = np.asarray(weight, dtype=np.float64)
    first = kernels[0, 0]
    flips = (np.flip(first, axis) for axis in range(first.ndim))
    tolerance = 1e-3
    return bool(
        np.all(kernels >= 0)
        and np.allclose(kernels, first, atol=tolerance)
        and all(np.allclose(first, flipped, atol=tolerance) for flipped in flips)
        and abs(first.sum() - 1) <= tolerance
    )
