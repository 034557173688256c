"""Intervals with textbook values, and changes that are more than chance or not."""

from __future__ import annotations

import numpy as np
import pytest

from aarewrite.verification.statistics import (
    BETTER,
    MIXED,
    UNSHOWN,
    WORSE,
    Difference,
    Mean,
    Proportion,
    difference,
    judgement,
)


def test_wilson_interval_is_the_textbook_one():
    share = Proportion.of(8, 10)
    assert (share.low, share.high) == (pytest.approx(0.4901625), pytest.approx(0.9433178))
    assert Proportion.of(0, 5).low == 0.0
    assert Proportion.of(5, 5).high == 1.0
    assert Proportion.of(0, 0).n == 0


def test_an_image_counts_once_by_its_share():
    assert Proportion.of(0.5 + 1 + 0.5, 3) == Proportion.of(2, 3)
    assert Proportion.of(2.5, 3).value == pytest.approx(5 / 6)


def test_a_pooled_share_weighs_images_by_their_wholes():
    found = Proportion.pooled([8, 0, 0], [8, 2, 0])
    assert (found.value, found.n, found.successes) == (0.8, 2, 1.6)  # the image without anything is none
    as_many = 10**2 / (8**2 + 2**2)  # images of equal weight
    z2 = 1.959964**2
    assert (found.low + found.high) / 2 == pytest.approx((0.8 + z2 / (2 * as_many)) / (1 + z2 / as_many))
    assert Proportion.pooled([3, 3], [4, 4]) == Proportion.of(1.5, 2)
    assert (Proportion.pooled([2, 1], [2, 1]).high, Proportion.pooled([0], [7]).low) == (1, 0)
    assert Proportion.pooled([0], [0]).n == 0


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


def agreements(rng: np.random.Generator, images: int, pairs: int, share: float, near: float) -> np.ndarray:
    """Agreement of two models that do not differ, (measures, models, images), measures far and near.

    Images differ in how steady they are, and both models and both measures share that; a pair's agreement is Bernoulli.
    """
    steadiness = rng.beta(4 * share, 4 * (1 - share), images)
    shares = np.stack([steadiness, 1 - (1 - near) / (1 - share) * (1 - steadiness)])[:, None, :, None]
    return (rng.random((2, 2, images, pairs)) < shares).mean(-1)


def passes(values: np.ndarray) -> tuple[bool, bool]:
    """Whether the gate lets the second model pass, and whether one that looks at the means alone does."""
    far, near = (difference("", *models, rounds=400) for models in values)
    changes = far.change, near.change
    return judgement(far, near) == BETTER, max(changes) > 0 and min(changes) >= 0


@pytest.mark.parametrize(
    ("images", "pairs", "share", "near"),
    [(167, 5, 0.8, 0.93), (167, 1, 0.8, 0.93), (40, 5, 0.85, 0.9), (20, 1, 0.9, 0.95)],
)
def test_models_that_do_not_differ_pass_the_gate_in_one_of_twenty_at_most(images, pairs, share, near):
    rng = np.random.default_rng(images)
    found = [passes(agreements(rng, images, pairs, share, near)) for _ in range(600)]
    gate, means = np.mean(found, axis=0)
    assert gate <= 0.05
    assert means > 0.2  # what no test stands behind


def test_exchanged_answers_of_models_that_differ_pass_no_more_often():
    """The effect is removed from a real one: the models' answers to the same image are exchanged at random."""
    rng = np.random.default_rng(5)
    values = agreements(rng, 167, 5, 0.8, 0.93)
    values[:, 1] = np.minimum(1, values[:, 1] + 0.2 * (rng.random((2, 167)) < 0.4))
    assert passes(values) == (True, True)
    exchanged = [np.where(rng.random(167) < 0.5, values, values[:, ::-1]) for _ in range(600)]
    assert np.mean([passes(one)[0] for one in exchanged]) <= 0.05


def change(up: int, down: int = 0, n: int = 167) -> Difference:
    return difference(
        "", np.repeat([0.0, 1.0, 1.0], [up, down, n - up - down]), np.repeat([1.0, 0.0, 1.0], [up, down, n - up - down])
    )


def test_a_handful_of_images_that_changed_shows_nothing():
    assert [change(up).low > 0 for up in (3, 4, 5)] == [False, True, True]  # the interval alone would say so
    assert [change(up).sign for up in (0, 3, 4, 5, 6, 8)] == [0, 0, 0, 0, 1, 1]  # 2 of 2^5 exchanges do as much
    assert [change(0, down).sign for down in (5, 8)] == [0, -1]
    assert change(1, n=1).sign == 0


@pytest.mark.parametrize(
    ("far", "near", "word"),
    [
        (change(9), change(0), BETTER),
        (change(0), change(9), BETTER),
        (change(9), change(9), BETTER),
        (change(9), change(2, 4), BETTER),  # fewer agree nearby, but not surely
        (change(9), change(0, 9), MIXED),
        (change(0, 9), change(5), WORSE),
        (change(0, 9), change(0, 9), WORSE),
        (change(5), change(5), UNSHOWN),
        (change(0), change(0), UNSHOWN),
    ],
)
def test_better_is_one_above_zero_and_none_below(far, near, word):
    assert judgement(far, near) == word
