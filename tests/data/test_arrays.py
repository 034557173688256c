"""What the names for data promise, held against those who make such values."""

from __future__ import annotations

import numpy as np
import pytest

from aarewrite.data import arrays
from aarewrite.data.canvases import from_array
from aarewrite.data.geometry import Geometry
from aarewrite.data.views import draw_pairs
from aarewrite.model import types


def test_an_array_is_the_models_array() -> None:
    assert arrays.Array is types.Array


def test_batches_start_anew_at_every_call_even_after_one_that_was_left() -> None:
    samples = np.random.default_rng(0).standard_normal((5, 2, 24, 24)).astype(np.float32)
    batches: arrays.Batches = from_array(samples, "x", size=(16, 16), batch=2).batches([0, 2, 4], seed=3)
    whole = [feed["x"] for feed in batches()]
    left = iter(batches())
    next(left)
    again = [feed["x"] for feed in batches()]
    assert [len(value) for value in whole] == [len(value) for value in again] == [2, 1]
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(next(left)["x"], whole[1])


@pytest.mark.parametrize("size", [(8,), (8, 9), (4, 5, 6)])
def test_an_offset_has_one_shift_for_each_spatial_axis(size: tuple[int, ...]) -> None:
    pairs = draw_pairs(0, 0, Geometry(size, tuple(n + 4 for n in size)), 3)
    assert [len(offset) for pair in pairs for offset in pair] == [len(size)] * 6
