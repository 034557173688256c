"""Classifiers under a real camera: pairs of views of one scene, near and far, under each condition and pooled.

The same figures are taken of a user's own pairs of images. A cluster (an image with all its pairs, a clip of the
user's) counts once: by the mean over its pairs.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from aarewrite.data.arrays import Array
from aarewrite.data.camera import check_camera, describe_conditions, draw_camera_pairs
from aarewrite.data.geometry import Sample
from aarewrite.data.setup import Setup
from aarewrite.data.views import Views
from aarewrite.verification.classify import are_probabilities, checked_label, drift, read_scores, top_classes
from aarewrite.verification.engine import Render, Result, Study
from aarewrite.verification.records import Note
from aarewrite.verification.statistics import Difference, Mean, Proportion, difference, judgement

POOLED = "pooled"
Group = tuple[str, str]  # condition and regime


@dataclass(frozen=True)
class Steadiness:
    """What pairs of views under one condition, or all, say about one classifier."""

    condition: str  # one of `CONDITIONS`, `pooled` over all that were asked for, or `pairs` for a user's own
    regime: str  # `near` (views at most 1 px apart), `far`, or `own`
    agreement: Proportion  # share of pairs with equal classes
    drift: Mean  # mean |change of an output| between a pair's views relative to the range of the first's outputs
    worst_case: Proportion  # share of images that change class in at least one pair
    top1: Proportion | None = None  # share of views with the right class, None without labels
    change: Difference | None = None  # paired change of the agreement from `against`, at the model under test


@dataclass(frozen=True)
class CameraResult(Result):
    """What a camera's views say about one classifier."""

    severity: float  # multiplies every condition
    pairs: int  # near and as many far ones, an image and condition
    outputs: str  # `logits` or `probabilities`: what drift is measured on
    near: Steadiness  # pooled over conditions
    far: Steadiness
    conditions: tuple[Steadiness, ...]  # each alone, near and far
    top1: Proportion | None = None  # share of all views with the right class, None without labels
    top1_change: Difference | None = None  # its paired change from `against`
    judgement: str | None = None  # what the changes of far and near agreement show, at the model under test

    @property
    def rows(self) -> tuple[tuple[Steadiness, Steadiness], ...]:
        """Near and far, pooled and then under each condition."""
        return (self.near, self.far), *zip(self.conditions[::2], self.conditions[1::2], strict=True)


@dataclass(frozen=True)
class PairsResult(Result):
    """What a user's own pairs of images say about one classifier; `n` clusters."""

    pairs: int  # rows of the file
    outputs: str  # `logits` or `probabilities`: what drift is measured on
    found: Steadiness


class _PairStudy(Study):
    """Counts pairs of views; a sample's views are numbered pair by pair, each pair belongs to one of `groups`."""

    def __init__(self, setup: Setup, outputs: Sequence[str], groups: Sequence[Group]) -> None:
        super().__init__([model.label for model in setup.models])
        self._setup, self._outputs, self._groups = setup, outputs, groups
        self._names, self._labels, self._seed = setup.data.names, setup.data.labels, setup.seed
        self._rows: list[list[Array]] = []  # of the image in work, by view
        # By what is counted, then by cluster
        self._found = defaultdict[Hashable, defaultdict[Hashable, list[float]]](lambda: defaultdict(list))

    def count(self, i: int) -> int:
        """Return how many views sample i has."""
        return 2 * len(self._groups)

    def receive(self, sample: Sample, number: int, results: Sequence[dict[str, Array]]) -> None:
        """Take every model's scores for one view."""
        seen = f"{self._names[sample.index]}, view {number} ({' '.join(self._groups[number // 2])})"
        self._rows.append(read_scores(self.models, self._outputs, results, seen))

    def finish(self, sample: Sample) -> None:
        """Note the figures of the sample's pairs."""
        for m, rows in enumerate(zip(*self._rows, strict=True)):
            self.note((m, "probabilities"), are_probabilities(rows[0]))
            label = None
            if self._labels is not None:
                label = checked_label(self._labels[sample.index], self._names[sample.index], len(rows[0]))
            tops = top_classes(np.stack(rows)).tolist()
            for number in range(len(self._groups)):
                first, second = 2 * number, 2 * number + 1
                self.note((m, "agreement", number), tops[first] == tops[second])
                self.note((m, "drift", number), float(drift(rows[first], rows[second]).mean()))
                for k in (first, second) if label is not None else ():
                    self.note((m, "top1", number, k), tops[k] == label)
        self._rows.clear()

    def count_in(self, i: int, notes: Sequence[Note]) -> None:
        """Count the pairs of sample i by its notes."""
        clusters = self._setup.data.clusters
        cluster = i if clusters is None else clusters[i]
        for key, value in notes:
            assert isinstance(key, tuple)
            m, name, *number = key
            condition, regime = self._groups[number[0]] if number else (POOLED, POOLED)
            for pool in dict.fromkeys(((condition, regime), (POOLED, regime), (POOLED, POOLED))):
                self._found[m, name, pool][cluster].append(value)

    def _values(self, m: int, name: str, group: Group) -> list[float]:
        """One value a cluster, in the order of their first samples."""
        return [fmean(values) for values in self._found[m, name, group].values()]

    def _share(self, values: Sequence[float]) -> Proportion:
        return Proportion.of(sum(values), len(values))

    def _top1(self, m: int, group: Group) -> Proportion | None:
        return None if self._labels is None else self._share(self._values(m, "top1", group))

    def _steadiness(self, m: int, group: Group) -> Steadiness:
        agreement = self._values(m, "agreement", group)
        return Steadiness(
            *group,
            self._share(agreement),
            Mean.of(self._values(m, "drift", group)),
            self._share([float(value < 1) for value in agreement]),
            self._top1(m, group),
            self._change(m, f"{group[1]} agreement, {group[0]}", "agreement", group),
        )

    def _change(self, m: int, title: str, name: str, group: Group) -> Difference | None:
        if m > 0 or len(self.models) < 2:
            return None
        return difference(title, self._values(1, name, group), self._values(0, name, group), self._seed)

    def _units(self, m: int) -> str:
        return "probabilities" if all(self._values(m, "probabilities", (POOLED, POOLED))) else "logits"


