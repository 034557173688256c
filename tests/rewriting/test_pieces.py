"""Arrays in pieces: every element once, the values of one draw, and little memory beside what is looked at."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from reference import Array

from aarewrite.rewriting.pieces import PIECE, drawn, pieces
from aarewrite.rewriting.proof import compare_arrays


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 3 * PIECE])
def test_pieces_hold_every_element_once_and_none_is_larger(size: int) -> None:
    whole = np.arange(size)
    found = list(pieces(whole))
    assert (np.concatenate(found) == whole).all()
    assert max(piece.size for piece in found) <= PIECE


def test_what_is_drawn_in_pieces_is_what_is_drawn_at_once() -> None:
    shape = (2, PIECE + 7)
    at_once = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    assert (drawn(np.random.default_rng(3).standard_normal, shape, np.dtype(np.float32)) == at_once).all()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, ""),
        ({5 * PIECE + 3: 3.0}, "differs by 2 at a scale of 1"),
        ({5 * PIECE + 3: np.nan}, "NaN or infinity in one of them"),
    ],
)
def test_large_arrays_are_compared_to_the_last_element_in_little_memory(changed: dict[int, float], says: str) -> None:
    a: Array = np.ones((6, PIECE), np.float32)
    b = a.copy()
    b.reshape(-1)[list(changed)] = list(changed.values())
    tracemalloc.start()
    found = compare_arrays("m", a, b)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.problem == says
    assert used < 8 * a.nbytes / 6 * 2  # in one piece each, as float64, it was 8 * a.nbytes and more
