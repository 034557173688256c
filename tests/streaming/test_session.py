"""The runner: pieces of any length, states that stay, outputs from the first right step on."""

import numpy as np
import onnx
import pytest
from reference import build, run, weight

import aarewrite

NET = """(float[N, 2, 32] x) => (float[] y) {
    a = Conv<pads = [1, 1]>(x, w)
    y = GlobalAveragePool(a)
}"""


@pytest.fixture(scope="module")
def net() -> onnx.ModelProto:
    return build(NET, w=weight(4, 2, 3))


def test_samples_in_pieces_of_any_length(net, tmp_path) -> None:
    signal = np.random.default_rng(0).standard_normal((2, 2, 61)).astype(np.float32)
    onnx.save(aarewrite.stream(net, step=5).model, tmp_path / "s.onnx")
    session = aarewrite.StreamingSession(tmp_path / "s.onnx", batch=2)
    assert (session.window, session.step, session.first_valid, session.axes) == (32, 5, 7, {"x": 2})
    for _ in range(2):
        found = [outputs for part in np.split(signal, [3, 11, 36, 37, 52], 2) for outputs in session.push(part)]
        assert session.steps == 12
        assert len(found) == 6
        for k, outputs in enumerate(found):
            end = 35 + 5 * k
            assert np.abs(outputs["y"] - run(net, x=signal[:, :, end - 32 : end])[0]).max() < 1e-6
        session.reset()


def test_several_inputs_and_one_that_is_not_streamed() -> None:
    model = build(
        """(float[1, 2, 32] x, float[1, 2, 32] z, float[1, 4, 1] gain) => (float[] y) {
        a = Conv<pads = [1, 1]>(x, w)
        b = Conv<pads = [1, 1]>(z, w)
        c = Add(a, b)
        d = ReduceMean<axes = [2]>(c)
        y = Mul(d, gain)
    }""",
        w=weight(4, 2, 3),
    )
    session = aarewrite.StreamingSession(aarewrite.stream(model, step=8).model)
    x, z, gain = weight(1, 2, 40), weight(1, 2, 40, seed=1), weight(1, 4, 1)
    found = session.push({"x": x, "z": z}, {"gain": gain})
    assert len(found) == 2
    expected = run(model, x=x[:, :, 8:], z=z[:, :, 8:], gain=gain)[0]
    assert np.abs(found[1]["y"] - expected).max() < 1e-6
    with pytest.raises(aarewrite.UsageError, match="samples of x; give those of x, z"):
        session.push(x)
    with pytest.raises(aarewrite.UsageError, match="of different lengths"):
        session.push({"x": x, "z": z[:, :, 1:]})


def test_only_streaming_models(net) -> None:
    with pytest.raises(aarewrite.UsageError, match="it is no streaming model"):
        aarewrite.StreamingSession(net)
