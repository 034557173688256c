"""Embeddings: how far a shift moves them compared with how far apart different images are, whether nearest neighbours
stay, and whether an index built with another model still serves.

Distances are 1 - cosine. The samples' centre crops are the index; what a shift makes of them are the queries.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aarewrite.data.arrays import Array
from aarewrite.data.geometry import Sample
from aarewrite.data.views import Views
from aarewrite.errors import UsageError
from aarewrite.verification.engine import Result, ShiftStudy
from aarewrite.verification.finite import demand_finite
from aarewrite.verification.protocols import ShiftPlan
from aarewrite.verification.records import Note
from aarewrite.verification.statistics import Difference, Mean, Proportion, difference

FEWEST = 3  # images: of two, each is always the other's nearest
CHUNK = 1 << 22  # similarities worked out at a time
SAME = 1e-6  # images closer than this on average are all the same to a model


@dataclass(frozen=True)
class EmbedPoint:
    """One shift of every image."""

    direction: str
    distance: float
    drift: Mean  # distance from the embedding at the centre
    neighbour: Proportion  # share of images whose nearest other image is the one at the centre
    found: Proportion  # share of images that are the nearest to their own shifted selves


@dataclass(frozen=True)
class Index:
    """What an index of the other model's embeddings makes of this one's."""

    drift: Mean  # distance of both models' embeddings of an image
    found: Proportion  # share of centre crops whose nearest in the index is their own
    found_moved: Proportion  # the same of shifted crops
    neighbour: Proportion  # share of centre crops whose nearest other image is the one that the other model finds


@dataclass(frozen=True)
class EmbedResult(Result):
    """What one protocol says about one model's embeddings; the figures are over all shifts, an image by its mean."""

    output: str
    size: int  # numbers an embedding
    apart: Mean  # distance from the other images, an image by its mean; 0: no signal
    drift: Mean
    drift_of_apart: float  # drift by `apart`: 0 is perfect, at 1 a shift makes another image of it
    neighbour: Proportion
    found: Proportion
    points: tuple[EmbedPoint, ...]
    index: Index | None = None  # at the model under test, where the other's embeddings are of the same size

    @property
    def signal(self) -> bool:
        """Whether different images have different embeddings."""
        return self.apart.value > SAME


