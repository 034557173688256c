"""Calibration data: images or signals that are larger than what the model sees, and crops of them.

Crops at random places serve twice: as more data to fit on, and as the shifts that a result is judged by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from aarewrite.data.arrays import Array, Batches, Feed, window
from aarewrite.data.camera import Scene
from aarewrite.data.geometry import Geometry, canvas_around
from aarewrite.data.setup import Setup
from aarewrite.errors import UsageError

CROPS_PER_RUN = 8
LARGEST_OFFSET = 31  # of random crops, per axis, as in Zhang 2019


@dataclass(frozen=True)
class Canvases:
    """Samples that crops are cut from."""

    count: int  # number of samples
    load: Callable[[int], Array]  # sample i in the model's layout, type and units, without the batch axis
    input: str  # name of the model's input
    size: tuple[int, ...]  # what the model sees along the spatial axes
    axes: tuple[int, ...] = (1, 2)  # the spatial axes of a sample, (1, 2) for channels first
    labels: NDArray[np.int64] | None = None  # class of each sample, counted as in the model's output; None when unknown
    batch: int = CROPS_PER_RUN  # crops per run of the model: 1 for models with a fixed batch of 1
    constants: tuple[tuple[str, Array], ...] = ()  # whole arrays for further inputs of the model, the same in each run
    scene: Callable[[int], Scene] | None = None  # what a camera sees of sample i; None where samples are no pictures

    def room(self, sample: Array) -> tuple[int, ...]:
        """Largest offset of a crop along each axis; `UsageError` for a sample smaller than the model's input."""
        room = tuple(sample.shape[axis] - size for axis, size in zip(self.axes, self.size, strict=True))
        if min(room) < 0:
            raise UsageError(
                f"a calibration sample of shape {sample.shape} is smaller than the model's input {self.size}",
                "give larger samples, or resize them",
            )
        return room

    def crop(self, sample: Array, offset: Sequence[int]) -> Array:
        """The part of `sample` that begins at `offset`."""
        return window(sample, self.axes, offset, self.size)

    def centred(self, sample: Array) -> tuple[Geometry, Array]:
        """Sizes and the canvas in a sample's middle, as `verify` makes it; `UsageError` if nothing is left to shift."""
        room = self.room(sample)
        if min(room) < 1:
            raise UsageError("the samples leave no room to shift", "give larger samples")
        wanted = canvas_around(self.size)
        canvas = tuple(min(size + most, want) for size, most, want in zip(self.size, room, wanted, strict=True))
        corner = [(sample.shape[axis] - extent) // 2 for axis, extent in zip(self.axes, canvas, strict=True)]
        return Geometry(self.size, canvas), window(sample, self.axes, corner, canvas)

    def feeds(self, crops: Iterable[Array]) -> Iterator[Feed]:
        """Stack crops into feeds of `batch`; the last one may be smaller."""
        rest = iter(crops)
        while batch := list(islice(rest, self.batch)):
            yield {self.input: np.stack(batch), **dict(self.constants)}

    def batches(self, indices: Sequence[int], *, crops: int = 1, seed: int = 0) -> Batches:
        """Feeds for `repair`: `crops` random crops of each sample, one after another; `UsageError` without samples."""
        if len(indices) == 0:
            raise UsageError("there are no calibration samples", "give a folder of images or an .npz with some")

        def cut() -> Iterator[Array]:
            for index in indices:
                sample = self.load(int(index))
                rng = np.random.default_rng([seed, int(index)])
                for _ in range(crops):
                    yield self.crop(sample, random_offset(self.room(sample), rng))

        return lambda: self.feeds(cut())

    def split(self, hold_out: float, seed: int = 0) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Indices to calibrate on and to judge by, disjoint and sorted; `UsageError` with too few samples for both."""
        if not 0 < hold_out < 1:
            raise UsageError(f"cannot hold out a share of {hold_out}", "give a number between 0 and 1")
        held = round(self.count * hold_out)
        if held < 1 or held >= self.count:
            raise UsageError(f"{self.count} samples are too few to hold some out", "give at least a dozen")
        order = np.random.default_rng([seed, self.count]).permutation(self.count)
        return np.sort(order[held:]), np.sort(order[:held])


def random_offset(room: Sequence[int], rng: np.random.Generator) -> tuple[int, ...]:
    """A place for a crop: uniform in 0..31 per axis, or in what room there is."""
    return tuple(int(rng.integers(0, min(most, LARGEST_OFFSET) + 1)) for most in room)


def from_array(
    samples: Array,
    input: str,
    *,
    size: tuple[int, ...] | None = None,
    labels: NDArray[np.int64] | None = None,
    batch: int = CROPS_PER_RUN,
) -> Canvases:
    """Canvases out of one array (n, channels, ...): cropped to `size`, or shifted within a reflected border of 1/8."""
    spatial, axes = samples.shape[2:], tuple(range(1, samples.ndim - 1))
    seen = tuple(size or spatial)
    borders = [(0, 0), *((max(1, n // 8),) * 2 for n in spatial)]

    def load(i: int) -> Array:
        return np.pad(samples[i], borders, mode="reflect") if seen == spatial else samples[i]

    return Canvases(len(samples), load, input, seen, axes, labels, batch)


def from_setup(setup: Setup) -> Canvases:
    """Canvases of what was opened for its first model: the very ones that `verify` cuts its crops from."""
    model, data, size = setup.models[0], setup.data, setup.geometry.size
    labels = None if data.labels is None else np.asarray(data.labels, np.int64)
    batch, constants = model.batch or CROPS_PER_RUN, tuple(model.constants.items())

    def load(i: int) -> Array:
        return setup.sample(i).canvas

    def scene(i: int) -> Scene:
        return setup.scene(setup.sample(i))

    pictures = None if setup.no_pictures else scene
    return Canvases(len(data), load, setup.spec.name, size, setup.axes, labels, batch, constants, pictures)
