"""Latency is measured relative to the original's, on one sample, both at the same time."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from pairs import Net

from aarewrite.calibration.latency import LATENCY_RUNS, latency_ratio
from aarewrite.data.canvases import from_array


def chain(length: int) -> onnx.ModelProto:
    net, source = Net(["n", 8, 48, 48]), "x"
    for place in range(length):
        source = net.conv(source, f"y{place}", np.full((8, 8, 3, 3), 0.01), pads=[1] * 4)
    return net.model(source)


def test_both_models_run_on_the_same_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).standard_normal((2, 8, 50, 50)).astype(np.float32)
    outputs = []

    def count(before: object, after: object, rounds: int) -> float:
        assert rounds == LATENCY_RUNS
        outputs.extend(run()[0] for run in (before, after))  # type: ignore[operator]
        return 1.25

    monkeypatch.setattr("aarewrite.calibration.latency.median_ratio", count)
    assert latency_ratio(chain(1), chain(2), from_array(data, "x", size=(48, 48)), threads=1) == 1.25
    once, twice = outputs
    assert once.shape == twice.shape == (1, 8, 48, 48)
    inside = np.s_[:, :, 2:-2, 2:-2]
    again = sum(once[0, :, i : i + 46, j : j + 46] for i in range(3) for j in range(3)).sum(0) * 0.01
    np.testing.assert_allclose(twice[inside][0, 0], again[1:-1, 1:-1], rtol=1e-4, atol=1e-5)
