"""Cutting a layer's samples out of its tensors: what one output value sees of the input, as rows of a matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aarewrite.calibration.layers import Positions
from aarewrite.model.index import Attributes
from aarewrite.model.types import Array

F32 = NDArray[np.float32]


def conv_pads(
    values: Attributes, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Begin and end pads of a Conv with these attributes on an input of this size."""
    rank = len(size)
    mode = values.get("auto_pad", b"NOTSET").decode()
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            for n, k, s, d in zip(size, kernel, strides, dilations, strict=True)
        ]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        return (small, large) if mode == "SAME_UPPER" else (large, small)
    pads = [0] * (2 * rank) if mode == "VALID" else list(values.get("pads", [0] * (2 * rank)))
    return pads[:rank], pads[rank:]


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
    rank = len(kernel)
    size = x.shape[2:]
    strides = list(values.get("strides", [1] * rank))
    dilations = list(values.get("dilations", [1] * rank))
    group = int(values.get("group", 1))
    begin, end = conv_pads(values, size, kernel, strides, dilations)
    made = [
        (n + b + e - (k - 1) * d - 1) // s + 1
        for n, b, e, k, d, s in zip(size, begin, end, kernel, dilations, strides, strict=True)
    ]
    steps = [-(-m // t) for m, t in zip(made, target_size, strict=True)]
    padded = np.pad(x, [(0, 0), (0, 0), *zip(begin, end, strict=True)])
    rows = np.moveaxis(padded, 1, -1)
    starts = [p * step * s for p, step, s in zip(positions, steps, strides, strict=True)]
    columns = [
        rows[(image, *(start + o * d for start, o, d in zip(starts, offset, dilations, strict=True)))]
        for offset in np.ndindex(*kernel)
    ]
    patches = np.stack(columns, axis=-1)  # (m, channels, kernel)
    m, channels = patches.shape[:2]
    return np.ascontiguousarray(
        patches.reshape(m, group, channels // group * patches.shape[2]).transpose(1, 0, 2), dtype=np.float32
    )


def value_rows(y: Array, image: NDArray[np.intp], positions: Positions, group: int) -> F32:
    """The values of (n, channels, ...) at positions, as (groups, m, channels per group)."""
    rows = np.moveaxis(y, 1, -1)[(image, *positions)]
    return np.ascontiguousarray(rows.reshape(len(rows), group, -1).transpose(1, 0, 2), dtype=np.float32)
