"""Classifiers: does the answer survive a shift? Consistency, agreement, worst case, flips, drift, accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from aarewrite.data.arrays import Array, Offset
from aarewrite.data.dataset import Data
from aarewrite.data.geometry import Sample
from aarewrite.data.views import Views
from aarewrite.errors import UsageError
from aarewrite.verification.confidence import Confidence, Decisions, confidences
from aarewrite.verification.engine import Result, ShiftStudy
from aarewrite.verification.finite import demand_finite
from aarewrite.verification.protocols import ShiftPlan
from aarewrite.verification.records import Note
from aarewrite.verification.statistics import Difference, Mean, Proportion, difference

THUMBNAIL = 112  # pixels, long side, of the crops shown in the report
SHOWN_FLIPS = 6


@dataclass(frozen=True)
class Agreement:
    """Share of images whose class at the centre equals the class `distance` px away in one direction."""

    direction: str
    distance: float
    share: Proportion


@dataclass(frozen=True)
class Classification(Result):
    """What one protocol says about one classifier."""

    # Share of pairs of random views with equal classes (Zhang 2019), an image by the mean of its pairs
    consistency: Proportion
    agreement: tuple[Agreement, ...]  # one entry a direction and distance
    worst_radius: float  # r of `worst_case`, px
    worst_case: Proportion  # share of images for which some shift of at most r px changes the class
    flip_rate: Mean  # class changes per frame of a pan along each direction, mean over images
    drift_mean: Mean  # mean |change of an output| relative to the range of the image's outputs
    drift_max: Mean  # the same, largest over outputs and shifts; its `.largest` is over images too
    outputs: str  # `logits` or `probabilities`: what drift is measured on
    top1: Proportion | None = None  # share right at the centre crop, None without labels
    top5: Proportion | None = None  # share with the label among the five highest, None without labels
    # Share with the other model's class at the centre crop, None without another model
    same_as_against: Proportion | None = None
    worst_top1: Proportion | None = None  # share right at every shift of at most r px, None without labels
    worst_views: int = 0  # how many shifts that are, no shift among them: all there are on the grid
    confidence: Confidence | None = None

    @property
    def certificate(self) -> str:
        """What trying every shift shows, in words."""
        kept = self.worst_case.n - self.worst_case.successes
        shifts = f"each of the {self.worst_views} shifts up to {self.worst_radius:g} px"
        return f"{kept} of {self.n} images keep their class under {shifts}"


@dataclass(frozen=True)
class Flip:
    """An image whose class differs between the two crops of its first pair in at least one model."""

    name: str
    offsets: tuple[Offset, Offset]
    classes: tuple[tuple[int, int], ...]  # per model, the class at the first and at the second crop
    # The two crops, `(h, w, 3)` uint8 thumbnails; empty where the data are no pictures
    pictures: tuple[Array, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class FlipCounts:
    """How the images divide between two models, on the same first pairs of views."""

    both_steady: int
    only_against_flips: int
    only_model_flips: int
    both_flip: int


class ClassifyStudy(ShiftStudy):
    """Counts as the images come; keeps the outputs of the one image in work and a few flips to show.

    `outputs` are those that hold the classes, one a model; `data` has the samples' names and labels. From a
    `threshold` of confidence on, a class counts as decided.
    """

    def __init__(
        self,
        plan: ShiftPlan,
        views: Views,
        models: Sequence[str],
        outputs: Sequence[str],
        data: Data,
        threshold: float | None = None,
    ) -> None:
        super().__init__(plan, views, models)
        self._threshold = threshold
        self._outputs, self._names, self._labels = outputs, data.names, data.labels
        self._rows: list[list[Array]] = []  # of the image in work, by view
        self._flipped: Counter[tuple[bool, ...]] = Counter()  # images by the models whose class flips
        self._shown = dict[int, Flip]()  # by sample

    def offsets(self, i: int) -> Sequence[Offset]:
        """Return every offset sample i is viewed at, the centre first."""
        return self.plan.offsets(i)

    def receive(self, sample: Sample, number: int, results: Sequence[dict[str, Array]]) -> None:
        """Take every model's scores for one view."""
        seen = f"{self._names[sample.index]} shifted by {self.offsets(sample.index)[number]}"
        self._rows.append(read_scores(self.models, self._outputs, results, seen))

    def finish(self, sample: Sample) -> None:
        """Note the image's figures."""
        scores = [np.stack(rows) for rows in zip(*self._rows, strict=True)]
        offsets = self.offsets(sample.index)
        tops = [dict(zip(offsets, top_classes(table).tolist(), strict=True)) for table in scores]
        self._rows.clear()
        self.note("same", len({top[self.plan.centre] for top in tops}) == 1)
        decided = []
        for m, (table, top) in enumerate(zip(scores, tops, strict=True)):
            for name, values in self._figures(table, top, sample).items():
                self.note((m, name), values)
            probabilities = are_probabilities(table[0])
            self.note((m, "probabilities"), probabilities)
            sure = confidences(table, probabilities)
            self.note((m, "confidence"), sure[0])
            if self._threshold is not None:
                kept = np.where(sure >= self._threshold, list(top.values()), -1).tolist()
                decisions = dict(zip(offsets, kept, strict=True))
                pairs = np.array([[decisions[offset] for offset in pair] for pair in self.plan.pairs(sample.index)])
                self.note((m, "decided"), kept[0] >= 0)
                self.note((m, "decisions"), float(consistency(pairs)))
                decided.append(kept[0])
            for k, offset in enumerate(self.plan.pairs(sample.index)[0]):
                self.note((m, "class", k), top[offset])
        if decided:
            self.note("decided alike", len(set(decided)) == 1)

    def count_in(self, i: int, notes: Sequence[Note]) -> None:
        """Count sample i by its notes."""
        super().count_in(i, notes)
        first, second = ([int(self.tally.values[m, "class", k][-1]) for m in range(len(self.models))] for k in (0, 1))
        classes = tuple(zip(first, second, strict=True))
        flipped = tuple(a != b for a, b in classes)
        self._flipped[flipped] += 1
        # The reference's flips are what a rewrite should cure; show those the rewrite causes too.
        if any(flipped) and self._flipped[flipped] <= SHOWN_FLIPS:
            self._shown[i] = Flip(self._names[i], self.plan.pairs(i)[0], classes)

    def illustrate(self, load: Callable[[int], Sample]) -> None:
        """Cut the two crops of every flip that is shown."""
        for i, flip in self._shown.items():
            self._shown[i] = replace(flip, pictures=self.pictures(load(i), flip.offsets, THUMBNAIL))

    @property
    def flips(self) -> tuple[Flip, ...]:
        """Return some images whose class flips."""
        return tuple(self._shown.values())

    def _figures(
        self, scores: Array, tops: Mapping[Offset, int], sample: Sample
    ) -> dict[Hashable, float | Sequence[float]]:
        """What is counted of one image and model; `scores` has one row a view, the centre first."""
        plan, centre = self.plan, tops[self.plan.centre]
        pans = [[tops[plan.step(name, d)] for d in (0, *plan.distances)] for name in plan.directions]
        change = drift(scores[0], scores[1:])
        pairs = np.array([[tops[offset] for offset in pair] for pair in plan.pairs(sample.index)])
        figures: dict[Hashable, float | Sequence[float]] = {
            "consistency": float(consistency(pairs)),
            "unstable": any(tops[offset] != centre for offset in plan.neighbourhood()),
            "flips": [a != b for pan in pans for a, b in pairwise(pan)],
            "drift mean": float(change.mean()),
            "drift max": float(change.max()),
        }
        figures |= {line: tops[offset] == centre for offset, line in self.lines.items()}
        if self._labels is not None:
            label = checked_label(self._labels[sample.index], self._names[sample.index], scores.shape[1])
            highest = np.argsort(-scores[0], kind="stable")[:5]
            always = centre == label and not figures["unstable"]
            figures |= {"top1": centre == label, "top5": label in highest, "worst top1": always}
        return figures

    def results_of(self, m: int) -> Sequence[Classification]:
        """Return what was found of model m."""

        def share(name: Hashable) -> Proportion:
            return self.tally.share((m, name))

        def mean(name: Hashable) -> Mean:
            return self.tally.mean((m, name))

        labelled = self._labels is not None
        found = Classification(
            *self.head(m, describe(self.plan), share("consistency").n),
            share("consistency"),
            tuple(Agreement(*line, share(line)) for line in self.lines.values()),
            self.plan.worst_radius,
            share("unstable"),
            mean("flips"),
            mean("drift mean"),
            mean("drift max"),
            "probabilities" if all(self.tally.values[m, "probabilities"]) else "logits",
            share("top1") if labelled else None,
            share("top5") if labelled else None,
            self.tally.share("same") if len(self.models) == 2 else None,
            share("worst top1") if labelled else None,
            1 + len(self.plan.neighbourhood()),
            self._confidence(m),
        )
        return [found]

    def _confidence(self, m: int) -> Confidence:
        values = self.tally.values
        right = values[m, "top1"] if self._labels is not None else None
        decisions = None
        if self._threshold is not None:
            decided = values[m, "decided"]
            hits = (
                None
                if right is None
                else Proportion.of(
                    sum(hit for hit, counts in zip(right, decided, strict=True) if counts), int(sum(decided))
                )
            )
            alike = self.tally.share("decided alike") if len(self.models) == 2 else None
            decisions = Decisions(
                self._threshold, self.tally.share((m, "decided")), hits, self.tally.share((m, "decisions")), alike
            )
        return Confidence.of(values[m, "confidence"], right, decisions)

    def changes(self) -> tuple[Difference, ...]:
        """Return the paired change of consistency from the second model to the first, none for a single model."""
        if len(self.models) != 2:
            return ()
        after, before = (self.tally.values[m, "consistency"] for m in (0, 1))
        return (difference(f"{self.plan.protocol} consistency", before, after, self.plan.seed),)

    def flip_counts(self) -> FlipCounts | None:
        """Return how the images divide between the two models, None for a single model."""
        if len(self.models) != 2:
            return None
        patterns = ((False, False), (False, True), (True, False), (True, True))  # (model, against)
        return FlipCounts(*(self._flipped[pattern] for pattern in patterns))


