"""Outputs that are NaN or infinite: every task and protocol says so and measures nothing."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
import pytest
from reference import build
from refusals import refused
from small_nets import detector, grid_profile, parse, save, stripes

from aarewrite.errors import CheckFailed
from aarewrite.verification import verify
from aarewrite.verification.finite import demand_finite, says_nothing

NAN, INF, ONE = (np.float32([[value, 1]]) for value in (np.nan, np.inf, 1))


@pytest.mark.parametrize(
    ("values", "excluded", "what"),
    [
        (ONE, False, ""),
        (-INF, True, ""),
        (INF, True, "infinite"),
        (INF, False, "infinite"),
        (-INF[:, :1], True, "infinite"),
        (NAN, True, "NaN"),
        (np.array([[2**62]]), False, ""),
        (np.zeros((1, 0), np.float32), False, ""),
    ],
)
def test_what_can_be_measured(values: np.ndarray, excluded: bool, what: str) -> None:
    expected = f"net: output 'y' is {what} for a.png: nothing can be measured"
    with pytest.raises(CheckFailed, match=expected) if what else nullcontext():
        demand_finite("net", {"x": ONE, "y": values}, "a.png", excluded)


def test_one_number_says_something() -> None:
    assert says_nothing({"a": NAN[:, :1], "b": NAN[:, :1]})
    assert not says_nothing({"a": NAN[:, :1], "b": NAN})
    assert not says_nothing({"a": NAN[:, :1], "b": np.array([1])})
    assert not says_nothing({})


def scores(value: float) -> onnx.ModelProto:
    """A classifier of three classes of which the second always has this score."""
    return build(
        """(float[N, 2, 16, 16] x) => (float[N, 3] y) {
        a = GlobalAveragePool(x)
        b = Flatten(a)
        c = ReduceSum<keepdims = 1>(b, one)
        n = Mul(c, zero)
        d = Add(n, w)
        y = Concat<axis = 1>(b, d)
    }""",
        one=np.array([1]), zero=np.float32(0), w=np.float32([[value]]),
    )  # fmt: skip


def test_a_class_that_cannot_be_leaves_the_others_to_measure() -> None:
    with_it, without = (
        verify(scores(value), "synthetic:8", task="classify", threshold=0.5) for value in (-np.inf, -1e4)
    )
    (found,), (wanted,) = with_it.classification, without.classification
    assert found.confidence.mean.value == pytest.approx(wanted.confidence.mean.value)
    assert found.consistency == wanted.consistency
    assert 0 < found.drift_mean.value < np.inf


def test_a_class_that_is_infinitely_sure_is_refused() -> None:
    with pytest.raises(CheckFailed, match="output 'y' is infinite"):
        verify(scores(np.inf), "synthetic:8", task="classify")


def broken(channels: int, out: str, tail: str) -> onnx.ModelProto:
    """A net whose convolution has a weight that is NaN."""
    ones = ", ".join("1" * 2 * channels)
    model = parse(f"""
    g (float[N,{channels},16,16] x) => (float[N,{out}] y) <float[2,{channels},1,1] w = {{{ones}}}> {{
        a = Conv(x, w)
        {tail}
    }}""")
    weight = np.full((2, channels, 1, 1), np.nan, np.float32)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "w"))
    return model


VECTOR = "2", "b = GlobalAveragePool(a)\n y = Flatten(b)"
MAPS = "2,16,16", "y = Identity(a)"
MAP = "1,16,16", "y, rest = Split<axis = 1>(a)"
LIST = "256,2", "s = Constant<value_ints = [0, 2, -1]>()\n b = Reshape(a, s)\n y = Transpose<perm = [0, 2, 1]>(b)"


@pytest.mark.parametrize("protocol", ["crop", "circular", "fractional"])
@pytest.mark.parametrize(
    ("task", "end"),
    [
        ("classify", VECTOR),
        ("embed", VECTOR),
        ("vector", VECTOR),
        ("dense", MAPS),
        ("image", MAPS),
        ("segment", MAPS),
        ("depth", MAP),
        (None, LIST),
    ],
)
def test_weights_that_are_nan(tmp_path: Path, task: str | None, end: tuple[str, str], protocol: str) -> None:
    net, data = broken(1, *end), save(tmp_path / "stripes.npz", x=stripes(3))
    with pytest.raises(CheckFailed, match=r"model: output 'y' is NaN for .*: nothing can be measured"):
        verify(net, data, task=task, protocols=(protocol,))


@pytest.mark.parametrize("protocol", ["camera", "corruptions", "crop"])
def test_of_pictures_under_every_protocol(tmp_path: Path, protocol: str) -> None:
    data = save(tmp_path / "p.npz", x=np.random.default_rng(0).integers(0, 255, (2, 3, 20, 20), dtype=np.uint8))
    with pytest.raises(CheckFailed, match=r"model: output 'y' is NaN for .*: nothing can be measured"):
        verify(broken(3, *VECTOR), data, protocols=(protocol,), max_shift=1 if protocol == "crop" else None)


def test_distances_of_a_metric(tmp_path: Path) -> None:
    net = parse("""
    metric (float[N,1,16,16] a, float[N,1,16,16] b) => (float[N,1,1,1] d) {
        c = Sub(a, b)
        e = GlobalAveragePool(c)
        zero = Sub(e, e)
        d = Div(e, zero)
    }""")
    ref = np.zeros((3, 1, 20, 20), np.float32)
    data = save(tmp_path / "m.npz", ref=ref, p0=ref + 1, p1=ref + 2)
    with pytest.raises(CheckFailed, match="output 'd' is infinite for sample 1: nothing can be measured"):
        verify(net, data, max_shift=1)


def test_scores_of_a_detector(tmp_path: Path) -> None:
    net = detector(32)
    seen = np.full((1, 1, 1, 32), np.nan, np.float32)
    net.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(seen, "seen"))
    data = save(tmp_path / "noise.npz", x=np.random.default_rng(0).random((2, 1, 40, 40)).astype(np.float32))
    with pytest.raises(CheckFailed, match=r"output 'score' is NaN for .*: nothing can be measured"):
        verify(net, data, decode=grid_profile(tmp_path), max_shift=1)


def test_one_pixel_that_is_nan_is_no_lack_of_signal(tmp_path: Path) -> None:
    net = parse("g (float[N,1,16,16] x) => (float[N,1,16,16] y) { y = Sqrt(x) }")
    images = stripes(3)
    images[2, 0, 9, 9] = -1
    onnx.save(net, tmp_path / "root.onnx")
    args = [str(tmp_path / "root.onnx"), "--data", save(tmp_path / "d.npz", x=images)]
    refused(1, "output 'y' is NaN for sample 3: nothing can be measured", args=args)
