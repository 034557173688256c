"""Cutting a layer's samples out of its tensors: what one output value sees of the input, as rows of a matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from aarewrite.errors import CannotHandle
from aarewrite.model.index import Attributes
from aarewrite.model.types import Array
from aarewrite.windows import Window, explicit

F32 = NDArray[np.float32]
Positions = tuple[NDArray[np.intp], ...]


def conv_window(kernel: Sequence[int], values: Attributes, size: Sequence[int]) -> Window:
    """The window of a Conv with these attributes, its pads written out for an input of this size.

    Raises:
        CannotHandle: The pads depend on more than that.
    """
    rank = len(kernel)
    ones, pads = (1,) * rank, tuple(values.get("pads", (0,) * 2 * rank))
    strides, dilations = (tuple(values.get(name, ones)) for name in ("strides", "dilations"))
    automatic = values.get("auto_pad", b"NOTSET").decode()
    found = explicit(Window(tuple(kernel), strides, dilations, pads[:rank], pads[rank:], automatic), tuple(size))
    if isinstance(found, str):
        raise CannotHandle(found)
    return found


def choose_positions(
    size: Sequence[int], images: int, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], Positions]:
    """Up to `count` different output positions for each image: image index and one index per axis, all (m,)."""
    places = int(np.prod(size))
    take = min(count, places)
    if take == places:
        flat = np.tile(np.arange(places), images)
    else:
        flat = np.concatenate([rng.choice(places, take, replace=False) for _ in range(images)])
    return np.repeat(np.arange(images), take), tuple(np.unravel_index(flat, tuple(size)))


def conv_rows(
    x: Array,
    kernel: Sequence[int],
    values: Attributes,
    image: NDArray[np.intp],
    positions: Positions,
    target_size: Sequence[int],
) -> F32:
    """What a Conv sees at output positions of the original, as (groups, m, channels per group * kernel).

    The rewritten layer may be finer than the original (its stride removed): position j of the original is then
    position j * step of the rewritten one, step being the ratio of the sizes.
    """
    window = conv_window(kernel, values, x.shape[2:])
    made = [n for n in window.output(x.shape[2:]) if n is not None]
    padded = np.pad(x, [(0, 0), (0, 0), *zip(window.begin, window.end, strict=True)])
    axes = tuple(range(1, x.ndim - 1))
    views = sliding_window_view(np.moveaxis(padded, 1, -1), window.extent, axis=axes)
    taps = [slice(None)] * x.ndim + [slice(None, None, dilation) for dilation in window.dilations]
    places = zip(_finer(positions, made, target_size), window.strides, strict=True)
    patches = views[tuple(taps)][(image, *(place * stride for place, stride in places))]
    return _grouped(patches, int(values.get("group", 1)))  # of (m, channels, *kernel)


def value_rows(
    y: Array, image: NDArray[np.intp], positions: Positions, group: int, target_size: Sequence[int] | None = None
) -> F32:
    """The values of (n, channels, ...), which may be finer than the original, as (groups, m, channels per group)."""
    places = _finer(positions, y.shape[2:], target_size or y.shape[2:])
    return _grouped(np.moveaxis(y, 1, -1)[(image, *places)], group)


def _finer(positions: Positions, size: Sequence[int], target_size: Sequence[int]) -> Positions:
    return tuple(p * -(-n // m) for p, n, m in zip(positions, size, target_size, strict=True))


def _grouped(rows: Array, group: int) -> F32:
    return np.ascontiguousarray(rows.reshape(len(rows), group, -1).transpose(1, 0, 2), dtype=np.float32)
