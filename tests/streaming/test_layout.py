"""What a step computes and keeps, worked out by hand; caches lie where the net is narrow."""

import numpy as np
from nets import flow_of
from reference import build, weight

from aarewrite.streaming import layout
from aarewrite.streaming.layout import Planner

TWO = """(float[1, 2, 32] x) => (float[] y) {
    a = Conv<pads = [1, 1]>(x, w)
    b = Relu(a)
    c = Conv<pads = [1, 1]>(b, v)
    y = GlobalAveragePool(c)
}"""


def test_pieces_and_states_of_two_convolutions() -> None:
    """Step 4: `a` has borders of 1 and 1, so [0, 1) and [27, 32) are new; the second conv's [0, 2) reads [0, 3) of it
    and its [26, 32) reads [25, 32)."""
    flow = flow_of(build(TWO, w=weight(4, 2, 3), v=weight(4, 4, 3)))
    found = Planner(flow, 4).layout(set())
    assert [found.pieces[k] for k in range(3)] == [((0, 1), (27, 32)), ((0, 1), (27, 32)), ((0, 2), (26, 32))]
    assert found.pieces[3] == ((0, 1),)
    assert found.states == {"x": (0, 28), "b": (1, 27), "c": (2, 26)}
    assert found.work == 4 * 2 * 3 * 6 + 4 * 4 * 3 * 8


def test_without_a_state_what_is_read_is_computed_anew() -> None:
    flow = flow_of(build(TWO, w=weight(4, 2, 3), v=weight(4, 4, 3)))
    found = Planner(flow, 4).layout({"b", "a"})
    assert found.pieces[0] == ((0, 3), (25, 32))
    assert found.states == {"x": (0, 28), "c": (2, 26)}


def test_only_what_is_read_is_kept() -> None:
    """Read at its last index alone, the net needs the last 5 samples: one more than a step brings."""
    body = TWO.replace("<pads = [1, 1]>", "").replace("GlobalAveragePool(c)", "Slice(c, b0, e0, a0)")
    flow = flow_of(build(body, w=weight(4, 2, 3), v=weight(4, 4, 3), b0=np.array([-1]), e0=np.array([99]),
                         a0=np.array([2])))  # fmt: skip
    found = Planner(flow, 4).layout(set())
    assert found.states == {"x": (27, 28)}
    assert found.pieces[2] == ((27, 28),)
    assert found.pieces[0] == ((27, 30),)


def test_caches_are_laid_in_front_of_an_expansion() -> None:
    """1x1 from 2 to 24 channels, Relu, then a depthwise 3: the 2 channels are kept, not the 24."""
    model = build(
        """(float[1, 2, 64] x) => (float[] y) {
        n = Conv<pads = [1, 1]>(x, first)
        e = Conv(n, wide)
        r = Relu(e)
        d = Conv<pads = [1, 1], group = 24>(r, deep)
        p = Conv(d, narrow)
        y = GlobalAveragePool(p)
    }""",
        first=weight(2, 2, 3), wide=weight(24, 2, 1), deep=weight(24, 1, 3), narrow=weight(2, 24, 1),
    )  # fmt: skip
    planner = Planner(flow_of(model), 4)
    assert set(planner.layout(set()).states) == {"x", "r", "p"}
    best = planner.best()
    assert set(best.states) == {"x", "n", "p"}
    assert best.work < planner.layout(set()).work * 1.2


def test_a_net_without_products_counts_elements(monkeypatch) -> None:
    monkeypatch.setattr(layout, "OF_A_STATE", 0)
    flow = flow_of(build("(float[1, 2, 32] x) => (float[] y) { a = MaxPool<kernel_shape = [3]>(x) y = Relu(a) }"))
    planner = Planner(flow, 3)
    assert planner.work == 2 * 30 + 2 * 30
    assert planner.best().work == 2 * 3 + 2 * 3
