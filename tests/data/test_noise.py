"""Synthetic samples: their spectrum, their seed."""

from __future__ import annotations

import numpy as np
import pytest

from aarewrite.data.noise import pink_noise


def test_pink_noise_falls_as_one_over_f():
    noise = pink_noise((1, 128, 128), (0, 3), (1, 2))
    power = np.abs(np.fft.fft2(noise[0])) ** 2
    assert abs(float(noise.mean())) < 1e-6
    assert float(noise.std()) == pytest.approx(1, rel=1e-5)
    low, high = power[0, 4:8].mean(), power[0, 32:64].mean()
    assert 20 < low / high < 300  # amplitude 1/f: power falls 64-fold over a factor of 8
    assert np.array_equal(noise, pink_noise((1, 128, 128), (0, 3), (1, 2)))
