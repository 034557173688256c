"""The signal form: delays worked out by hand, values against numpy on the whole signal, and random nets."""

from unittest import mock

import numpy as np
import onnx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from nets import flow_of, record
from random_nets import SOME, nets
from reference import build, session, weight

import aarewrite
from aarewrite.model.model_file import load
from aarewrite.streaming import plan, run
from aarewrite.streaming.proof import Steps
from aarewrite.streaming.signal import SignalWriter, lay_out
from aarewrite.streaming.signal_proof import prove_signal

NET = """(float[1, 2, 32] x) => (float[] y) {
    a = Conv<pads = [1, 1]>(x, w)
    b = MaxPool<kernel_shape = [2], strides = [2]>(a)
    c = Conv<pads = [2, 2]>(b, v)
    d = Add(b, c)
    y = ReduceMean<axes = [2], keepdims = 0>(d)
}"""


def net() -> onnx.ModelProto:
    return build(NET, w=weight(3, 2, 3), v=weight(3, 3, 5))


def test_delays_and_latency_by_hand() -> None:
    """`a` looks one sample ahead. Counted as they come, `b` is then one late: its newest pair is not whole. Counted one
    sample later (phase 1) the newest pair of `a` is the newest of `b`."""
    flow = flow_of(net())
    found = lay_out(flow, 4)
    assert found.delays["a"] == found.delays["x"] + 1
    assert found.phase == 1
    assert found.delays == {"x": 1, "a": 2, "b": 1, "c": 3, "d": 3}
    assert found.end == 2 * (3 + 16)
    assert found.latency == 38 - 1 - 32
    assert (found.work, found.window_work) == (32 * 18 / 8 + 16 * 45 / 8, 32 * 18 + 16 * 45)


