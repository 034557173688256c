"""Two-input perceptual metrics: does the ranking of two distorted images survive a shift of one of them?

A. Ghildyal, F. Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aarewrite.data.arrays import Array
from aarewrite.data.geometry import Sample
from aarewrite.data.views import Views
from aarewrite.errors import CannotHandle
from aarewrite.verification.engine import Render, Result, ShiftStudy
from aarewrite.verification.finite import demand_finite
from aarewrite.verification.protocols import ShiftPlan
from aarewrite.verification.statistics import Mean, Proportion


@dataclass(frozen=True)
class RankFlips:
    """Share of shifted distortions whose rank flips, and the metric's relative change.

    An image counts once: by the mean over its two distorted versions, which share the reference.
    """

    direction: str
    distance: float
    share: Proportion
    drift: Mean


@dataclass(frozen=True)
class MetricResult(Result):
    """What shifts of 1..r px of one distorted image do to a metric: one entry a shift, and over all, by image."""

    points: tuple[RankFlips, ...]
    rank_flips: Proportion


class MetricStudy(ShiftStudy):
    """Shifts each distorted image in turn against the reference; `outputs` hold the distance, one a model."""

    def __init__(self, plan: ShiftPlan, views: Views, models: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__(plan, views, models)
        self._outputs = outputs
        self._distances: list[list[float]] = []  # the models' for each view of the image in work

    def look(self, sample: Sample) -> Render:
        """Return what cuts the reference with each distorted image in turn, the latter shifted; the centre first."""
        if not sample.pair:
            raise CannotHandle("a two-input metric needs distorted images", "give an .npz with ref, p0 and p1")
        reference = self.views.at(self.views.prepare(sample.canvas), self.plan.centre)
        states, offsets = [self.views.prepare(canvas) for canvas in sample.pair], self.offsets(sample.index)

        def render(number: int) -> tuple[Array, ...]:
            which, place = divmod(number, len(offsets))
            return reference, self.views.at(states[which], offsets[place])

        return render

    def count(self, i: int) -> int:
        """Return the number of pairs the metric is run on for sample i."""
        return 2 * super().count(i)

    def receive(self, sample: Sample, number: int, results: Sequence[dict[str, Array]]) -> None:
        """Take every model's distance for one pair."""
        for model, name, result in zip(self.models, self._outputs, results, strict=True):
            demand_finite(model, {name: result[name]}, f"sample {sample.index + 1}")
        found = [float(np.mean(result[name])) for name, result in zip(self._outputs, results, strict=True)]
        self._distances.append(found)

    def finish(self, sample: Sample) -> None:
        """Note the image's figures."""
        offsets = self.offsets(sample.index)
        for m in range(len(self.models)):
            firsts, seconds = np.reshape([found[m] for found in self._distances], (2, len(offsets))).tolist()
            moved = dict(zip(offsets, zip(firsts, seconds, strict=True), strict=True))
            a, b = moved.pop(self.plan.centre)
            scale, every = max(abs(a), abs(b)) or 1.0, []
            for offset, (moved_a, moved_b) in moved.items():
                flips = [(a < b) != (moved_a < b), (a < b) != (a < moved_b)]
                every += flips
                self.note((m, self.lines[offset], "flips"), flips)
                self.note((m, self.lines[offset], "drift"), [abs(moved_a - a) / scale, abs(moved_b - b) / scale])
            self.note((m, "flips"), every)
        self._distances.clear()

    def results_of(self, m: int) -> Sequence[MetricResult]:
        """Return what was found of model m."""
        tally, flips = self.tally, self.tally.share((m, "flips"))
        description = f"{self.plan.geometry.describe()}; one of two distorted images shifted, the reference still"
        points = (
            RankFlips(*line, tally.share((m, line, "flips")), tally.mean((m, line, "drift")))
            for line in self.lines.values()
        )
        return [MetricResult(*self.head(m, description, flips.n), tuple(points), flips)]
