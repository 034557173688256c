"""Names for what flows from the data into a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from aarewrite.model.types import Array as Array

Offset = tuple[float, ...]  # one shift in pixels per spatial axis
Feed = Mapping[str, Array]  # one run's inputs by name
Batches = Callable[[], Iterable[Feed]]  # the same feeds, from the start at every call
