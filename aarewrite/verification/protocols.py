"""Which shifts a run looks at, of each of the three ways to shift an input (see `data/views.py`)."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from aarewrite.data.arrays import Offset
from aarewrite.data.geometry import Geometry
from aarewrite.data.views import DIRECTIONS, draw_pairs
from aarewrite.errors import CannotHandle, UsageError

PROTOCOLS = ("crop", "circular", "fractional")
FRACTIONS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class ShiftPlan:
    """Which shifts one protocol looks at; a pure function of seed and image number."""

    protocol: str  # one of `PROTOCOLS`
    geometry: Geometry  # sizes
    distances: tuple[float, ...]  # pixels for the agreement over distance, in every direction
    worst_radius: float  # largest |shift| per axis of the worst case
    worst_step: float  # grid of the worst case (1 px; half a pixel for fractional shifts)
    seed: int  # seed of the consistency's offsets
    batch_offsets: int = 1  # images that share their offsets; 1 draws them for every image, 256 is the paper's code
    pair_count: int = 1  # pairs of offsets an image; 1 is the paper's protocol

    @property
    def directions(self) -> dict[str, tuple[int, ...]]:
        """Unit steps by name, along axes that can be moved: to roll a single pixel changes nothing."""
        steps = DIRECTIONS[len(self.geometry.size)]
        return {name: step for name, step in steps.items() if all(map(operator.le, step, self._movable))}

    @property
    def _movable(self) -> tuple[int, ...]:
        """1 for every axis that a shift does something along, else 0."""
        return tuple(int(self.protocol == "crop" or size > 1) for size in self.geometry.size)

    def pairs(self, i: int) -> tuple[tuple[Offset, Offset], ...]:
        """Return the pairs of offsets of the consistency for image i, relative to the centre crop."""
        fractions = self.protocol == "fractional"
        return draw_pairs(self.seed, i // self.batch_offsets, self.geometry, self.pair_count, fractions)

    @property
    def centre(self) -> Offset:
        """The offset of the centre crop."""
        return (0,) * len(self.geometry.size)

    def step(self, direction: str, distance: float) -> Offset:
        """Return the offset at a distance along a direction."""
        return tuple(axis * distance for axis in self.directions[direction])

    def lines(self, distances: Sequence[float]) -> dict[Offset, tuple[str, float]]:
        """Return direction and distance of every offset along a direction."""
        return {self.step(name, distance): (name, distance) for name in self.directions for distance in distances}

    def neighbourhood(self) -> tuple[Offset, ...]:
        """Return every offset of the worst case, the centre excepted."""
        count = round(self.worst_radius / self.worst_step)
        line = [k * self.worst_step for k in range(-count, count + 1)]
        lines = (line if movable else (0,) for movable in self._movable)
        return tuple(o for o in itertools.product(*lines) if any(o))

    def offsets(self, i: int) -> tuple[Offset, ...]:
        """Return every offset image i is viewed at, each once, the centre first."""
        return tuple(dict.fromkeys((*self._of_every_image, *itertools.chain(*self.pairs(i)))))

    @cached_property
    def _of_every_image(self) -> tuple[Offset, ...]:
        """Asked for at every view."""
        return (self.centre, *self.lines(self.distances), *self.neighbourhood())


def plan_shifts(
    protocol: str,
    geometry: Geometry,
    max_shift: int | None,
    seed: int,
    batch_offsets: int = 1,
    worst_radius: int = 1,
    pairs: int = 1,
) -> ShiftPlan:
    """Choose the shifts of one of `PROTOCOLS`.

    Raises:
        UsageError: A shift does not fit on the canvas.
        CannotHandle: The input is a single pixel, and nothing enters.
    """
    given = (
        ("batch-offsets", batch_offsets, "image"),
        ("crop-pairs", pairs, "pair an image"),
        ("max-shift", max_shift, "pixel"),
        ("worst-radius", worst_radius, "pixel"),
    )
    for option, count, what in given:
        if count is not None and count < 1:
            raise UsageError(f"--{option} {count}: needs at least one {what}", "give 1 or more")
    rolled = [size for size in geometry.size if size > 1]
    if protocol != "crop" and not rolled:
        reason = f"protocol {protocol}: a view of 1 px has no shift: nothing can be measured"
        raise CannotHandle(reason, "use --protocol crop, or a larger --size where the model leaves it open")
    if protocol == "fractional":
        return ShiftPlan(protocol, geometry, FRACTIONS, 0.5, 0.5, seed, batch_offsets, pairs)
    limit = geometry.reach if protocol == "crop" else min(rolled) - 1
    if max_shift is not None and max_shift > limit:
        raise UsageError(
            f"--max-shift {max_shift}: {geometry.describe()} leave {limit} px around the centre",
            f"give at most {limit}, or larger samples",
        )
    if worst_radius > max(limit, 1):
        raise UsageError(
            f"--worst-radius {worst_radius}: {geometry.describe()} leave {limit} px around the centre",
            f"give at most {limit}, or larger samples",
        )
    largest = max_shift or min(8, limit)
    distances = tuple(range(1, largest + 1))
    return ShiftPlan(protocol, geometry, distances, min(worst_radius, limit), 1, seed, batch_offsets, pairs)
