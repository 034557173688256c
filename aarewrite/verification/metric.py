"""Two-input perceptual metrics: does the ranking of two distorted images survive a shift of one of them?

A. Ghildyal, F. Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from aarewrite.data.arrays import Array, Offset
from aarewrite.data.geometry import Sample
from aarewrite.data.views import Views
from aarewrite.errors import CannotHandle
from aarewrite.verification.protocols import ShiftPlan
from aarewrite.verification.statistics import Mean, Proportion, RunningMean

Key = tuple[int, Offset]


@dataclass(frozen=True)
class RankFlips:
    """Share of (image, shifted distortion) whose rank flips, and the metric's relative change."""

    direction: str
    distance: float
    share: Proportion
    drift: Mean


@dataclass(frozen=True)
class MetricResult:
    """What shifts of 1..r px of one distorted image do to a metric; one entry a shift."""

    model: str
    protocol: str
    description: str
    seed: int
    n: int
    points: tuple[RankFlips, ...]
    rank_flips: Proportion


class MetricStudy:
    """Shifts each distorted image in turn against the reference and the other one.

    Args:
        plan: Which shifts (the crop protocol).
        views: How to make them.
        models: Labels, the one under test first.
        outputs: Per model, the output that holds the distance.
    """

    def __init__(self, plan: ShiftPlan, views: Views, models: Sequence[str], outputs: Sequence[str]) -> None:
        self.plan, self.views = plan, views
        self._models, self._outputs = tuple(models), tuple(outputs)
        self._lines = {plan.step(name, d): (name, d) for name in plan.directions for d in plan.distances}
        self._values: dict[Key, list[float]] = {}
        self._flips = [{key: 0 for key in self._lines.values()} for _ in models]
        self._drift = [{key: RunningMean() for key in self._lines.values()} for _ in models]
        self._n = 0

    def requests(self, sample: Sample) -> Iterator[tuple[Key, tuple[Array, ...]]]:
        """Yield (reference, distorted image) pairs, the distorted one shifted; the centre first."""
        if sample.pair is None:
            raise CannotHandle("a two-input metric needs distorted images", "give an .npz with ref, p0 and p1")
        centre = (0,) * len(self.plan.geometry.size)
        reference = self.views.at(self.views.prepare(sample.canvas), centre)
        for member, canvas in enumerate(sample.pair):
            state = self.views.prepare(canvas)
            for offset in (centre, *self._lines):
                yield (member, offset), (reference, self.views.at(state, offset))

    def count(self, i: int) -> int:
        """Return the number of pairs the metric is run on for sample i."""
        return 2 * (1 + len(self._lines))

    def receive(self, sample: Sample, key: Key, results: Sequence[dict[str, Array]]) -> None:
        """Take every model's distance for one pair; `key` is (distorted image 0 or 1, offset)."""
        self._values[key] = [
            float(np.mean(result[output])) for output, result in zip(self._outputs, results, strict=True)
        ]

    def finish(self, sample: Sample) -> None:
        """Count the image."""
        self._n += 1
        centre = next(iter(self._values))[1]
        for m in range(len(self._models)):
            still = [self._values[member, centre][m] for member in (0, 1)]
            scale = max(abs(still[0]), abs(still[1])) or 1.0
            for offset, key in self._lines.items():
                for member in (0, 1):
                    moved = self._values[member, offset][m]
                    before = still[0] < still[1]
                    after = moved < still[1] if member == 0 else still[0] < moved
                    self._flips[m][key] += before != after
                    self._drift[m][key].add(abs(moved - still[member]) / scale)
        self._values = {}

    def results(self) -> tuple[MetricResult, ...]:
        """Return one result a model."""
        trials = 2 * self._n
        description = f"{self.plan.geometry.describe()}; one of two distorted images shifted, the reference still"
        return tuple(
            MetricResult(
                model,
                self.plan.protocol,
                description,
                self.plan.seed,
                self._n,
                tuple(RankFlips(*key, Proportion.of(n, trials), drift[key].result()) for key, n in flips.items()),
                Proportion.of(sum(flips.values()), trials * len(flips)),
            )
            for model, flips, drift in zip(self._models, self._flips, self._drift, strict=True)
        )
