"""Masks, maps of classes: how far apart their boundaries are, and which of their components have no partner."""

from __future__ import annotations

import numpy as np

from aarewrite.data.arrays import Array

FURTHEST = 8  # px: boundaries further apart, or without a partner at all, count as this far


def boundary_distance(first: Array, second: Array) -> float | None:
    """The mean distance of each mask's boundary pixels from the nearest of the other's, px; None where neither has any.

    Distances are the larger of both axes', at most `FURTHEST`. A boundary pixel is one whose right or lower neighbour
    is of another class. Both masks are `(height, width)`; each counts by half.
    """
    lines = _boundary(first), _boundary(second)
    if not any(line.any() for line in lines):
        return None
    means = []
    for line, other in (lines, lines[::-1]):
        near, away = other, 0.0
        for _ in range(FURTHEST):  # the mean distance is the sum of the shares that lie further than 0, 1, 2, ...
            away += float((line & ~near).sum())
            near = _grown(near)
        means.append(away / line.sum() if line.any() else FURTHEST)
    return float(sum(means)) / 2


def unpaired_components(first: Array, second: Array) -> tuple[int, int]:
    """How many components the second mask lacks, and how many it has that the first one lacks.

    A component is an area of one class, connected along rows and columns; it has a partner where the other mask has its
    class anywhere within it.
    """
    return _alone(first, second), _alone(second, first)


def components(mask: Array) -> Array:
    """Number the areas of one class of `(height, width)`, from 0 in the order of their first pixels.

    Runs within a row that touch take over the smallest number around them, and numbers are followed to where they lead,
    until nothing changes (Y. Shiloach, U. Vishkin, Journal of Algorithms 1982).
    """
    begins = np.ones(mask.shape, bool)
    begins[:, 1:] = mask[:, 1:] != mask[:, :-1]
    runs = begins.cumsum().reshape(mask.shape) - 1
    touch = mask[1:] == mask[:-1]
    count = int(runs[-1, -1]) + 1
    upper, lower = np.divmod(np.unique(runs[:-1][touch] * count + runs[1:][touch]), count)
    numbers, before = np.arange(count), np.zeros(0, int)
    while not np.array_equal(numbers, before):
        before = numbers.copy()
        ends = numbers[upper], numbers[lower]
        for end in ends:
            np.minimum.at(numbers, end, np.minimum(*ends))
        while not np.array_equal(numbers, further := numbers[numbers]):
            numbers = further
    found: Array = np.unique(numbers, return_inverse=True)[1][runs]
    return found


def _alone(mask: Array, other: Array) -> int:
    found = components(mask)
    shared = np.bincount(found.reshape(-1), weights=(mask == other).reshape(-1))
    return int((shared == 0).sum())


def _boundary(mask: Array) -> Array:
    line = np.zeros(mask.shape, bool)
    line[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    line[:-1] |= mask[:-1] != mask[1:]
    return line


def _grown(line: Array) -> Array:
    """With the pixels around each."""
    wide = line.copy()
    wide[:, 1:] |= line[:, :-1]
    wide[:, :-1] |= line[:, 1:]
    grown = wide.copy()
    grown[1:] |= wide[:-1]
    grown[:-1] |= wide[1:]
    return grown
