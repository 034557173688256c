"""How long a model takes relative to another one, on this machine's CPU."""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median

import onnx

from aarewrite.calibration.canvases import Canvases

LATENCY_RUNS = 15


def latency_ratio(before: onnx.ModelProto, after: onnx.ModelProto, canvases: Canvases) -> float:
    """Median latency of `after` relative to `before`, on one sample each, alternating."""
    import onnxruntime as ort

    sample = canvases.load(0)
    feed = next(iter(replace(canvases, batch=1).feeds([canvases.crop(sample, [0] * len(canvases.axes))])))
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    # The threads of the one must not wait actively on the cores that the other is timed on.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    sessions = [
        ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        for model in (before, after)
    ]
    ratios = []
    for run in range(LATENCY_RUNS + 2):
        seconds = []
        for session in sessions:
            begin = time.perf_counter()
            session.run(None, feed)
            seconds.append(time.perf_counter() - begin)
        if run >= 2:  # the first runs warm up
            ratios.append(seconds[1] / seconds[0])
    return median(ratios)
