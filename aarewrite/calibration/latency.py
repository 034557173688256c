"""How long a model takes relative to another one, on this machine's CPU."""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median

import onnx

from aarewrite.data.canvases import Canvases
from aarewrite.model.runtime import plain_session

LATENCY_RUNS = 15
# The threads of the one must not wait actively on the cores that the other is timed on.
STOP_SPINNING = (("session.force_spinning_stop", "1"),)


def latency_ratio(before: onnx.ModelProto, after: onnx.ModelProto, canvases: Canvases, threads: int = 0) -> float:
    """Median latency of `after` relative to `before`, on one sample each, alternating; 0 threads: one a core."""
    sample = canvases.load(0)
    feed = next(iter(replace(canvases, batch=1).feeds([canvases.crop(sample, [0] * len(canvases.axes))])))
    sessions = [plain_session(model, threads, STOP_SPINNING) for model in (before, after)]
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
