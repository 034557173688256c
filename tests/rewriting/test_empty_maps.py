"""A map of one value, or of none that is finite, says nothing; other inputs and random maps may."""

from __future__ import annotations

import numpy as np
import pytest
from reference import Array, weight

from aarewrite.rewriting.empty_maps import other_inputs, random_maps, saying_nothing

LIVELY = weight(1, 2, 3, 3)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (LIVELY, True),
        (np.zeros((1, 2, 3, 3), np.float32), False),
        (np.full((1, 2, 3, 3), np.nan, np.float32), False),
        (np.full((1, 2, 3, 3), np.inf, np.float32), False),
        (np.where(LIVELY > 0, LIVELY, np.nan), True),
        (np.where(LIVELY > 0, 1, np.nan), False),
        (np.full((1, 2, 3, 3), 128, np.uint8), False),
        (np.zeros((1, 0, 4), np.float32), False),
        (np.zeros((1, 1), np.float32), True),
        ([LIVELY], True),
    ],
)
def test_which_maps_say_something(value: Array, says: bool) -> None:
    assert saying_nothing([({}, {"m": value})], ["m"]) == ([] if says else ["m"])


def test_one_run_that_says_something_is_enough() -> None:
    runs = [({}, {"m": np.zeros(4), "n": np.zeros(4)}), ({}, {"m": np.arange(4), "n": np.ones(4)})]
    assert saying_nothing(runs, ["m", "n"]) == ["n"]


def test_other_inputs_have_the_shapes_and_types_of_the_first_and_are_none_below_zero() -> None:
    feeds = {"x": weight(2, 3).astype(np.float16), "n": np.array([3])}
    found = list(other_inputs(feeds, seed=0))
    assert len(found) == 2
    for one in found:
        assert (one["x"].shape, one["x"].dtype, one["n"]) == ((2, 3), np.float16, feeds["n"])
        assert one["x"].min() >= 0
    assert found[0]["x"].max() <= 1 < found[1]["x"].max()


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.uint8, np.int8, np.int64, bool])
def test_random_maps_say_something(kind: type) -> None:
    made = random_maps({"m": np.zeros((3, 40), kind)}, seed=0)
    assert (made["m"].shape, made["m"].dtype) == ((3, 40), np.dtype(kind))
    assert saying_nothing([({}, made)], ["m"]) == []
    assert np.array_equal(made["m"], random_maps({"m": np.zeros((3, 40), kind)}, seed=0)["m"])
