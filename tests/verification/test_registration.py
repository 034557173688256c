"""Moved maps brought back: whole pixels exactly, fractions as far as the map is band-limited."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from aarewrite.verification.registration import register

F = Fraction


def wave(size: int, period: float, moved: float = 0) -> np.ndarray:
    return np.sin(2 * np.pi * (np.arange(size) + moved) / period + 0.3)


def test_whole_pixels_are_cut_away_or_rolled():
    scene = np.arange(80.0).reshape(8, 10)
    base, moved = scene[:6, :7], scene[2:, 3:]
    first, second = register(base, moved, (0, 1), (F(2), F(3)), circular=False)
    assert first.shape == (4, 4)
    assert np.array_equal(first, second)
    first, second = register(scene, np.roll(scene, (-2, -3), (0, 1)), (0, 1), (F(2), F(3)), circular=True)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("move", [F(1, 4), F(1, 2), F(5, 4), F(15, 16)])
def test_fractions_of_a_band_limited_map_are_undone(move):
    first, second = register(wave(32, 8), wave(32, 8, float(move)), (0,), (move,), circular=True)
    assert np.abs(first - second).max() < 1e-12
    first, second = register(wave(32, 8), wave(32, 8, float(move)), (0,), (move,), circular=False)
    assert len(first) == 32 - 4 - max(int(move), 3)
    assert first[0] == wave(32, 8)[4 + int(move)]
    assert np.abs(first - second).max() < 0.01
    untouched, _ = register(wave(32, 8), wave(32, 8, float(move)), (0,), (F(0),), circular=False)
    assert np.abs(untouched - wave(32, 8, float(move))).max() > 0.15  # what is undone


def test_a_constant_stays_one_and_small_maps_have_fewer_lobes():
    for size in (3, 5, 22):
        first, second = register(np.ones((1, size)), np.full((1, size), 3.0), (1,), (F(1, 3),), circular=False)
        assert first.shape == second.shape
        assert first.size
        assert second == pytest.approx(3)


@pytest.mark.parametrize("move", [F(3), F(4), F(7, 2), F(9, 2)])
def test_a_move_as_large_as_the_map_leaves_nothing(move):
    for values in register(np.ones((2, 3)), np.ones((2, 3)), (0, 1), (F(0), move), circular=False):
        assert values.shape == (2, 0)


def test_what_lies_beyond_the_band_stays_apart():
    alternating = (np.arange(24) % 2).astype(float)
    first, second = register(alternating, alternating, (0,), (F(1, 2),), circular=False)
    assert np.abs(first - second).min() > 0.4
