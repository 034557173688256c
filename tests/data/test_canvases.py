"""Canvases and the crops that are fitted on and judged by."""

from __future__ import annotations

import numpy as np
import pytest

from aarewrite.data.canvases import Canvases, from_array
from aarewrite.errors import UsageError


def noise(count: int, size: int = 24) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 2, size, size)).astype(np.float32)


def test_samples_as_large_as_the_input_are_shifted_within_a_reflected_border():
    canvases = from_array(noise(3), "x")
    sample = canvases.load(0)
    assert sample.shape == (2, 30, 30)
    assert canvases.crop(sample, (3, 3)).shape == (2, 24, 24)
    np.testing.assert_array_equal(canvases.crop(sample, (3, 3)), noise(3)[0])


def test_shifts_are_judged_on_a_canvas_in_the_middle():
    canvases = from_array(noise(1, 40), "x", size=(16, 16))
    geometry, canvas = canvases.centred(canvases.load(0))
    assert (geometry.size, geometry.canvas) == ((16, 16), (20, 20))
    np.testing.assert_array_equal(canvas, noise(1, 40)[0, :, 10:30, 10:30])
    with pytest.raises(UsageError, match="no room to shift"):
        Canvases(1, lambda i: noise(1)[i], "x", (24, 24)).centred(noise(1)[0])


def test_batches_repeat_and_the_split_is_disjoint():
    canvases = from_array(noise(10), "x", size=(16, 16), batch=4)
    batches = canvases.batches([1, 5, 7], crops=2, seed=9)
    first, second = list(batches()), list(batches())
    assert [len(feed["x"]) for feed in first] == [4, 2]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one["x"], other["x"])
    fitted, judged = canvases.split(1 / 3, seed=1)
    assert len(judged) == 3
    assert sorted([*fitted, *judged]) == list(range(10))
    with pytest.raises(UsageError, match="too few"):
        from_array(noise(1), "x", size=(16, 16)).split(0.3)