class CameraStudy(_PairStudy):
    """Shows every sample, a picture, to the models as a camera would: `count` pairs near and far a condition."""

    def __init__(
        self, setup: Setup, outputs: Sequence[str], conditions: Sequence[str], severity: float, count: int
    ) -> None:
        check_camera(conditions, severity, count)
        pairs = itertools.product(conditions, range(count), ("near", "far"))
        super().__init__(setup, outputs, [(condition, regime) for condition, _, regime in pairs])
        self._conditions, self._severity, self._count = tuple(conditions), severity, count

    def look(self, sample: Sample) -> Render:
        """Return what renders the views."""
        setup = self._setup
        scene = setup.scene(sample)
        drawn = draw_camera_pairs(
            setup.seed, sample.index, setup.geometry, self._conditions, self._count, self._severity
        )
        views = [view for pair in drawn for view in pair.views]
        return lambda number: (scene.view(views[number]),)

    def results_of(self, m: int) -> Sequence[CameraResult]:
        """Return what was found of model m."""
        near, far = (self._steadiness(m, (POOLED, regime)) for regime in ("near", "far"))
        alone = [self._steadiness(m, group) for group in dict.fromkeys(self._groups)]
        top1 = self._top1(m, (POOLED, POOLED))
        change = self._change(m, "top-1, all views", "top1", (POOLED, POOLED)) if top1 else None
        pairs = "a pair" if self._count == 1 else f"{self._count} pairs"
        description = (
            f"{describe_conditions(self._conditions, self._severity)}; {pairs} at most 1 px apart (near) and as many "
            f"up to {max(self._setup.geometry.span) - 1} px apart per axis (far) an image and condition, "
            f"seed {self._seed}"
        )
        head = self.models[m], "camera", description, self._seed, near.agreement.n
        verdict = judgement(far.change, near.change) if far.change and near.change else None
        return [
            CameraResult(
                *head, self._severity, self._count, self._units(m), near, far, tuple(alone), top1, change, verdict
            )
        ]


class OwnPairsStudy(_PairStudy):
    """Shows the centre crops of a user's own pairs of images to the models."""

    def __init__(self, setup: Setup, outputs: Sequence[str]) -> None:
        super().__init__(setup, outputs, [("pairs", "own")])

    def look(self, sample: Sample) -> Render:
        """Return what cuts the two centre crops."""
        views, canvases = Views("crop", self._setup.geometry, self._setup.axes), (sample.canvas, *sample.pair)
        return lambda number: (views.centre(canvases[number]),)

    def results_of(self, m: int) -> Sequence[PairsResult]:
        """Return what was found of model m."""
        found, rows = self._steadiness(m, ("pairs", "own")), len(self._names)
        n = found.agreement.n
        counted = "each its own" if n == rows else f"in {n} clusters, which the intervals are over"
        description = f"centre crops of {self._setup.data.description}, {counted}"
        return [PairsResult(self.models[m], "pairs", description, self._seed, n, rows, self._units(m), found)]
