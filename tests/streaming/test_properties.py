"""Random nets streamed at random steps: every window equals the original's."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from nets import flow_of, largest_difference, written
from random_nets import SOME, nets
from reference import session

from aarewrite.streaming import layout


@pytest.mark.parametrize("spatial", [1, 2])
@pytest.mark.parametrize("price", [0, layout.OF_A_STATE, 1000])
def test_every_window_of_a_random_net_equals_the_originals(
    spatial: int, price: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "OF_A_STATE", price)
    saved = []

    @SOME
    @given(st.data())
    def check(data: st.DataObject) -> None:
        net = data.draw(nets(spatial))
        try:
            session(net)
        except Exception:  # ONNX Runtime refuses the net itself
            assume(False)
        flow = flow_of(net, spatial + 1)
        steps = [step for step in range(1, flow.window + 1) if flow.obstacle(step) is None]
        assume(steps)
        model, work = written(flow, data.draw(st.sampled_from(steps[: len(steps) // 2 + 1])))
        assert largest_difference(net, model) <= 1e-5
        saved.append(work)

    check()
    assert len(saved) >= SOME.max_examples // 2
    assert min(saved) < 0.5
