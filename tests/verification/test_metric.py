"""Two-input metrics whose ranks flip where one expects it."""

from __future__ import annotations

import numpy as np
import onnx
from refusals import refused
from small_nets import parse, save, stripes

from aarewrite.verification import verify
from aarewrite.verification.statistics import Proportion


def test_metric_rank_flips_are_counted(tmp_path):
    net = parse("""
    metric (float[N,1,16,16] a, float[N,1,16,16] b) => (float[N,1,1,1] distance)
    <float[1,1,1,1] w = {1}> {
        difference = Sub(a, b)
        size = Abs(difference)
        kept = Conv<strides = [2, 2]>(size, w)
        distance = GlobalAveragePool(kept)
    }""")
    ref = np.zeros((3, 1, 20, 20), np.float32)
    data = save(tmp_path / "m.npz", ref=ref, p0=stripes(3), p1=np.full_like(ref, 0.6))
    report = verify(net, data, max_shift=2)
    assert report.task == "metric"
    # p0 is at distance 0, or 1 when moved by an odd number of columns; p1 always at 0.6.
    shares = {(p.direction, p.distance): (p.share.successes, p.share.n) for p in report.metrics[0].points}
    assert shares["horizontal", 1] == shares["diagonal", 1] == (1.5, 3)  # one of an image's two: it counts by half
    assert shares["horizontal", 2] == shares["vertical", 1] == (0, 3)
    assert report.metrics[0].rank_flips == Proportion.of(0.5, 3)  # a sixth of every image's 12 moves, 3 images


def test_metric_without_distorted_images(tmp_path):
    model = parse("""
    g (float[N,1,16,16] a, float[N,1,16,16] b) => (float[N,1,1,1] d) {
        c = Sub(a, b)
        d = GlobalAveragePool(c)
    }""")
    onnx.save(model, tmp_path / "metric.onnx")
    refused(3, "distorted", "ref, p0 and p1", args=[str(tmp_path / "metric.onnx")])
    data = save(tmp_path / "d.npz", x=stripes(2))
    refused(2, "ref, p0 and p1", args=[str(tmp_path / "metric.onnx"), "--data", data])
