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
from aarewrite.verification.engine import Study
from aarewrite.verification.protocols import ShiftPlan
from aarewrite.verification.statistics import Mean, Proportion

Key = tuple[int, Offset]


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
class MetricResult:
    """What shifts of 1..r px of one distorted image do to a metric: one entry a shift, and over all, by image."""

    model: str
    protocol: str
    description: str
    seed: int
    n: int
    points: tuple[RankFlips, ...]
    rank_flips: Proportion


class MetricStudy(Study):
    """Shifts each distorted image in turn against the reference and the other one.

    Args:
        plan, views, models: As for every study.
        outputs: Per model, the output that holds the distance.
    """

    def __init__(self, plan: ShiftPlan, views: Views, models: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__(plan, views, models)
        self._outputs, self._lines = tuple(outputs), plan.lines(plan.distances)
        self._values: dict[Key, list[float]] = {}

    def offsets(self, i: int) -> Sequence[Offset]:
        """Return every offset each distorted image is viewed at, the centre first."""
        return (self.plan.centre, *self._lines)

    def requests(self, sample: Sample) -> Iterator[tuple[Key, tuple[Array, ...]]]:
        """Yield (reference, distorted image) pairs, the distorted one shifted; the centre first."""
        if sample.pair is None:
            raise CannotHandle("a two-input metric needs distorted images", "give an .npz with ref, p0 and p1")
        reference = self.views.at(self.views.prepare(sample.canvas), self.plan.centre)
        for member, canvas in enumerate(sample.pair):
            state = self.views.prepare(canvas)
            for offset in self.offsets(sample.index):
                yield (member, offset), (reference, self.views.at(state, offset))

    def count(self, i: int) -> int:
        """Return the number of pairs the metric is run on for sample i."""
        return 2 * super().count(i)

    def receive(self, sample: Sample, key: Key, results: Sequence[dict[str, Array]]) -> None:
        """Take every model's distance for one pair; `key` is (distorted image 0 or 1, offset)."""
        self._values[key] = [
            float(np.mean(result[output])) for output, result in zip(self._outputs, results, strict=True)
        ]

    def finish(self, sample: Sample) -> None:
        """Count the image."""
        self.n += 1
        for m in range(len(self.models)):
            still = [self._values[member, self.plan.centre][m] for member in (0, 1)]
            scale, before, every = max(map(abs, still)) or 1.0, still[0] < still[1], []
            for offset, key in self._lines.items():
                moved = [self._values[member, offset][m] for member in (0, 1)]
                flips = [before != after for after in (moved[0] < still[1], still[0] < moved[1])]
                every += flips
                self.tally.add((m, key, "flips"), flips)
                self.tally.add((m, key, "drift"), [abs(a - b) / scale for a, b in zip(moved, still, strict=True)])
            self.tally.add((m, "flips"), every)
        self._values = {}

    def results(self) -> tuple[MetricResult, ...]:
        """Return one result a model."""
        plan, tally = self.plan, self.tally
        description = f"{plan.geometry.describe()}; one of two distorted images shifted, the reference still"
        return tuple(
            MetricResult(
                model,
                plan.protocol,
                description,
                plan.seed,
                self.n,
                tuple(
                    RankFlips(*key, tally.share((m, key, "flips")), tally.mean((m, key, "drift")))
                    for key in self._lines.values()
                ),
                tally.share((m, "flips")),
            )
            for m, model in enumerate(self.models)
        )
