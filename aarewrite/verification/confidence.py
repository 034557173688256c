"""How sure a classifier is: confidence and its calibration, and what is decided at a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aarewrite.data.arrays import Array
from aarewrite.verification.statistics import Mean, Proportion

BINS = 15  # of the calibration error, as is usual (Guo et al., ICML 2017)
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Decisions:
    """What is decided where the class counts only from a confidence on."""

    threshold: float
    decided: Proportion  # share of images whose class counts, at the centre crop
    right: Proportion | None  # share right of these, None without labels
    steady: Proportion  # share of pairs of views with the same decision, be it a class or none; by image
    same_as_against: Proportion | None  # share of images decided as the other model does, None without one


@dataclass(frozen=True)
class Confidence:
    """Of the highest class at the centre crop: its probability, or that of a softmax over logits."""

    mean: Mean
    quantiles: tuple[float, ...]  # at `QUANTILES`
    histogram: tuple[int, ...]  # images by confidence, `BINS` equal bins from 0 to 1
    calibration_error: float | None  # expected, over these bins, 0..1; None without labels
    decisions: Decisions | None = None  # None without a threshold

    @classmethod
    def of(cls, confidence: Sequence[float], right: Sequence[float] | None, decisions: Decisions | None) -> Confidence:
        """Of each image's confidence, and whether its class is right."""
        values = np.asarray(confidence)
        place = np.minimum((values * BINS).astype(int), BINS - 1)
        counts = np.bincount(place, minlength=BINS)
        error = None
        if right is not None:
            gaps = np.bincount(place, values - np.asarray(right), BINS)
            error = float(np.abs(gaps).sum() / len(values))
        quantiles = tuple(np.quantile(values, QUANTILES).tolist())
        return cls(Mean.of(confidence), quantiles, tuple(counts.tolist()), error, decisions)


def confidences(scores: Array, probabilities: bool) -> Array:
    """The highest probability of each row, `(n, classes)` -> `(n,)`; of logits, by a softmax."""
    highest: Array = scores.max(1)
    if not probabilities:
        highest = 1 / np.exp(scores - highest[:, None]).sum(1)
    return highest
