"""Which shifts a run looks at."""

from __future__ import annotations

from aarewrite.data.geometry import Geometry
from aarewrite.verification.protocols import ShiftPlan

GEOMETRY = Geometry((16, 16), (20, 20))


def test_one_pair_per_batch_is_shared_by_the_batch():
    plan = ShiftPlan("crop", GEOMETRY, (1,), 1, 1, seed=0, batch_offsets=4)
    pairs = [plan.pairs(i)[0] for i in range(8)]
    assert len(set(pairs[:4])) == len(set(pairs[4:])) == 1
    assert pairs[0] != pairs[4]
    every = [ShiftPlan("crop", GEOMETRY, (1,), 1, 1, seed=0).pairs(i)[0] for i in range(400)]
    drawn = {offset + 2 for pair in every for shift in pair for offset in shift}
    assert drawn == {0, 1, 2, 3}  # canvas 20, crop 16: as 0..31 for 224 in 256
