"""Taps, kernels, pads, and what counts as a blur."""

from __future__ import annotations

from fractions import Fraction
from math import prod

import numpy as np
import pytest

from aarewrite.filters import (
    axis_sizes,
    binomial_taps,
    centred_pads,
    depthwise_kernel,
    integer_kernel,
    is_blur_kernel,
    symmetric_pads,
)

TAPS = {
    1: [1],
    2: [1, 1],
    3: [1, 2, 1],
    4: [1, 3, 3, 1],
    5: [1, 4, 6, 4, 1],
    6: [1, 5, 10, 10, 5, 1],
    7: [1, 6, 15, 20, 15, 6, 1],
}


@pytest.mark.parametrize(("size", "taps"), TAPS.items())
def test_taps(size: int, taps: list[int]) -> None:
    assert binomial_taps(size) == taps


@pytest.mark.parametrize("size", [0, 8, -1])
def test_taps_out_of_range(size: int) -> None:
    with pytest.raises(ValueError, match=f"filter size {size} is not in 1..7"):
        binomial_taps(size)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("size", TAPS)
def test_kernels_are_exact(size: int, rank: int) -> None:
    kernel = depthwise_kernel((size,) * rank, 3)
    assert kernel.shape == (3, 1, *(size,) * rank)
    assert all(kernel[c].sum() == 1 for c in range(3))
    taps = [Fraction(tap, 2 ** (size - 1)) for tap in TAPS[size]]
    for index in np.ndindex(*(size,) * rank):
        assert Fraction(float(kernel[(0, 0, *index)])) == prod(taps[k] for k in index)
    if rank < 3:
        assert np.array_equal(kernel.astype(np.float16).astype(np.float64), kernel)


def test_int8_taps_fit_up_to_six() -> None:
    assert integer_kernel((6, 6)).max() == 100
    assert integer_kernel((7, 7)).max() == 400


def test_axes_of_stride_1_get_the_single_tap() -> None:
    assert axis_sizes(5, (1, 2, 4)) == (1, 5, 5)
    assert integer_kernel((1, 3)).tolist() == [[1, 2, 1]]


@pytest.mark.parametrize("size", TAPS)
def test_centred_pads(size: int) -> None:
    assert centred_pads((size,)) == (((size - 1) // 2,), (size // 2,))


@pytest.mark.parametrize(("size", "stride", "pad"), [(3, 2, 1), (4, 2, 2), (3, 4, 2), (1, 2, 0), (5, 1, 2)])
def test_symmetric_pads(size: int, stride: int, pad: int) -> None:
    assert symmetric_pads((size,), (stride,)) == ((pad,), (pad,))


@pytest.mark.parametrize("size", TAPS)
def test_own_kernels_are_blurs(size: int) -> None:
    assert is_blur_kernel(depthwise_kernel((size, size), 4).astype(np.float16))


def test_what_is_no_blur() -> None:
    blur = depthwise_kernel((3, 3), 2)
    unequal = blur.copy()
    unequal[1] = np.full((3, 3), 1 / 9)
    assert not is_blur_kernel(unequal)
    assert not is_blur_kernel(2 * blur)
    assert not is_blur_kernel(-blur)
    assert not is_blur_kernel(np.array([[[0.5, 0.3, 0.2]]]))
    assert is_blur_kernel(np.full((2, 1, 2, 2), 0.25))
    assert is_blur_kernel(np.array([[[-0.0625, 0, 0.5625, 1, 0.5625, 0, -0.0625]]]) / 2)  # a half-band low-pass
    assert not is_blur_kernel(np.array([[[-0.25, 1.5, -0.25]]]))  # sums to 1 and sharpens
