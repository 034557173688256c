"""A streaming model beside its original over a long signal."""

import numpy as np
import onnx
import pytest
from reference import build, weight

import aarewrite
from aarewrite.model.model_file import load
from aarewrite.streaming.compare import RANDOM, WINDOWS, compare

NET = """(float[N, 2, 32] x, float[N, 3, 1] gain) => (float[] y) {
    a = Conv<pads = [1, 1]>(x, w)
    b = ReduceMean<axes = [2]>(a)
    c = Mul(b, gain)
    y = Flatten(c)
}"""


def net(seed: int = 0) -> onnx.ModelProto:
    return build(NET, w=weight(3, 2, 3, seed=seed))


@pytest.fixture(scope="module")
def streaming():
    return load(aarewrite.stream(net(), step=4).model)


def test_the_exact_form_is_equal_on_any_signal(streaming, tmp_path) -> None:
    found = compare(streaming, load(net()))
    assert (found.form, found.data) == ("exact", RANDOM)
    [one] = found.agreements
    assert (one.output, one.windows, one.same) == ("y", WINDOWS, 1)
    assert one.difference < 1e-6
    np.savez(tmp_path / "long.npz", x=weight(1, 2, 100))
    own = compare(streaming, load(net()), tmp_path / "long.npz")
    assert (own.data, own.agreements[0].windows) == ("long.npz", (100 - 32) // 4 + 1)
    assert own.to_dict()["agreements"][0]["output"] == "y"


def test_another_model_is_not_its_original(streaming) -> None:
    with pytest.raises(aarewrite.CheckFailed, match="is not the original on a random signal: 'y' differs by"):
        compare(streaming, load(net(seed=1)))
    with pytest.raises(aarewrite.UsageError, match="it is no streaming model"):
        compare(load(net()), load(net()))


def test_the_signal_form_may_differ_up_to_a_limit() -> None:
    found = compare(load(aarewrite.stream(net(), step=4, form="signal").model), load(net()))
    assert found.form == "signal"
    assert found.agreements[0].difference > 1e-3
    found.check(None)
    found.check(100)
    with pytest.raises(aarewrite.CheckFailed, match=r"output 'y' differs by .*, above --max-diff 0.0001"):
        found.check(1e-4)
