"""Classifiers on pictures that are spoilt: how many stay right, keep their class, flip from frame to frame.

After D. Hendrycks and T. Dietterich (ICLR 2019): figures relative to the model it is held against, whose mean error and
mean flip rate are 1. The corruptions are our own (see `data/corruptions.py`) and so are no scores of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import fmean

import numpy as np

from aarewrite.data.arrays import Array, window
from aarewrite.data.corruptions import FRESH, KINDS, NOISES, RISING, SEVERITIES, corrupted
from aarewrite.data.geometry import Sample
from aarewrite.data.preprocess import to_model_units
from aarewrite.data.setup import Setup
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.verification.classify import checked_label, read_scores, top_classes
from aarewrite.verification.engine import Render, Result, Study
from aarewrite.verification.statistics import Difference, Mean, Proportion, difference

ALL = "all"


@dataclass(frozen=True)
class Corruption:
    """What one kind of corruption does to a classifier; shares are over images."""

    kind: str  # one of `KINDS`
    kept: tuple[Proportion, ...]  # images that keep the class of the picture as it is, at severities 1 to 5
    failed: Proportion  # over all severities: images that get a wrong class; without labels, that lose theirs
    flips: Mean  # class changes a step of the sequence
    relative_failed: float | None = None  # to the model it is held against; None without one, or where that never fails
    relative_flips: float | None = None


@dataclass(frozen=True)
class CorruptionResult(Result):
    """What corruptions do to one classifier."""

    labelled: bool  # whether a wrong class counts as failed, or a lost one
    kinds: tuple[Corruption, ...]
    clean: Proportion | None  # images right as they are, None without labels
    failed: Proportion  # over all kinds and severities, an image by its mean
    mean_failed: float | None  # mean over kinds of `relative_failed`; 1 for the model it is held against
    mean_flips: float | None  # and of `relative_flips`
    change: Difference | None = None  # of what does not fail, paired, from `against`, at the model under test


class CorruptionStudy(Study):
    """Shows the centre crop of every picture to the models as it is, under each corruption, and its sequences."""

    def __init__(self, setup: Setup, outputs: Sequence[str], kinds: Sequence[str]) -> None:
        super().__init__([model.label for model in setup.models])
        if unknown := next((kind for kind in kinds if kind not in KINDS), None):
            raise UsageError(f"--corruptions {unknown}: unknown", f"use any of {', '.join(KINDS)}")
        if not kinds or len(set(kinds)) < len(kinds):
            raise UsageError(f"--corruptions {','.join(kinds)!r}: none, or one twice", f"use any of {', '.join(KINDS)}")
        self._setup, self._outputs, self._kinds = setup, outputs, tuple(kinds)
        self._views: list[tuple[str, float, int]] = [("", 0.0, 0)]  # kind, severity, which draw
        for kind in kinds:
            frames = [(1.0, k) for k in range(1, 1 + FRESH)] if kind in NOISES else [(s, 0) for s in RISING]
            self._views += [(kind, severity, draw) for severity, draw in (*((s, 0) for s in SEVERITIES), *frames)]
        self._rows: list[list[Array]] = []  # of the image in work, by view

    def count(self, i: int) -> int:
        """Return how many views sample i has."""
        return len(self._views)

    def look(self, sample: Sample) -> Render:
        """Return what spoils the picture."""
        if sample.raw is None:
            raise CannotHandle(f"corruptions spoil pictures: {self._setup.no_pictures}", "give a folder of images")
        geometry, seed = self._setup.geometry, self._setup.seed
        crop = window(sample.raw[1], (0, 1), geometry.base, geometry.size)
        finish = partial(to_model_units, spec=self._setup.spec, recipe=self._setup.recipe)

        def render(number: int) -> tuple[Array, ...]:
            kind, severity, draw = self._views[number]
            return (finish(corrupted(crop, kind, severity, (seed, sample.index, draw)) if kind else crop),)

        return render

    def receive(self, sample: Sample, number: int, results: Sequence[dict[str, Array]]) -> None:
        """Take every model's scores for one view."""
        kind, severity, _ = self._views[number]
        seen = f"{self._setup.data.names[sample.index]}, {kind or 'as it is'} {severity:g}"
        self._rows.append(read_scores(self.models, self._outputs, results, seen))

    def finish(self, sample: Sample) -> None:
        """Note the image's figures."""
        labels = self._setup.data.labels
        for m, rows in enumerate(zip(*self._rows, strict=True)):
            tops = dict(zip(self._views, top_classes(np.stack(rows)).tolist(), strict=True))
            clean = tops[self._views[0]]
            wanted = clean
            if labels is not None:
                wanted = checked_label(labels[sample.index], self._setup.data.names[sample.index], len(rows[0]))
                self.note((m, "clean"), clean == wanted)
            every = []
            for kind in self._kinds:
                found = [tops[kind, severity, 0] for severity in SEVERITIES]
                for severity, top in zip(SEVERITIES, found, strict=True):
                    self.note((m, kind, severity), top == clean)
                failed = [top != wanted for top in found]
                self.note((m, kind, "failed"), failed)
                every += failed
                if kind in NOISES:
                    frames = [tops[kind, 1, draw] for draw in range(1 + FRESH)]
                else:
                    frames = [clean, *(tops[kind, severity, 0] for severity in (*RISING, 1))]
                self.note((m, kind, "flips"), [a != b for a, b in pairwise(frames)])
            self.note((m, ALL), every)
        self._rows.clear()

    def results_of(self, m: int) -> Sequence[CorruptionResult]:
        """Return what was found of model m."""
        other = len(self.models) - 1  # what it is held against, be it itself
        held = len(self.models) > 1

        def ratio(kind: str, what: str) -> float | None:
            mine, theirs = (sum(self.tally.values[k, kind, what]) for k in (m, other))
            return mine / theirs if held and theirs else None

        def mean(values: Sequence[float | None]) -> float | None:
            known = [value for value in values if value is not None]
            return fmean(known) if known else None

        kinds = tuple(
            Corruption(
                kind,
                tuple(self.tally.share((m, kind, severity)) for severity in SEVERITIES),
                self.tally.share((m, kind, "failed")),
                self.tally.mean((m, kind, "flips")),
                ratio(kind, "failed"),
                ratio(kind, "flips"),
            )
            for kind in self._kinds
        )
        labelled = self._setup.data.labels is not None
        failed = self.tally.share((m, ALL))
        change = None
        if held and m == 0:
            after, before = (1 - np.asarray(self.tally.values[k, ALL]) for k in (0, other))
            what = "right" if labelled else "kept"
            change = difference(f"{what} under corruptions", before, after, self._setup.seed)
        description = (
            f"{len(kinds)} corruptions of the centre crop at severities 1 to 5, and sequences of each; our own "
            f"definitions, seed {self._setup.seed}"
        )
        head = self.models[m], "corruptions", description, self._setup.seed, failed.n
        clean = self.tally.share((m, "clean")) if labelled else None
        mean_failed, mean_flips = (
            mean([getattr(k, name) for k in kinds]) for name in ("relative_failed", "relative_flips")
        )
        return [CorruptionResult(*head, labelled, kinds, clean, failed, mean_failed, mean_flips, change)]


def loss(result: CorruptionResult, gains: Sequence[Difference]) -> str:
    """What speaks against gains under shifts: a loss under corruptions. Empty where none of both is shown."""
    gained = [gain for gain in gains if gain.sign > 0]
    if not gained or result.change is None or result.change.sign >= 0:
        return ""
    named = ", ".join(f"{gain.name} {gain.says}" for gain in gained)
    worse = f"{result.change.name} {result.change.says} points"
    return f"steadier under shifts ({named}), but worse under corruptions: {worse}"
