"""The whole way: the result, its report, what is refused, and that it composes with a rewrite."""

import dataclasses
import json

import numpy as np
import onnx
import pytest
from nets import largest_difference
from reference import build, weight

import aarewrite

NET = """(float[N, 2, 64] x) => (float[] y) {
    [first] a = Conv<pads = [1, 1], strides = [2]>(x, w)
    b = Relu(a)
    [deep] c = Conv<pads = [1, 1]>(b, v)
    y = GlobalAveragePool(c)
}"""


def net() -> onnx.ModelProto:
    return build(NET, w=weight(4, 2, 3), v=weight(8, 4, 3))


def test_the_result_and_its_report() -> None:
    model = net()
    before = model.SerializeToString()
    found = aarewrite.stream(model, step=4)
    assert model.SerializeToString() == before
    assert largest_difference(model, found.model) < 1e-6
    report = json.loads(json.dumps(found.report))
    assert report["saving"] == pytest.approx(found.plan.saving, abs=1e-4)
    assert report["saving"] > 4
    assert report["proof"]["passed"] is True
    assert report["milliseconds"]["step"] == found.seconds[1] * 1e3 > 0
    assert set(report["states"]) == {name for name in report["states"] if name.endswith("/state")}
    assert found.plan == aarewrite.plan_stream(model, step=4)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"step": 3}, aarewrite.UsageError, "node 'first' \\(Conv\\) makes one value of 2 samples"),
        ({"step": 64}, aarewrite.CannotHandle, "a step of 64 would take 1.00 of a window's work: node 'first'"),
        ({"step": 4, "form": "other"}, aarewrite.UsageError, "form 'other' is not one of exact, signal"),
        ({"step": 4, "axis": "time"}, aarewrite.UsageError, "--axis time: no input has such an axis"),
    ],
)
def test_what_is_refused(options, error, text: str) -> None:
    with pytest.raises(error, match=text):
        aarewrite.stream(net(), **options)


def test_a_streaming_model_is_not_streamed_again() -> None:
    with pytest.raises(aarewrite.UsageError, match="the model is a streaming one already"):
        aarewrite.stream(aarewrite.stream(net(), step=4).model, step=2)


def test_a_failed_proof_is_a_failed_check(monkeypatch) -> None:
    """A rule that forgets the border behind the window: the proof finds it."""
    from aarewrite.streaming import sliding

    right = sliding.slid

    def wrong(*arguments):
        track = right(*arguments)
        return type(track)(track.axis, track.rate, track.left, 0, track.length)

    monkeypatch.setattr(sliding, "slid", wrong)
    with pytest.raises(aarewrite.CheckFailed, match="the streaming model is not the original: 'y' differs by"):
        aarewrite.stream(net(), step=4)


def test_why_a_step_may_not_be_faster() -> None:
    found = aarewrite.stream(net(), step=4)
    small, large, faster = (dataclasses.replace(found, seconds=s) for s in ((1e-4, 2e-4), (1e-2, 2e-2), (2e-2, 1e-2)))
    assert "more calls of small operators cost more than they save" in small.why_not_faster
    assert f"{found.plan.state_bytes} bytes of states are moved" in large.why_not_faster
    assert faster.why_not_faster == ""


def test_an_anti_aliased_model_streams_with_its_blurs() -> None:
    """Blurs are strided convs behind mirrored pads: their states are part of it."""
    model = aarewrite.rewrite(net(), first_conv=True).model
    assert any(node.op_type == "Pad" for node in model.graph.node)
    found = aarewrite.stream(model, step=4)
    assert found.plan.saving > 2
    assert largest_difference(model, found.model) < 1e-6


def test_external_data_and_batches(tmp_path) -> None:
    onnx.save(net(), tmp_path / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)
    found = aarewrite.stream(tmp_path / "net.onnx", step=4)
    assert found.proof.passed
    assert {tensor.data_location for tensor in found.model.graph.initializer if tensor.name == "w"} == {1}
    settled = aarewrite.stream(net(), step=4, input_shapes={"x": (3, 2, 64)})
    assert settled.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 3
    assert np.isfinite(largest_difference(net(), settled.model))


@pytest.mark.parametrize("form", ["exact", "signal"])
def test_maps_that_are_nan_or_0_everywhere_prove_nothing(form: str) -> None:
    taps = weight(4, 2, 3)
    with pytest.raises(aarewrite.CheckFailed) as caught:
        aarewrite.stream(build(NET, w=taps * np.nan, v=weight(8, 4, 3)), step=4, form=form)
    assert str(caught.value).startswith("proof: nothing was compared; ")
    assert str(caught.value).endswith(
        ": NaN or 0 everywhere on a random signal; nothing was written; "
        "check the weights 'w': they hold NaN or infinity"
    )
    with pytest.raises(aarewrite.CheckFailed, match=r"nothing was written; check the model's weights$"):
        aarewrite.stream(build(NET, w=taps * 0, v=weight(8, 4, 3)), step=4, form=form)


def test_an_output_that_is_0_everywhere_is_named() -> None:
    model = build(
        NET.replace("(float[] y)", "(float[] y, float[] z)").replace("y = Glo", "z = Mul(c, none)\n y = Glo"),
        w=weight(4, 2, 3), v=weight(8, 4, 3), none=np.zeros(1, np.float32),
    )  # fmt: skip
    assert (
        "nothing was compared at z: NaN or 0 everywhere on a random signal" in aarewrite.stream(model, step=4).warnings
    )
