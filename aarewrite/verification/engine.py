"""The one pass over the data: every sample decoded once, its views run in batches through every model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from aarewrite.data.arrays import Array, Offset
from aarewrite.data.geometry import Sample
from aarewrite.data.views import Views
from aarewrite.errors import CannotHandle
from aarewrite.model.runner import Model
from aarewrite.verification.protocols import ShiftPlan
from aarewrite.verification.statistics import Tally

BATCH = {"cpu": 16, "cuda": 64}  # see benchmarks/verify_throughput.py


@dataclass(frozen=True)
class Result:
    """What one protocol says about one model."""

    model: str  # label of the model
    protocol: str  # `crop`, `circular` or `fractional`
    description: str  # geometry and sampling in one line
    seed: int  # seed of the random offsets
    n: int  # images


class Study(ABC):
    """One measure: it asks for views of a sample, takes the models' outputs for them, and counts each sample once.

    `models` are labels: the model under test first, the one it is held against second.
    """

    def __init__(self, plan: ShiftPlan, views: Views, models: Sequence[str]) -> None:
        self.plan, self.views, self.models, self.tally = plan, views, tuple(models), Tally()
        self.lines = plan.lines(plan.distances)

    def offsets(self, i: int) -> Sequence[Offset]:
        """Return every offset sample i is viewed at, the centre first."""
        return (self.plan.centre, *self.lines)

    def requests(self, sample: Sample) -> Iterator[tuple[Offset, tuple[Array, ...]]]:
        """Yield the offset and one array per model input for every view."""
        state = self.views.prepare(sample.canvas)
        for offset in self.offsets(sample.index):
            yield offset, (self.views.at(state, offset),)

    def count(self, i: int) -> int:
        """Return how many views sample i will have."""
        return len(self.offsets(i))

    def head(self, m: int, description: str, n: int) -> tuple[str, str, str, int, int]:
        """Return the fields of `Result` for model m."""
        return self.models[m], self.plan.protocol, description, self.plan.seed, n

    @abstractmethod
    def receive(self, sample: Sample, offset: Offset, results: Sequence[dict[str, Array]]) -> None:
        """Take every model's outputs for one view, with a batch axis of 1; views come in the order asked for."""

    @abstractmethod
    def finish(self, sample: Sample) -> None:
        """Count the sample, all its views having been received."""

    @abstractmethod
    def results_of(self, m: int) -> Sequence[Result]:
        """Return what was found of model m."""


@dataclass(frozen=True)
class _Request:
    study: Study
    sample: Sample
    offset: Offset
    arrays: tuple[Array, ...]
    last: bool


def run_studies(
    models: Sequence[Model],
    samples: Iterable[Sample],
    studies: Sequence[Study],
    batch: int,
    advance: Callable[[int], None] = lambda views: None,
) -> None:
    """Feed every sample's views to all models, `batch` at a time across samples, and hand back the outputs.

    Samples are read once. `advance` is called with the number of views done, for a progress bar.

    Raises:
        CannotHandle: A model refuses the views, or an output has no batch axis.
    """
    requests = _requests(samples, studies)
    while waiting := list(islice(requests, batch)):
        _run(models, waiting)
        advance(len(waiting))


def _requests(samples: Iterable[Sample], studies: Sequence[Study]) -> Iterator[_Request]:
    for sample in samples:
        for study in studies:
            count = study.count(sample.index)
            for number, (offset, arrays) in enumerate(study.requests(sample), start=1):
                yield _Request(study, sample, offset, arrays, last=number == count)


def _run(models: Sequence[Model], requests: Sequence[_Request]) -> None:
    n = len(requests)
    stacked = [np.stack(views) for views in zip(*(request.arrays for request in requests), strict=True)]
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
        request.study.receive(request.sample, request.offset, rows)
        if request.last:
            request.study.finish(request.sample)
