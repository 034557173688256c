"""The one pass over the data: every sample decoded once, its views run in batches through every model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aarewrite.data.arrays import Array, Offset
from aarewrite.data.geometry import Sample
from aarewrite.data.views import Views
from aarewrite.errors import CannotHandle
from aarewrite.model.runner import Model
from aarewrite.verification.protocols import ShiftPlan
from aarewrite.verification.statistics import Tally

BATCH = {"cpu": 16, "cuda": 64}  # see benchmarks/verify_throughput.py


class Study(ABC):
    """One measure: it asks for views of a sample and takes the models' outputs for them.

    Args:
        plan: Which shifts.
        views: How to make them.
        models: Labels of the models, the one under test first, the one it is held against second.
    """

    def __init__(self, plan: ShiftPlan, views: Views, models: Sequence[str]) -> None:
        self.plan, self.views, self.models = plan, views, tuple(models)
        self.tally, self.n = Tally(), 0

    @abstractmethod
    def offsets(self, i: int) -> Sequence[Offset]:
        """Return every offset sample i is viewed at, the centre first."""

    def requests(self, sample: Sample) -> Iterator[tuple[Any, tuple[Array, ...]]]:
        """Yield (key, one array per model input) for every view; here the key is the offset."""
        state = self.views.prepare(sample.canvas)
        for offset in self.offsets(sample.index):
            yield offset, (self.views.at(state, offset),)

    def count(self, i: int) -> int:
        """Return how many views sample i will have."""
        return len(self.offsets(i))

    @abstractmethod
    def receive(self, sample: Sample, key: Any, results: Sequence[dict[str, Array]]) -> None:
        """Take every model's outputs for one view, with a batch axis of 1."""

    @abstractmethod
    def finish(self, sample: Sample) -> None:
        """Count the sample, all its views having been received."""


@dataclass(frozen=True)
class _Request:
    study: Study
    sample: Sample
    key: Any
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

    Args:
        models: Run on the same views, in this order.
        samples: Read once.
        studies: What asks for views.
        batch: Views a run; the last one may be smaller.
        advance: Called with the number of views done, for a progress bar.

    Raises:
        CannotHandle: A model refuses the views, or an output has no batch axis.
    """
    buffers: list[Array] = []
    waiting: list[_Request] = []
    for request in _requests(samples, studies):
        if not buffers:
            buffers = [np.empty((batch, *array.shape), array.dtype) for array in request.arrays]
        for buffer, array in zip(buffers, request.arrays, strict=True):
            buffer[len(waiting)] = array
        waiting.append(request)
        if len(waiting) == batch:
            _flush(models, buffers, waiting)
            advance(len(waiting))
            waiting.clear()
    if waiting:
        _flush(models, buffers, waiting)
        advance(len(waiting))


def _requests(samples: Iterable[Sample], studies: Sequence[Study]) -> Iterator[_Request]:
    for sample in samples:
        for study in studies:
            held: _Request | None = None
            for key, arrays in study.requests(sample):
                if held is not None:
                    yield held
                held = _Request(study, sample, key, arrays, last=False)
            if held is not None:
                yield _Request(study, sample, held.key, held.arrays, last=True)


def _flush(models: Sequence[Model], buffers: Sequence[Array], waiting: Sequence[_Request]) -> None:
    n = len(waiting)
    outputs = []
    for model in models:
        names = (spec.name for spec in model.image_inputs)
        found = model.run({name: buffer[:n] for name, buffer in zip(names, buffers, strict=True)})
        for name, array in found.items():
            if n > 1 and (array.ndim == 0 or len(array) != n):
                raise CannotHandle(
                    f"{model.label}: output {name!r} of shape {array.shape} has no batch axis for {n} inputs",
                    "use --batch 1",
                )
        outputs.append(found)
    for j, request in enumerate(waiting):
        rows = [{name: a[j : j + 1] if n > 1 else a for name, a in found.items()} for found in outputs]
        request.study.receive(request.sample, request.key, rows)
        if request.last:
            request.study.finish(request.sample)