class EmbedStudy(ShiftStudy):
    """Keeps every sample's embeddings at the centre and at a few shifts; `outputs` are the models', one each.

    `UsageError` for fewer than `FEWEST` samples.
    """

    def __init__(
        self, plan: ShiftPlan, views: Views, models: Sequence[str], outputs: Sequence[str], samples: int
    ) -> None:
        super().__init__(plan, views, models)
        if samples < FEWEST:
            raise UsageError(f"--task embed: {samples} samples have no neighbours", f"give at least {FEWEST}")
        self._outputs = outputs
        wanted = [d for k, d in enumerate(plan.distances, 1) if k & (k - 1) == 0 or d == plan.distances[-1]]
        self.lines = plan.lines(wanted)  # 1, 2, 4, 8: every view's embedding is kept
        self._kept: list[list[Array]] = [[] for _ in models]  # by sample, (views, size), of length 1

    def receive(self, sample: Sample, number: int, results: Sequence[dict[str, Array]]) -> None:
        """Keep every model's embedding of one view."""
        for m, (output, result) in enumerate(zip(self._outputs, results, strict=True)):
            vector = embedding(result[output])
            demand_finite(self.models[m], {output: vector}, f"sample {sample.index + 1}")
            largest = np.abs(vector).max(initial=0.0)  # only the direction counts, and float32 must hold it
            text = _text(vector / largest if largest > 0 else vector)
            self.note((m, text), number)  # notes are single numbers; a vector is what this one is of

    def finish(self, sample: Sample) -> None:
        """Nothing is left to note."""

    def count_in(self, i: int, notes: Sequence[Note]) -> None:
        """Keep sample i's embeddings."""
        views: list[list[Array]] = [[] for _ in self.models]
        for key, _ in notes:  # in the order of the views
            assert isinstance(key, tuple)
            views[key[0]].append(_vector(key[1]))
        for kept, rows in zip(self._kept, views, strict=True):
            lengths = np.linalg.norm(rows, axis=1, keepdims=True)
            kept.append(np.stack(rows) / np.where(lengths > 0, lengths, 1))

    def results_of(self, m: int) -> Sequence[EmbedResult]:
        """Return what was found of model m."""
        vectors, n = np.stack(self._kept[m]), len(self._kept[m])
        centre = vectors[:, 0]
        alike = centre @ centre.sum(0) - (centre * centre).sum(1)  # with all others together
        apart, drift = Mean.of(1 - alike / (n - 1)), 1 - (vectors[:, 1:] * centre[:, None]).sum(2)
        stays, itself = self._stays(m), np.arange(n)
        found = np.stack([_nearest(moved, centre) == itself for moved in np.moveaxis(vectors[:, 1:], 1, 0)], 1)
        points = [
            EmbedPoint(*line, Mean.of(drift[:, k]), _share(stays[:, k]), _share(found[:, k]))
            for k, line in enumerate(self.lines.values())
        ]
        over_shifts = Mean.of(drift.mean(1))
        result = EmbedResult(
            *self.head(m, f"{self.plan.geometry.describe()}; distances are 1 - cosine", n),
            self._outputs[m],
            centre.shape[1],
            apart,
            over_shifts,
            over_shifts.value / apart.value if apart.value > SAME else math.nan,
            _share(stays.mean(1)),
            _share(found.mean(1)),
            tuple(points),
            self._index() if m == 0 and len(self.models) == 2 else None,
        )
        return [result]

    def _stays(self, m: int) -> Array:
        """Whether the nearest other image is the one at the centre, by image and shift."""
        vectors = np.stack(self._kept[m])
        itself = np.arange(len(vectors))
        nearest = [_nearest(view, vectors[:, 0], itself) for view in np.moveaxis(vectors, 1, 0)]
        stays: Array = np.stack(nearest[1:], 1) == nearest[0][:, None]
        return stays

    def _index(self) -> Index | None:
        """What the second model's embeddings, as an index, make of the first one's."""
        own, other = (np.stack(kept) for kept in self._kept)
        if own.shape[2] != other.shape[2]:
            return None
        index, itself = other[:, 0], np.arange(len(other))
        found, *moved = (_nearest(view, index) == itself for view in np.moveaxis(own, 1, 0))
        neighbour = _nearest(own[:, 0], index, itself) == _nearest(index, index, itself)
        apart = Mean.of(1 - (own[:, 0] * index).sum(1))
        return Index(apart, _share(found), _share(np.mean(moved, axis=0)), _share(neighbour))

    def changes(self) -> tuple[Difference, ...]:
        """The paired change of the share of neighbours that stay, from the second model to the first."""
        if len(self.models) != 2:
            return ()
        after, before = (self._stays(m).mean(1) for m in (0, 1))
        return (difference(f"{self.plan.protocol} nearest neighbours that stay", before, after, self.plan.seed),)


def embedding(output: Array) -> Array:
    """One vector of a model's output for one input: lists (tokens) and maps by their mean."""
    rows = output.reshape(1, -1) if output.ndim < 3 else output
    vector: Array = rows[0].mean(0) if rows.ndim == 3 else rows[0].reshape(len(rows[0]), -1).mean(1)
    return vector.astype(np.float64)


def _text(vector: Array) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _vector(text: str) -> Array:
    return np.frombuffer(base64.b64decode(text), "<f4")


def _nearest(queries: Array, index: Array, but: Array | None = None) -> Array:
    """Which row of the index is nearest to each query, one of each left out where `but` says so; all of length 1."""
    found, step = [], max(1, CHUNK // len(index))
    for start in range(0, len(queries), step):
        alike = queries[start : start + step] @ index.T
        if but is not None:
            alike[np.arange(len(alike)), but[start : start + step]] = -np.inf
        found.append(alike.argmax(1))
    return np.concatenate(found)


def _share(values: Array) -> Proportion:
    return Proportion.of(float(values.sum()), len(values))
