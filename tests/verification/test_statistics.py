"""Intervals with textbook values, and changes that are more than chance or not."""

from __future__ import annotations

import numpy as np
import pytest

from aarewrite.verification.statistics import Mean, Proportion, difference


def test_wilson_interval_is_the_textbook_one():
    share = Proportion.of(8, 10)
    assert (share.low, share.high) == (pytest.approx(0.4901625), pytest.approx(0.9433178))
    assert Proportion.of(0, 5).low == 0.0
    assert Proportion.of(5, 5).high == 1.0
    assert Proportion.of(0, 0).n == 0


def test_an_image_counts_once_by_its_share():
    assert Proportion.of(0.5 + 1 + 0.5, 3) == Proportion.of(2, 3)
    assert Proportion.of(2.5, 3).value == pytest.approx(5 / 6)


def test_mean_has_the_normal_interval():
    found = Mean.of([1.0, 2.0, 6.0])
    assert (found.value, found.n, found.largest) == (3.0, 3, 6.0)
    assert found.high - found.value == pytest.approx(1.959964 * np.sqrt(7 / 3))
    assert Mean.of([]).n == 0


def test_difference_states_interval_and_chance():
    rng = np.random.default_rng(2)
    before = rng.random(200)
    better = difference("x", before, before + 0.05 + 0.01 * rng.standard_normal(200))
    assert better.low < better.change < better.high
    assert better.low > 0
    assert better.p < 0.01
    assert difference("x", before, rng.permutation(before)).p > 0.05
    assert difference("x", before, before).p == 1
