"""The ridge problem against a direct solution of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aarewrite.calibration.equations import Equations, fit, ridge


def gathered(x: np.ndarray, y: np.ndarray, folds: int = 2) -> Equations:
    equations = Equations(1, x.shape[1], y.shape[1], folds)
    for fold in range(folds):
        equations.add(x[None, fold::folds], y[None, fold::folds], fold)
    return equations


@pytest.mark.parametrize("alpha", [1e-6, 1e-2, 1.0, 30.0])
@pytest.mark.parametrize("intercept", [True, False])
def test_ridge_equals_least_squares_with_extra_rows(alpha: float, intercept: bool) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 6)) + 2, rng.standard_normal((50, 3))
    weight, bias = rng.standard_normal((6, 3)), rng.standard_normal(3)
    first, second = gathered(x, y).moments()
    found, shift = ridge(first + second, weight[None], bias[None], alpha, intercept=intercept)
    spread = x - x.mean(0) if intercept else x
    damping = math.sqrt(alpha * np.square(spread).sum() / 6)
    target = y - x @ weight if intercept else y - bias - x @ weight
    if intercept:
        rows = np.hstack([x, np.ones((50, 1))])
        extra = np.hstack([damping * np.eye(6), np.zeros((6, 1))])
    else:
        rows, extra = x, damping * np.eye(6)
    change = np.linalg.lstsq(np.vstack([rows, extra]), np.vstack([target, np.zeros((6, 3))]), rcond=None)[0]
    np.testing.assert_allclose(found[0], weight + change[:6], atol=1e-9)
    np.testing.assert_allclose(shift[0], change[6] if intercept else bias, atol=1e-9)


def test_errors_from_moments_equal_errors_from_samples() -> None:
    rng = np.random.default_rng(1)
    x, y, weight, bias = (rng.standard_normal(shape) for shape in ((40, 5), (40, 2), (5, 2), (2,)))
    moments = gathered(x, y, 1).moments()[0]
    np.testing.assert_allclose(moments.error(weight[None], bias[None])[0], np.square(x @ weight + bias - y).sum(0))


def test_weights_that_are_right_are_left_alone() -> None:
    rng = np.random.default_rng(2)
    x, weight = rng.standard_normal((300, 5)), rng.standard_normal((5, 2))
    y = x @ weight + rng.standard_normal((300, 2))  # noise that no weights explain
    found = fit(gathered(x, y).moments(), weight[None], np.zeros((1, 2)), intercept=False)
    assert found.alpha > 1
    assert np.abs(found.weight - weight).max() < 0.05


def test_samples_of_one_fold_only_change_nothing() -> None:
    rng = np.random.default_rng(3)
    equations = Equations(1, 4, 2, 3)
    equations.add(rng.standard_normal((1, 9, 4)), rng.standard_normal((1, 9, 2)), 1)
    weight = rng.standard_normal((1, 4, 2))
    found = fit(equations.moments(), weight, np.zeros((1, 2)), intercept=True)
    assert found.alpha == math.inf
    assert found.weight is weight
