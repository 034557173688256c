"""Which shifts a run looks at."""

from __future__ import annotations

import pytest

from aarewrite.data.geometry import Geometry
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.verification.protocols import ShiftPlan, plan_shifts

GEOMETRY = Geometry((16, 16), (20, 20))


def test_one_pair_per_batch_is_shared_by_the_batch():
    plan = ShiftPlan("crop", GEOMETRY, (1,), 1, 1, seed=0, batch_offsets=4)
    pairs = [plan.pairs(i)[0] for i in range(8)]
    assert len(set(pairs[:4])) == len(set(pairs[4:])) == 1
    assert pairs[0] != pairs[4]
    every = [ShiftPlan("crop", GEOMETRY, (1,), 1, 1, seed=0).pairs(i)[0] for i in range(400)]
    drawn = {offset + 2 for pair in every for shift in pair for offset in shift}
    assert drawn == {0, 1, 2, 3}  # canvas 20, crop 16: as 0..31 for 224 in 256


def test_offsets_come_once_the_centre_first():
    plan = plan_shifts("crop", GEOMETRY, 2, seed=0, pairs=3)
    offsets = plan.offsets(4)
    assert offsets[0] == (0, 0)
    assert len(set(offsets)) == len(offsets)
    assert {offset for pair in plan.pairs(4) for offset in pair} <= set(offsets)
    assert {(0, 1), (2, 0), (2, 2), (-1, 1)} <= set(offsets)  # lines right, down and along both; the neighbourhood


@pytest.mark.parametrize("protocol", ["circular", "fractional"])
def test_a_single_pixel_is_rolled_along_the_other_axis(protocol):
    plan = plan_shifts(protocol, Geometry((224, 1), (256, 5)), None, seed=0)
    assert set(plan.directions) == {"vertical"}
    assert plan.distances == ((1, 2, 3, 4, 5, 6, 7, 8) if protocol == "circular" else (0.25, 0.5, 0.75, 1.0))
    assert {column for _, column in plan.neighbourhood()} == {0}
    assert len(plan.neighbourhood()) == 2
    entering = plan_shifts("crop", Geometry((224, 1), (256, 5)), None, seed=0)
    assert set(entering.directions) == {"horizontal", "vertical", "diagonal"}


@pytest.mark.parametrize("protocol", ["circular", "fractional"])
def test_a_single_pixel_alone_has_nothing_to_roll(protocol):
    with pytest.raises(CannotHandle, match="a view of 1 px has no shift: nothing can be measured"):
        plan_shifts(protocol, Geometry((1, 1), (5, 5)), None, seed=0)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_shift": 3}, "leave 2 px around the centre"),
        ({"max_shift": 0}, "at least one pixel"),
        ({"batch_offsets": 0}, "at least one image"),
        ({"pairs": 0}, "at least one pair an image"),
    ],
)
def test_shifts_that_cannot_be_are_refused(options, reason):
    with pytest.raises(UsageError, match=reason):
        plan_shifts(**{"protocol": "crop", "geometry": GEOMETRY, "max_shift": None, "seed": 0} | options)
