"""Probabilities are told from logits, and give logits back but for a constant."""

from __future__ import annotations

import numpy as np
import pytest
from reference import Array

from aarewrite.calibration.logits import are_probabilities, logits

RAW = np.array([[1.0, 2.0, -3.0], [0.0, 0.0, 5.0]], np.float32)
SOFT = np.exp(RAW) / np.exp(RAW).sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("outputs", "says"),
    [(RAW, False), (SOFT, True), (SOFT[:, :, None, None], True), (2 * SOFT, False), (SOFT - 1, False)],
)
def test_what_is_taken_for_probabilities(outputs: Array, says: bool) -> None:
    assert are_probabilities(outputs) is says


def test_logits_of_both_are_the_same_but_for_a_constant() -> None:
    difference = logits(SOFT) - logits(RAW[:, :, None])
    assert np.ptp(difference, axis=1) == pytest.approx(0, abs=1e-5)
    assert logits(RAW).tolist() == RAW.tolist()


def test_a_probability_of_zero_has_a_logarithm() -> None:
    assert logits(np.array([[1.0, 0.0]])).tolist() == [[0.0, pytest.approx(np.log(1e-12))]]
