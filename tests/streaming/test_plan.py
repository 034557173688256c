"""The plan: a row a node with its reason, the sums, and what saves too little."""

import pytest
from nets import flow_of
from reference import build, weight

from aarewrite.errors import CannotHandle
from aarewrite.streaming.layout import Planner
from aarewrite.streaming.plan import Row, plan_of

NET = """(float[1, 2, 32] x) => (float[] y) {
    [first] a = Conv<pads = [1, 1]>(x, w)
    [deep] c = Conv<pads = [PAD, PAD]>(a, v)
    [mean] y = GlobalAveragePool(c)
}"""


def plan(step: int, wide: int = 3):
    text = NET.replace("PAD", str(wide // 2))
    flow = flow_of(build(text, w=weight(4, 2, 3), v=weight(4, 4, wide)))
    planner = Planner(flow, step)
    return plan_of(flow, planner, planner.layout(set()))


def test_rows_and_sums() -> None:
    found = plan(4)
    assert found.rows == (
        Row("first", "Conv", 32, ((0, 1), (27, 32)), (1, 27), 768, 144.0),
        Row("deep", "Conv", 32, ((0, 2), (26, 32)), (2, 26), 1536, 384.0),
        Row("mean", "GlobalAveragePool", 0, (), None, 0, 0, "it averages the whole window", True),
    )
    assert (found.window_work, found.work, found.first_valid) == (2304, 528.0, 8)
    assert found.saving == pytest.approx(4.364, abs=1e-3)
    assert found.state_bytes == 4 * (28 * 2 + 26 * 4 + 24 * 4)
    assert found.refusal == ""
    found.check()
    assert found.to_dict()["rows"][0]["pieces"] == ((0, 1), (27, 32))


def test_what_saves_too_little_names_the_first_whole_node() -> None:
    found = plan(8, wide=31)
    assert found.rows[1].reason == "its borders (16 and 16) and the step (8) cover its 32"
    with pytest.raises(CannotHandle, match=r"^a step of 8 would take 0.97 of a window's work: node 'deep' \(Conv\)"):
        found.check()
