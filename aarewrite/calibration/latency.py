"""How long a model takes relative to another one, on this machine's CPU."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import onnx

from aarewrite.data.canvases import Canvases
from aarewrite.model.runtime import plain_session
from aarewrite.timing.rounds import STOP_SPINNING, median_ratio

LATENCY_RUNS = 15


def latency_ratio(before: onnx.ModelProto, after: onnx.ModelProto, canvases: Canvases, threads: int = 0) -> float:
    """Median latency of `after` relative to `before`, on one sample each, alternating; 0 threads: one a core."""
    sample = canvases.load(0)
    feed = next(iter(replace(canvases, batch=1).feeds([canvases.crop(sample, [0] * len(canvases.axes))])))
    first, second = (plain_session(model, threads, STOP_SPINNING) for model in (before, after))
    return median_ratio(partial(first.run, None, feed), partial(second.run, None, feed), LATENCY_RUNS)
