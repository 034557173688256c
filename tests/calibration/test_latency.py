"""Latency is measured relative to the original's, on one sample, both at the same time."""

from __future__ import annotations

import numpy as np
import onnx
from pairs import Net

from aarewrite.calibration.latency import latency_ratio
from aarewrite.data.canvases import from_array


def chain(length: int) -> onnx.ModelProto:
    net, source = Net(["n", 8, 48, 48]), "x"
    for place in range(length):
        source = net.conv(source, f"y{place}", np.full((8, 8, 3, 3), 0.01), pads=[1] * 4)
    return net.model(source)


def test_sixteen_times_the_work_takes_several_times_as_long() -> None:
    data = np.random.default_rng(0).standard_normal((2, 8, 50, 50)).astype(np.float32)
    canvases = from_array(data, "x", size=(48, 48))
    slower, faster = latency_ratio(chain(1), chain(16), canvases), latency_ratio(chain(16), chain(1), canvases)
    assert slower > 4
    assert faster < 1 / 4
