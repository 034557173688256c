"""The one pass over the data: every sample decoded once, its views rendered in the background and run in batches."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

import numpy as np

from aarewrite.data.arrays import Array, Offset
from aarewrite.data.dataset import UnreadableSample
from aarewrite.data.geometry import Sample
from aarewrite.data.prefetch import prefetch
from aarewrite.data.views import Views
from aarewrite.errors import CannotHandle
from aarewrite.model.runner import Model
from aarewrite.verification.protocols import ShiftPlan
from aarewrite.verification.records import Found, Note
from aarewrite.verification.statistics import Tally

BATCH = {"cpu": 4, "cuda": 64}  # see benchmarks/verify_throughput.py
BLOCK = 8  # samples that share batches; what is measured together, sent elsewhere or resumed, is whole blocks
AHEAD = 3  # batches that are rendered before the model takes them
MOST_RUNS = 4  # batches that run at a time on the CPU: each holds a batch's activations
Answers = Sequence[dict[str, Array]]  # every model's outputs for a batch, by name
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

    What is found on a sample is noted, and the notes are counted, in the samples' order, where they were taken or where
    they were sent to: whatever `results_of` says follows from the notes alone.

    `models` are labels: the model under test first, the one it is held against second.
    """

    def __init__(self, models: Sequence[str]) -> None:
        self.models = tuple(models)
        self.tally = Tally()
        self._notes: list[Note] = []

    def note(self, key: Hashable, values: float | Sequence[float]) -> None:
        """Note a figure of the sample in work, once a key: a value, or several, whose mean counts.

        A key is a text, a number, or a tuple of keys.
        """
        mean = sum(values) / len(values) if isinstance(values, Sequence) else values
        self._notes.append((key, float(mean)))

    def noted(self) -> list[Note]:
        """Return what was noted, and begin anew."""
        notes, self._notes = self._notes, []
        return notes

    def count_in(self, i: int, notes: Sequence[Note]) -> None:
        """Count sample i by its notes."""
        for key, value in notes:
            self.tally.add(key, value)

    def illustrate(self, load: Callable[[int], Sample]) -> None:
        """Draw what the report shows of single samples, from their canvases; by default there is nothing to draw."""
        del load

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
        """Note what is to be counted of the sample, all its views having been received."""

    @abstractmethod
    def results_of(self, m: int) -> Sequence[Result]:
        """Return what was found of model m."""


class ShiftStudy(Study):
    """A study of views at the offsets of a plan, numbered as in `offsets`."""

    def __init__(self, plan: ShiftPlan, views: Views, models: Sequence[str]) -> None:
        super().__init__(models)
        self.plan, self.views = plan, views
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

    def pictures(self, sample: Sample, offsets: Sequence[Offset], side: int) -> tuple[Array, ...]:
        """The sample's picture at offsets, `(h, w, 3)` bytes of about `side` px; none where it is no picture, or none
        of whole pixels.
        """
        if sample.picture is None or self.plan.protocol == "fractional":
            return ()
        views = Views(self.plan.protocol, self.plan.geometry, (0, 1))
        state = views.prepare(sample.picture)
        return tuple(_thumbnail(views.at(state, offset), side) for offset in offsets)

    def head(self, m: int, description: str, n: int) -> tuple[str, str, str, int, int]:
        """Return the fields of `Result` for model m."""
        return self.models[m], self.plan.protocol, description, self.plan.seed, n


