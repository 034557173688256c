"""Classifiers: does the answer survive a shift? Consistency, agreement, worst case, flips, drift, accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from aarewrite.data.arrays import Array, Offset
from aarewrite.data.geometry import Sample
from aarewrite.data.views import Views
from aarewrite.errors import CheckFailed, UsageError
from aarewrite.verification.engine import Study
from aarewrite.verification.protocols import ShiftPlan
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
class Classification:
    """What one protocol says about one classifier.

    Attributes:
        model: Label of the model.
        protocol: `crop`, `circular` or `fractional`.
        description: Geometry and sampling in one line.
        seed: Seed of the random offsets.
        consistency: Share of pairs of random views with equal classes (Zhang 2019), an image by the mean of its pairs.
        agreement: One entry a direction and distance.
        worst_radius: r of `worst_case`, px.
        worst_case: Share of images for which some shift of at most r px changes the class.
        flip_rate: Class changes per frame of a pan along each direction, mean over images.
        drift_mean: Mean |change of an output| relative to the range of the image's outputs.
        drift_max: The same, largest over outputs and shifts; its `.largest` is over images too.
        outputs: `logits` or `probabilities`: what drift is measured on.
        top1: Share right at the centre crop, None without labels.
        top5: Share with the label among the five highest, None without labels.
        same_as_against: Share with the other model's class at the centre crop, None without another model.
    """

    model: str
    protocol: str
    description: str
    seed: int
    n: int
    consistency: Proportion
    agreement: tuple[Agreement, ...]
    worst_radius: float
    worst_case: Proportion
    flip_rate: Mean
    drift_mean: Mean
    drift_max: Mean
    outputs: str
    top1: Proportion | None = None
    top5: Proportion | None = None
    same_as_against: Proportion | None = None


@dataclass(frozen=True)
class Flip:
    """An image whose class differs between the two crops of its first pair in at least one model.

    Attributes:
        classes: Per model, the class at the first and at the second crop.
        pictures: The two crops, `(h, w, 3)` uint8 thumbnails; empty where the data are no pictures.
    """

    name: str
    offsets: tuple[Offset, Offset]
    classes: tuple[tuple[int, int], ...]
    pictures: tuple[Array, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class FlipCounts:
    """How the images divide between two models, on the same first pairs of views."""

    both_steady: int
    only_against_flips: int
    only_model_flips: int
    both_flip: int


class ClassifyStudy(Study):
    """Counts as the images come; keeps the outputs of the one image in work and a few flips to show.

    Args:
        plan, views, models: As for every study.
        outputs: Per model, the output that holds the classes.
        names: One name a sample.
        labels: One class index a sample, or None.
    """

    def __init__(
        self,
        plan: ShiftPlan,
        views: Views,
        models: Sequence[str],
        outputs: Sequence[str],
        names: Sequence[str],
        labels: Sequence[int] | None,
    ) -> None:
        super().__init__(plan, views, models)
        self._outputs, self._names, self._labels = tuple(outputs), names, labels
        self._steady: list[list[float]] = [[] for _ in models]  # per image, the share of its pairs with equal classes
        self._probabilities = [True for _ in models]
        self._rows: dict[Offset, list[Array]] = {}
        self._pairs: list[tuple[bool, ...]] = []
        self.flips: list[Flip] = []

    def offsets(self, i: int) -> Sequence[Offset]:
        """Return every offset sample i is viewed at, the centre first."""
        return self.plan.offsets(i)

    def receive(self, sample: Sample, offset: Offset, results: Sequence[dict[str, Array]]) -> None:
        """Take every model's outputs (one row each) for one view."""
        rows = []
        for model, output, result in zip(self.models, self._outputs, results, strict=True):
            row = result[output].reshape(-1).astype(np.float64)
            if np.isnan(row).any():
                raise CheckFailed(
                    f"{model}: output {output!r} is NaN for {self._names[sample.index]} shifted by {offset}",
                    "check the preprocessing and the model",
                )
            rows.append(row)
        self._rows[offset] = rows

    def finish(self, sample: Sample) -> None:
        """Count the image, all its views having been received."""
        tables = [{offset: rows[m] for offset, rows in self._rows.items()} for m in range(len(self.models))]
        self._rows = {}
        centres = [self._count(m, table, sample) for m, table in enumerate(tables)]
        self.tally.add("same", len(set(centres)) == 1)
        first, second = self.plan.pairs(sample.index)[0]
        classes = tuple((_top(table[first]), _top(table[second])) for table in tables)
        flipped = tuple(a != b for a, b in classes)
        self._pairs.append(flipped)
        # The reference's flips are what a rewrite should cure; show those the rewrite causes too.
        group = sum(tuple(a != b for a, b in flip.classes) == flipped for flip in self.flips)
        if any(flipped) and group < SHOWN_FLIPS:
            pictures = _crops(sample, self.plan, (first, second))
            self.flips.append(Flip(self._names[sample.index], (first, second), classes, pictures))

    def _count(self, m: int, table: dict[Offset, Array], sample: Sample) -> int:
        plan, base = self.plan, next(iter(table.values()))  # the centre comes first
        tops = {offset: _top(row) for offset, row in table.items()}
        pans = {name: [tops[plan.step(name, d)] for d in (0, *plan.distances)] for name in plan.directions}
        shifted = np.stack([row for offset, row in table.items() if any(offset)])
        change = np.abs(shifted - base) / (float(np.ptp(base)) or 1.0)
        pairs = np.array([[tops[offset] for offset in pair] for pair in plan.pairs(sample.index)])
        centre = _top(base)
        self._steady[m].append(float(consistency(pairs)))
        figures: dict[object, float | Sequence[float]] = {
            (name, d): top == centre
            for name, pan in pans.items()
            for d, top in zip(plan.distances, pan[1:], strict=True)
        }
        figures["flips"] = [a != b for pan in pans.values() for a, b in pairwise(pan)]
        figures["unstable"] = any(tops[offset] != centre for offset in plan.neighbourhood())
        figures["drift mean"], figures["drift max"] = float(change.mean()), float(change.max())
        if self._labels is not None:
            label = self._labels[sample.index]
            if label >= base.size:
                raise UsageError(
                    f"label {label} of {self._names[sample.index]} does not fit {base.size} classes",
                    "check the labels against the model, or label_offset in the preprocessing file",
                )
            figures["top1"], figures["top5"] = centre == label, label in np.argsort(-base, kind="stable")[:5]
        for name, values in figures.items():
            self.tally.add((m, name), values)
        self._probabilities[m] &= bool((base >= 0).all()) and abs(float(base.sum()) - 1) < 1e-2
        return centre

    def results(self) -> tuple[Classification, ...]:
        """Return one result a model, in the models' order."""
        plan, tally = self.plan, self.tally
        labelled = self._labels is not None
        return tuple(
            Classification(
                model,
                plan.protocol,
                describe(plan),
                plan.seed,
                len(self._steady[m]),
                Proportion.of(math.fsum(self._steady[m]), len(self._steady[m])),
                tuple(
                    Agreement(name, d, tally.share((m, (name, d)))) for name in plan.directions for d in plan.distances
                ),
                plan.worst_radius,
                tally.share((m, "unstable")),
                tally.mean((m, "flips")),
                tally.mean((m, "drift mean")),
                tally.mean((m, "drift max")),
                "probabilities" if self._probabilities[m] else "logits",
                tally.share((m, "top1")) if labelled else None,
                tally.share((m, "top5")) if labelled else None,
                tally.share("same") if len(self.models) == 2 else None,
            )
            for m, model in enumerate(self.models)
        )

    def changes(self) -> tuple[Difference, ...]:
        """Return the paired change of consistency from the second model to the first, none for a single model."""
        if len(self.models) != 2:
            return ()
        after, before = self._steady
        return (difference(f"{self.plan.protocol} consistency", before, after, self.plan.seed),)

    def flip_counts(self) -> FlipCounts | None:
        """Return how the images divide between the two models, None for a single model."""
        if len(self.models) != 2:
            return None
        count = self._pairs.count
        return FlipCounts(
            both_steady=count((False, False)),
            only_against_flips=count((False, True)),
            only_model_flips=count((True, False)),
            both_flip=count((True, True)),
        )


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


