"""Axes split by a Reshape: which readings of the sizes there are, and what joins the channels."""

from __future__ import annotations

import pytest

from aarewrite.model.shapes import Dim
from aarewrite.sites.rearranged import _joins, _splits


@pytest.mark.parametrize(
    ("before", "split", "found"),
    [
        ((1, 4, 8, 6), (1, 4, 4, 2, 3, 2), [(1, (3, 5))]),
        ((1, 8, 6, 4), (1, 4, 2, 3, 2, 4), [(5, (2, 4))]),
        (("N", 3, "H", "W"), (None, 3, None, 2, None, 2), [(1, (3, 5))]),
        ((1, 4, 8), (1, 4, 4, 2), [(1, (3,))]),
        ((1, 8, 4), (1, 4, 2, 4), []),  # of three axes the last is split
        ((1, 4, 8, 6), (1, 4, 8, 3, 2), []),  # not all of them
        ((1, 4, 8, 6), (1, 4, 8, 1, 6, 1), []),  # no blocks
        ((1, 4, 8, 6), (1, 4, 4, 2, 2, 2), []),  # 6 is not 2 x 2
        ((1, 16, 8, 8), (1, 4, 2, 2, 8, 8), []),  # depth to space
    ],
)
def test_how_the_axes_were_split(
    before: tuple[Dim, ...], split: tuple[Dim, ...], found: list[tuple[int, tuple[int, ...]]]
) -> None:
    assert list(_splits(before, split)) == found


@pytest.mark.parametrize(
    ("perm", "after", "joins"),
    [
        ([0, 1, 3, 5, 2, 4], (1, 16, 4, 3), True),
        ([0, 3, 5, 1, 2, 4], (1, 16, 4, 3), True),
        ([0, 2, 4, 3, 5, 1], (1, 12, 16), True),
        ([0, 2, 4, 3, 5, 1], (1, 12, 4, 4), False),  # windows keep their channels apart
        ([0, 2, 1, 3, 4, 5], (1, 16, 4, 3), False),  # the blocks are not together
        ([0, 1, 3, 5, 2, 4], (1, 4, 2, 2, 4, 3), False),  # nothing is joined
        ([], (1, 16, 4, 3), False),
    ],
)
def test_what_joins_the_channels(perm: list[int], after: tuple[int, ...], joins: bool) -> None:
    assert _joins((1, 4, 4, 2, 3, 2), 1, (3, 5), perm, after) == joins
