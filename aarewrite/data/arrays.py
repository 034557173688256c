"""Names for what flows from the data into a model, and the one way to cut a window out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from aarewrite.model.types import Array as Array

Offset = tuple[float, ...]  # one shift in pixels per spatial axis
Feed = Mapping[str, Array]  # one run's inputs by name
Batches = Callable[[], Iterable[Feed]]  # the same feeds, from the start at every call


def window(values: Array, axes: Sequence[int], starts: Sequence[float], sizes: Sequence[int]) -> Array:
    """The part of `values` that begins at `starts` and is `sizes` long along `axes`; whole along the others."""
    place = [slice(None)] * values.ndim
    for axis, start, size in zip(axes, starts, sizes, strict=True):
        place[axis] = slice(int(start), int(start) + size)
    return values[tuple(place)]


def along(vector: Array, axis: int, rank: int) -> Array:
    """A vector shaped to vary along one axis of arrays of a rank."""
    return vector.reshape(-1, *(1,) * (rank - axis - 1))
