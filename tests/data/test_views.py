"""Views whose pixels are known, and the pairs of them that every image is given."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from aarewrite.data.geometry import Geometry
from aarewrite.data.views import Views, draw_pairs, fourier_shift


def test_fourier_shift_rolls_and_interpolates():
    signal = np.random.default_rng(0).standard_normal((3, 8, 9))
    spectrum = np.fft.fftn(signal, axes=(1, 2))
    for dy, dx in itertools.product((-2, 0, 3), (0, 1)):
        np.testing.assert_allclose(
            fourier_shift(spectrum, (dy, dx), (1, 2)), np.roll(signal, (-dy, -dx), (1, 2)), atol=1e-12
        )
    t = np.arange(16)
    wave = np.cos(2 * np.pi * 3 * t / 16)
    np.testing.assert_allclose(
        fourier_shift(np.fft.fft(wave), (0.25,), (0,)), np.cos(2 * np.pi * 3 * (t + 0.25) / 16), atol=1e-12
    )


def test_the_first_pairs_are_the_same_whatever_the_count():
    geometry = Geometry((224, 224), (256, 256))
    ten = draw_pairs(5, 7, geometry, 10)
    assert draw_pairs(5, 7, geometry) == ten[:1]
    assert draw_pairs(5, 7, geometry, 3) == ten[:3]
    assert draw_pairs(5, 8, geometry) != ten[:1]
    fractions = draw_pairs(5, 7, geometry, 10, fractions=True)
    assert draw_pairs(5, 7, geometry, fractions=True) == fractions[:1]
    assert any(shift % 1 for pair in fractions for offset in pair for shift in offset)


def test_offsets_are_the_papers():
    geometry = Geometry((224, 224), (256, 256))
    drawn = {shift for i in range(50) for pair in draw_pairs(0, i, geometry, 4) for offset in pair for shift in offset}
    assert drawn == set(range(-16, 16))  # corners at 0..31, counted from the centre crop's at 16
    first, second = np.random.default_rng((0, 3)).integers(0, 32, (2, 2)) - 16
    assert draw_pairs(0, 3, geometry) == ((tuple(first), tuple(second)),)


@pytest.mark.parametrize("protocol", ["crop", "circular", "fractional"])
def test_every_view_shows_the_scene_moved_by_its_offset(protocol):
    canvas = np.random.default_rng(0).standard_normal((1, 20, 20)).astype(np.float32)
    views = Views(protocol, Geometry((16, 16), (20, 20)), (1, 2))
    state = views.prepare(canvas)
    np.testing.assert_allclose(views.at(state, (0, 0)), canvas[:, 2:18, 2:18], atol=1e-6)
    moved = canvas[:, 3:19, 1:17] if protocol == "crop" else np.roll(canvas[:, 2:18, 2:18], (-1, 1), (1, 2))
    np.testing.assert_allclose(views.at(state, (1, -1)), moved, atol=1e-6)
    assert views.circular is (protocol != "crop")
