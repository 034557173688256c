"""The one pass over the data: every sample decoded once, its views rendered in the background and run in batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from aarewrite.data.arrays import Array, Offset
from aarewrite.data.geometry import Sample
from aarewrite.data.sources import prefetch
from aarewrite.data.views import Views
from aarewrite.errors import CannotHandle
from aarewrite.model.runner import Model
from aarewrite.verification.protocols import ShiftPlan
from aarewrite.verification.statistics import Tally

BATCH = {"cpu": 16, "cuda": 64}  # see benchmarks/verify_throughput.py
AHEAD = 3  # batches that are rendered before the model takes them
Render = Callable[[int], tuple[Array, ...]]  # one array per model input for a view of a sample, by its number


@dataclass(frozen=True)
class Result:
    """What one protocol says about one model."""

    model: str  # label of the model
    protocol: str  # `crop`, `circular` or `fractional`; `camera`, `pairs`
    description: str  # geometry and sampling in one line
    seed: int  # seed of the random offsets
    n: int  # images


class Study(ABC):
    """One measure: it renders views of a sample, takes the models' outputs for them, and counts each sample once.

    `models` are labels: the model under test first, the one it is held against second.
    """

    def __init__(self, models: Sequence[str]) -> None:
        self.models = tuple(models)

    @abstractmethod
    def count(self, i: int) -> int:
        """Return how many views sample i has; they are numbered from 0."""

    @abstractmethod
    def look(self, sample: Sample) -> Render:
        """Do once what all views of a sample share; both this and the rendering run in the background."""

    @abstractmethod
    def receive(self, sample: Sample, number: int, results: Sequence[dict[str, Array]]) -> None:
        """Take every model's outputs for one view, with a batch axis of 1; views come in order."""

    @abstractmethod
    def finish(self, sample: Sample) -> None:
        """Count the sample, all its views having been received."""

    @abstractmethod
    def results_of(self, m: int) -> Sequence[Result]:
        """Return what was found of model m."""


class ShiftStudy(Study):
    """A study of views at the offsets of a plan, numbered as in `offsets`."""

    def __init__(self, plan: ShiftPlan, views: Views, models: Sequence[str]) -> None:
        super().__init__(models)
        self.plan, self.views, self.tally = plan, views, Tally()
        self.lines = plan.lines(plan.distances)

    def offsets(self, i: int) -> Sequence[Offset]:
        """Return every offset sample i is viewed at, the centre first."""
        return (self.plan.centre, *self.lines)

    def count(self, i: int) -> int:
        """Return how many views sample i has."""
        return len(self.offsets(i))

    def look(self, sample: Sample) -> Render:
        """Return what cuts the views."""
        state, offsets = self.views.prepare(sample.canvas), self.offsets(sample.index)
        return lambda number: (self.views.at(state, offsets[number]),)

    def head(self, m: int, description: str, n: int) -> tuple[str, str, str, int, int]:
        """Return the fields of `Result` for model m."""
        return self.models[m], self.plan.protocol, description, self.plan.seed, n


@dataclass(frozen=True)
class _Request:
    study: Study
    sample: Sample
    number: int
    render: Render


def run_studies(
    models: Sequence[Model],
    load: Callable[[int], Sample],
    count: int,
    studies: Sequence[Study],
    batch: int,
    advance: Callable[[int], None] = lambda views: None,
) -> None:
    """Feed the views of the first samples to all models, `batch` at a time across samples, and hand back the outputs.

    Samples are loaded once and their views rendered, a few batches ahead, while the models run. `advance` is called
    with the number of views done, for a progress bar.

    Raises:
        CannotHandle: A model refuses the views, or an output has no batch axis.
    """

    def seen(i: int) -> tuple[Sample, list[Render]]:
        sample = load(i)
        return sample, [study.look(sample) for study in studies]

    requests = (
        _Request(study, sample, number, render)
        for _, (sample, renders) in prefetch(seen, range(count))
        for study, render in zip(studies, renders, strict=True)
        for number in range(study.count(sample.index))
    )
    batches = iter(lambda: list(islice(requests, batch)), [])
    for waiting, stacked in prefetch(_stacked, batches, ahead=AHEAD):
        _run(models, waiting, stacked)
        advance(len(waiting))


def _stacked(requests: Sequence[_Request]) -> list[Array]:
    views = (request.render(request.number) for request in requests)
    return [np.stack(arrays) for arrays in zip(*views, strict=True)]


def _run(models: Sequence[Model], requests: Sequence[_Request], stacked: Sequence[Array]) -> None:
    n = len(requests)
    outputs = [model.run(model.feed(stacked)) for model in models]
    for model, found in zip(models, outputs, strict=True):
        for name, array in found.items():
            if n > 1 and (array.ndim == 0 or len(array) != n):
                raise CannotHandle(
                    f"{model.label}: output {name!r} of shape {array.shape} has no batch axis for {n} inputs",
                    "use --batch 1",
                )
    for j, request in enumerate(requests):
        rows = [{name: a[j : j + 1] if n > 1 else a for name, a in found.items()} for found in outputs]
        request.study.receive(request.sample, request.number, rows)
        if request.number == request.study.count(request.sample.index) - 1:
            request.study.finish(request.sample)
