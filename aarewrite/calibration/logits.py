"""Logits of a classifier, whether or not its graph ends in a Softmax."""

from __future__ import annotations

import numpy as np

from aarewrite.data.arrays import Array

LEAST = 1e-12  # probability whose logarithm is taken
SUM = 1e-3  # from 1, of probabilities


def are_probabilities(outputs: Array) -> bool:
    """Whether every row, `(n, ...)`, is a distribution over classes."""
    rows = outputs.reshape(len(outputs), -1)
    return bool((rows >= 0).all() and (np.abs(rows.sum(1) - 1) < SUM).all())


def logits(outputs: Array) -> Array:
    """A classifier's outputs `(n, classes, ...)` as logits `(n, classes)`, but for a constant in each row."""
    rows = outputs.reshape(len(outputs), -1).astype(np.float32)
    return np.log(np.maximum(rows, np.float32(LEAST))) if are_probabilities(outputs) else rows