def test_values_are_those_of_the_whole_signal_without_padding() -> None:
    found = aarewrite.stream(net(), step=4, form="signal")
    signal = np.random.default_rng(1).standard_normal((1, 2, 120)).astype(np.float32)
    runner = aarewrite.StreamingSession(found.model)
    results = runner.push(signal)
    first, latency = found.plan.first_valid, found.plan.latency
    assert len(results) == 30 - first + 1

    def convolved(x, w):
        k = w.shape[2]
        return np.stack([np.einsum("cl,ocl->o", x[:, i : i + k], w) for i in range(x.shape[1] - k + 1)], 1)

    w, v = weight(3, 2, 3).astype(float), weight(3, 3, 5).astype(float)
    for count, result in enumerate(results, first):
        begin = 4 * count - latency - 32  # of the window that the outputs are for
        if begin < 5:
            continue
        a = convolved(signal[0, :, begin - 5 : begin + 37], w)  # from index begin - 4 on
        b = a[:, : 2 * (a.shape[1] // 2)].reshape(3, -1, 2).max(2)  # from (begin - 4) / 2 on
        c = convolved(b, v)  # from (begin - 4) / 2 + 2 on: where the window begins
        expected = (b[:, 2:18] + c[:, :16]).mean(1)
        assert np.abs(result["y"][0] - expected).max() < 1e-5


def test_without_padding_the_forms_coincide() -> None:
    model = build(NET.replace("<pads = [1, 1]>", "").replace("<pads = [2, 2]>", "").replace(
        "d = Add(b, c)", "d = Relu(c)"), w=weight(3, 2, 3), v=weight(3, 3, 5))  # fmt: skip
    found = aarewrite.stream(model, step=4, form="signal")
    assert found.plan.latency == 0
    assert found.agreements[0].nrmse < 1e-6
    assert found.agreements[0].same == 1
    assert found.plan.work == aarewrite.stream(model, step=4).plan.work


def test_metadata_and_measured_agreement() -> None:
    found = aarewrite.stream(net(), step=4, form="signal", pack_states=True)
    told = record(found.model)
    assert (told["form"], told["latency"], told["first_valid"]) == ("signal", 5, found.plan.first_valid)
    assert list(told["states"]) == ["states/float32"]
    [one] = found.agreements
    assert (one.output, one.windows) == ("y", 40)
    assert 0.01 < one.nrmse < 1
    assert one.same is not None
    assert found.report["agreements"][0]["nrmse"] == one.nrmse
    assert found.plan.saving == pytest.approx(8, rel=0.01)


def test_a_pool_of_the_whole_window_reads_the_window() -> None:
    model = build(
        "(float[1, 2, 30] x) => (float[] y) { a = Conv<pads = [1, 1]>(x, w) y = AveragePool<kernel_shape = [30]>(a) }",
        w=weight(3, 2, 3),
    )
    found = aarewrite.stream(model, step=4, form="signal")
    assert found.plan.rows[1].work == 3 * 30
    assert found.plan.rows[1].reason == "it makes one value of the whole window"


def test_a_step_has_to_divide_everywhere() -> None:
    with pytest.raises(aarewrite.UsageError, match="the nearest steps that work are 2, 4, 6"):
        aarewrite.stream(net(), step=3, form="signal")


def test_a_wrong_delay_is_found() -> None:
    model = net()
    flow = flow_of(model)
    layout = lay_out(flow, 4)
    broken = SignalWriter(flow, layout)
    right = broken._delayed
    broken._delayed = lambda name, late: right(name, late + 1 if late else 0)  # type: ignore[method-assign]
    streaming = broken.write({})
    steps = Steps(flow.inputs, flow.window, 4, broken.states, layout.first_valid, layout.latency)
    proof, _ = prove_signal(load(model), streaming, flow, tuple(broken.interiors()), steps,
                            {"x": (1, 2, 32)})  # fmt: skip
    assert not proof.passed
    assert proof.worst.tensor == "d"


def test_where_borders_reach_all_over_there_is_no_proof() -> None:
    model = build("(float[1, 2, 8] x) => (float[] y) { a = Conv<pads = [4, 4]>(x, w) y = GlobalMaxPool(a) }",
                  w=weight(2, 2, 9))  # fmt: skip
    with pytest.raises(aarewrite.CannotHandle, match="the signal form cannot be proven; use --form exact"):
        aarewrite.stream(model, step=2, form="signal")


@pytest.mark.parametrize("spatial", [1, 2])
def test_interiors_of_random_nets_equal_the_originals(spatial: int) -> None:
    maps, refused = list[int](), list[str]()

    @SOME
    @given(st.data())
    def check(data: st.DataObject) -> None:
        model = data.draw(nets(spatial))
        try:
            session(model)
        except Exception:  # ONNX Runtime refuses the net itself
            assume(False)
        flow = flow_of(model, spatial + 1)
        steps = [step for step in range(1, flow.window + 1) if flow.obstacle(step, True) is None]
        assume(steps)
        with mock.patch.object(plan, "LEAST_SAVING", 0), mock.patch.object(run, "times", return_value=(1.0, 1.0)):
            try:
                found = aarewrite.stream(model, data.draw(st.sampled_from(steps[:4])), axis=spatial + 1, form="signal")
            except aarewrite.CannotHandle as error:
                refused.append(str(error))
                return
        maps.append(len(found.proof.comparisons))
        if all(track.left == track.right == 0 for track in flow.tracks.values()):
            assert max(one.nrmse for one in found.agreements) < 1e-5

    check()
    assert sum(maps) > SOME.max_examples
    assert all("the borders reach every map all over" in text for text in refused)


def test_a_window_of_the_wrong_samples_is_found(monkeypatch) -> None:
    """What is read as a whole is compared as well, not its newest indices alone."""
    from aarewrite.streaming.signal import SignalLayout

    right = SignalLayout.late
    monkeypatch.setattr(SignalLayout, "late", lambda self, track, name: right(self, track, name) + 1)
    with pytest.raises(aarewrite.CheckFailed, match="the streaming model is not the original: 'd' differs by"):
        aarewrite.stream(net(), step=4, form="signal")


def test_a_transposed_convolution_is_computed_on_the_whole_window() -> None:
    model = build(
        """(float[1, 2, 32] x) => (float[] y) {
        a = Conv(x, w)
        b = ConvTranspose<strides = [2]>(a, v)
        y = Relu(b)
    }""",
        w=weight(3, 2, 3), v=weight(3, 1, 2),
    )  # fmt: skip
    found = aarewrite.plan_stream(model, step=4, form="signal")
    assert [row.reason for row in found.rows] == [
        "", "in this form it has no rule of its own", "what it reads is computed on the whole window",
    ]  # fmt: skip
    assert aarewrite.stream(model, step=2, form="signal").agreements[0].nrmse < 1e-6
