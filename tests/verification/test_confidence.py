"""Confidence, its calibration, and decisions at a threshold, against figures counted by hand."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from command import aa
from small_nets import parse, save

from aarewrite.verification import verify
from aarewrite.verification.confidence import BINS, Confidence, confidences

# The first output is the mean, the second its complement: probabilities that are known
MEAN = """
g (float[N,1,16,16] x) => (float[N,2] y) <float one = {1}> {
    a = GlobalAveragePool(x)
    b = Flatten(a)
    c = Sub(one, b)
    y = Concat<axis = 1>(b, c)
}"""
MEANS = [0.9, 0.9, 0.9, 0.9, 0.55, 0.2]  # confidences 0.9 (four), 0.55, 0.8
LABELS = [0, 0, 0, 1, 1, 1]  # right: three of four, not, right


@pytest.fixture
def data(tmp_path):
    flat = np.broadcast_to(np.float32(MEANS)[:, None, None, None], (6, 1, 20, 20))
    return save(tmp_path / "d.npz", x=flat, labels=np.array(LABELS))


def test_calibration_error_is_the_gap_of_every_bin():
    found = Confidence.of([0.9, 0.9, 0.9, 0.9, 0.55, 0.8], [1, 1, 1, 0, 0, 1], None)
    assert found.calibration_error == pytest.approx((abs(4 * 0.9 - 3) + 0.55 + 0.2) / 6)
    assert found.mean.value == pytest.approx(4.95 / 6)
    assert (sum(found.histogram), found.histogram[13], found.histogram[8], found.histogram[12]) == (6, 4, 1, 1)
    assert Confidence.of([1.0], None, None).histogram == (0,) * (BINS - 1) + (1,)
    assert Confidence.of([1.0], None, None).calibration_error is None


def test_logits_go_through_a_softmax():
    logits = np.array([[0.0, np.log(3.0)], [1e4, 0.0]])
    np.testing.assert_allclose(confidences(logits, False), [0.75, 1.0])
    np.testing.assert_allclose(confidences(np.array([[0.3, 0.7]]), True), [0.7])


def test_decisions_at_a_threshold(data, tmp_path):
    (result,) = verify(parse(MEAN), data, threshold=0.7, max_shift=1).classification
    assert result.confidence.calibration_error == pytest.approx(1.35 / 6, abs=1e-6)
    decisions = result.confidence.decisions
    assert (decisions.decided.successes, decisions.decided.n) == (5, 6)
    assert (decisions.right.successes, decisions.right.n) == (4, 5)
    assert (decisions.steady.value, decisions.same_as_against) == (1.0, None)
    onnx.save(parse(MEAN), tmp_path / "net.onnx")
    surer = MEAN.replace("<float one = {1}>", "<float one = {1}, float ten = {10}>")
    surer = surer.replace("y = Concat<axis = 1>(b, c)", "d = Concat<axis = 1>(b, c) e = Mul(d, ten) y = Softmax(e)")
    onnx.save(parse(surer), tmp_path / "surer.onnx")
    out = tmp_path / "out.json"
    ran = aa("verify", tmp_path / "surer.onnx", "--against", tmp_path / "net.onnx", "--data", data, "--threshold", 0.7,
             "--json", out)  # fmt: skip
    after, before = (one["confidence"] for one in json.loads(out.read_text())["classification"])
    assert after["mean"]["value"] > 0.9 > before["mean"]["value"]
    assert after["decisions"]["decided"]["successes"] == 6  # softmax(5.5, 4.5) is 0.73
    assert after["decisions"]["same_as_against"]["successes"] == 5
    assert "calibration error" in ran.out
    assert "right of these" in ran.out
