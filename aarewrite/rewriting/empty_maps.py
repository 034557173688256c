"""Maps that say nothing: of two that are NaN, or one value everywhere, nobody can tell whether they lie alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from aarewrite.model.types import Array
from aarewrite.rewriting.pieces import drawn, pieces
from aarewrite.rewriting.random_inputs import Feeds, Run

LARGEST_INPUTS = (1.0, 255.0)


def saying_nothing(runs: Iterable[Run], names: Iterable[str]) -> list[str]:
    """Those of the maps that say nothing in every run."""
    return [name for name in names if not any(_says(outputs[name]) for _, outputs in runs)]


def other_inputs(feeds: Feeds, seed: int) -> Iterator[Feeds]:
    """Inputs of the same shapes whose floating-point values are none below zero: small ones, then those of bytes."""
    for largest in LARGEST_INPUTS:
        rng = np.random.default_rng(seed)
        yield {name: _up_to(largest, value, rng) if value.dtype.kind == "f" else value for name, value in feeds.items()}


def random_maps(maps: Feeds, seed: int) -> Feeds:
    """Random values in place of those of maps."""
    rng = np.random.default_rng(seed)
    return {name: _random(value, rng) for name, value in maps.items()}


def _says(value: object) -> bool:
    """Whether a map has finite values that are not all one; a single value is what it is, and so is a sequence."""
    if not isinstance(value, np.ndarray):
        return True
    first = None
    for piece in pieces(value):
        finite = piece[np.isfinite(piece)] if value.dtype.kind == "f" else piece
        if finite.size:
            first = finite[0] if first is None else first
            if value.size == 1 or (finite != first).any():
                return True
    return False


def _up_to(largest: float, like: Array, rng: np.random.Generator) -> Array:
    return drawn(lambda size: largest * rng.random(size), like.shape, like.dtype)


def _random(value: Array, rng: np.random.Generator) -> Array:
    if value.dtype.kind == "f":
        return drawn(rng.standard_normal, value.shape, value.dtype)
    if value.dtype.kind == "b":
        return rng.integers(0, 2, value.shape).astype(bool)
    limits = np.iinfo(value.dtype)
    return rng.integers(limits.min, limits.max, value.shape, value.dtype, endpoint=True)
