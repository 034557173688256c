"""Large arrays piece by piece: what is worked out of one, or drawn for one, takes little memory beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from aarewrite.model.types import Array, DType

PIECE = 2**20  # elements


def pieces(array: Array) -> Iterator[Array]:
    """Its elements in order, flat views of it; one empty piece where it has none."""
    flat = array.reshape(-1)
    return (flat[k : k + PIECE] for k in range(0, max(1, flat.size), PIECE))


def drawn(draw: Callable[[int], Array], shape: Sequence[int], dtype: DType) -> Array:
    """An array of what `draw` gives for a number of elements; the values are those that one draw would give."""
    found = np.empty(shape, dtype)
    for piece in pieces(found):
        piece[:] = draw(piece.size)
    return found