def top_classes(outputs: Array) -> Array:
    """The class with the highest score of each row, `(n, classes, ...)` -> `(n,)`; of equal scores the first."""
    classes: Array = outputs.reshape(len(outputs), -1).argmax(1)
    return classes


def consistency(classes: Array) -> Array:
    """The share of pairs of views with equal classes, `(..., pairs, 2)` -> `(...)`: one figure an image."""
    share: Array = (classes[..., 0] == classes[..., 1]).mean(-1)
    return share


def _top(row: Array) -> int:
    return int(top_classes(row[None])[0])


def _crops(sample: Sample, plan: ShiftPlan, offsets: tuple[Offset, Offset]) -> tuple[Array, ...]:
    if sample.picture is None or plan.protocol == "fractional":
        return ()
    (height, width), base = plan.geometry.size, plan.geometry.base
    crops = []
    for offset in offsets:
        if plan.protocol == "crop":
            top, left = (int(b + o) for b, o in zip(base, offset, strict=True))
            crop = sample.picture[top : top + height, left : left + width]
        else:
            crop = sample.picture[base[0] : base[0] + height, base[1] : base[1] + width]
            crop = np.roll(crop, tuple(-int(o) for o in offset), (0, 1))
        crops.append(_thumbnail(crop))
    return tuple(crops)


def _thumbnail(picture: Array) -> Array:
    """Shrink by averaging whole blocks, so that the thumbnail does not alias either."""
    factor = max(1, round(max(picture.shape[:2]) / THUMBNAIL))
    height, width = (extent // factor * factor for extent in picture.shape[:2])
    blocks = picture[:height, :width].reshape(height // factor, factor, width // factor, factor, 3)
    result: Array = blocks.mean(axis=(1, 3)).astype(np.uint8)
    return result