def describe(plan: ShiftPlan) -> str:
    """Say a plan's geometry and sampling in one line."""
    pairs = "one pair" if plan.pair_count == 1 else f"{plan.pair_count} pairs"
    shared = f" per {plan.batch_offsets} images (intervals as if each image had its own)"
    pairs += " an image" if plan.batch_offsets == 1 else shared
    where = {
        "crop": plan.geometry.describe(),
        "circular": "centre crop rolled by whole pixels",
        "fractional": "centre crop shifted by fractions of a pixel (band-limited, circular)",
    }[plan.protocol]
    return f"{where}; {pairs}, seed {plan.seed}"


def read_scores(
    models: Sequence[str], outputs: Sequence[str], results: Sequence[Mapping[str, Array]], seen: str
) -> list[Array]:
    """Every model's scores for one view, float64 vectors; `CheckFailed` where they are none says which was `seen`."""
    for model, name, result in zip(models, outputs, results, strict=True):
        demand_finite(model, {name: result[name]}, seen, excluded=True)
    return [result[name].reshape(-1).astype(np.float64) for name, result in zip(outputs, results, strict=True)]


def are_probabilities(scores: Array) -> bool:
    """Whether scores could be probabilities."""
    return bool((scores >= 0).all()) and abs(float(scores.sum()) - 1) < 1e-2


