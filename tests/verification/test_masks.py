"""Boundaries and components of masks, counted by hand and by a slower method."""

from __future__ import annotations

import numpy as np
import pytest

from aarewrite.verification.masks import FURTHEST, boundary_distance, components, unpaired_components


def edge(column: int, size: int = 16) -> np.ndarray:
    return np.broadcast_to(np.arange(size) >= column, (size, size)).astype(int)


@pytest.mark.parametrize("away", [0, 1, 3, 7])
def test_an_edge_that_moves_by_pixels_is_that_far_away(away):
    assert boundary_distance(edge(4), edge(4 + away)) == away


def test_boundaries_without_a_partner_are_as_far_as_can_be():
    assert boundary_distance(edge(4), np.zeros((16, 16), int)) == FURTHEST
    assert boundary_distance(np.ones((4, 4)), np.ones((4, 4))) is None
    assert boundary_distance(edge(0, 40), edge(0, 40)) is None
    assert boundary_distance(edge(4, 40), edge(30, 40)) == FURTHEST


def test_distances_are_those_of_every_pair():
    rng = np.random.default_rng(0)
    masks = [np.kron(rng.integers(0, 3, (4, 5)), np.ones((4, 4), int)) for _ in range(2)]

    def line(mask: np.ndarray) -> np.ndarray:
        places = [
            (i, j) for i in range(16) for j in range(20)
            if (j < 19 and mask[i, j] != mask[i, j + 1]) or (i < 15 and mask[i, j] != mask[i + 1, j])
        ]  # fmt: skip
        return np.array(places)

    a, b = map(line, masks)
    apart = np.minimum(np.abs(a[:, None] - b).max(-1), FURTHEST)
    assert boundary_distance(*masks) == pytest.approx((apart.min(1).mean() + apart.min(0).mean()) / 2)


def flooded(mask: np.ndarray) -> np.ndarray:
    """Components by flooding, numbered in the order of their first pixels."""
    found = np.full(mask.shape, -1)
    for number, start in enumerate(np.ndindex(mask.shape)):
        if found[start] >= 0:
            continue
        found[start], waiting = number, [start]
        while waiting:
            i, j = waiting.pop()
            for place in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                inside = 0 <= place[0] < mask.shape[0] and 0 <= place[1] < mask.shape[1]
                if inside and found[place] < 0 and mask[place] == mask[i, j]:
                    found[place] = number
                    waiting.append(place)
    return np.unique(found, return_inverse=True)[1].reshape(mask.shape)


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (7, 8), (24, 17)])
def test_components_are_those_of_flooding(shape):
    mask = np.random.default_rng(1).integers(0, 2, shape)
    assert np.array_equal(components(mask), flooded(mask))


def test_a_snake_is_one_component():
    mask = np.zeros((15, 15), int)
    mask[::2] = 1
    mask[1::4, -1] = mask[3::4, 0] = 1
    found = components(mask)
    assert len(np.unique(found[mask == 1])) == 1
    assert np.array_equal(found, flooded(mask))


def test_components_without_a_partner():
    first, second = np.zeros((2, 12, 12), int)
    first[1:3, 1:3] = second[2:4, 2:4] = 1  # it has moved
    first[6:8, 6:8] = 1  # gone
    second[9, 1] = second[9, 3] = second[9, 5] = 1  # new
    second[1:3, 8:10] = 2  # a class of its own
    assert unpaired_components(first, second) == (1, 4)
    assert unpaired_components(first, first) == (0, 0)