def _thumbnail(picture: Array, side: int) -> Array:
    """Shrink by averaging whole blocks, so that the thumbnail does not alias either."""
    factor = max(1, round(max(picture.shape[:2]) / side))
    height, width = (extent // factor * factor for extent in picture.shape[:2])
    blocks = picture[:height, :width].reshape(height // factor, factor, width // factor, factor, 3)
    result: Array = blocks.mean(axis=(1, 3)).astype(np.uint8)
    return result


@dataclass(frozen=True)
class _Request:
    study: Study
    sample: Sample
    number: int
    render: Render


def run_studies(
    models: Sequence[Model],
    load: Callable[[int], Sample],
    indices: Iterable[int],
    studies: Sequence[Study],
    batch: int,
    advance: Callable[[int], None] = lambda views: None,
    outputs: Sequence[Sequence[str]] = (),
    workers: int = 2,
    runs: int = 1,
) -> Iterator[Found]:
    """Feed the views of samples to all models, `batch` at a time, and yield what the studies noted of each sample. The
    studies are given the `outputs` of each model, or every one.

    Samples are loaded once, their views rendered and `runs` batches at a time run in the background, while the studies
    take what is done, in the samples' order. Batches hold views of the same `BLOCK` samples: what is found does not
    depend on which other blocks are measured here. `advance` is called with the number of views done, for a progress
    bar. `workers` threads load and as many render; with 0 all is done in turn, on one core.

    Raises:
        CannotHandle: A model refuses the views, or an output has no batch axis.
    """
    unread: list[Found] = []

    def seen(i: int) -> tuple[Sample, list[Render]] | Found:
        try:
            sample = load(i)
        except UnreadableSample as error:
            return Found(i, error.message)
        return sample, [study.look(sample) for study in studies]

    def requests() -> Iterator[_Request]:
        for _, loaded in prefetch(seen, indices, workers):
            if isinstance(loaded, Found):
                unread.append(loaded)
                continue
            sample, renders = loaded
            for study, render in zip(studies, renders, strict=True):
                yield from (_Request(study, sample, number, render) for number in range(study.count(sample.index)))

    def batches() -> Iterator[list[_Request]]:
        for _, block in groupby(requests(), lambda request: request.sample.index // BLOCK):
            while taken := list(islice(block, batch)):
                yield taken

    def answered(rendered: tuple[list[_Request], list[Array]]) -> Answers:
        return _run(models, rendered[1], outputs or [()] * len(models))

    stacked = prefetch(_stacked, batches(), workers, AHEAD)
    for (waiting, _), answers in prefetch(answered, stacked, runs if workers else 0, 2 * runs):
        for study, sample in _received(waiting, answers):
            if study is studies[-1]:
                yield Found(sample.index, sample.remark, [each.noted() for each in studies])
        advance(len(waiting))
    yield from unread


def share_cores(provider: str, threads: int) -> tuple[int, int]:
    """How many batches run at a time, and the threads of an operator for each, 0: as many as cores; `threads` as of
    `verify`.

    Batches that run side by side on few threads wait for each other less than the threads of one operator do.
    """
    if threads or provider == "cuda":
        return 1, threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    runs = min(cores, MOST_RUNS)
    return runs, max(1, cores // runs)


def _stacked(requests: Sequence[_Request]) -> list[Array]:
    views = (request.render(request.number) for request in requests)
    return [np.stack(arrays) for arrays in zip(*views, strict=True)]


def _run(models: Sequence[Model], stacked: Sequence[Array], names: Sequence[Sequence[str]]) -> Answers:
    """Every model's outputs for a batch."""
    n = len(stacked[0])
    outputs = [model.run(model.feed(stacked), wanted) for model, wanted in zip(models, names, strict=True)]
    for model, found in zip(models, outputs, strict=True):
        for name, array in found.items():
            if n > 1 and (array.ndim == 0 or len(array) != n):
                raise CannotHandle(
                    f"{model.label}: output {name!r} of shape {array.shape} has no batch axis for {n} inputs",
                    "use --batch 1",
                )
    return outputs


def _received(requests: Sequence[_Request], outputs: Answers) -> Iterator[tuple[Study, Sample]]:
    """Hand back a batch's outputs, view by view; yield study and sample at each sample's last view."""
    n = len(requests)
    for j, request in enumerate(requests):
        rows = [{name: a[j : j + 1] if n > 1 else a for name, a in found.items()} for found in outputs]
        request.study.receive(request.sample, request.number, rows)
        if request.number == request.study.count(request.sample.index) - 1:
            request.study.finish(request.sample)
            yield request.study, request.sample