def drift(first: Array, others: Array) -> Array:
    """|Change of a score| relative to the range of the first view's scores, `(classes)` and `(..., classes)`; 1 where
    only one of them is minus infinity."""
    finite = np.isfinite(first) & np.isfinite(others)
    span = float(np.ptp(first[np.isfinite(first)])) or 1.0
    change: Array = np.abs(np.subtract(others, first, where=finite, out=np.zeros(others.shape))) / span
    return np.where(finite | (others == first), change, 1.0)


def checked_label(label: int, name: str, classes: int) -> int:
    """The label, if it is one of so many classes; else `UsageError` names the image."""
    if label >= classes:
        raise UsageError(
            f"label {label} of {name} does not fit {classes} classes",
            "check the labels against the model, or label_offset in the preprocessing file",
        )
    return label


def top_classes(outputs: Array) -> Array:
    """The class with the highest score of each row, `(n, classes, ...)` -> `(n,)`; of equal scores the first."""
    classes: Array = outputs.reshape(len(outputs), -1).argmax(1)
    return classes


def consistency(classes: Array) -> Array:
    """The share of pairs of views with equal classes, `(..., pairs, 2)` -> `(...)`: one figure an image."""
    share: Array = (classes[..., 0] == classes[..., 1]).mean(-1)
    return share
