"""How long a step takes beside a whole window, in ONNX Runtime on this machine's CPU."""

from __future__ import annotations

import functools
import time
from statistics import median

from aarewrite.model.model_file import Model
from aarewrite.model.runtime import plain_session
from aarewrite.rewriting.random_inputs import Feeds
from aarewrite.streaming.proof import Steps, cut, zeros
from aarewrite.timing.rounds import STOP_SPINNING, Clock, interleaved

FEWEST, MOST = 3, 15  # rounds
SECONDS = 1.5  # that they may take in all


def times(
    original: Model, streaming: Model, steps: Steps, sample: Feeds, clock: Clock = time.perf_counter
) -> tuple[float, float]:
    """Median seconds of a window and of a step, in interleaved rounds.

    Args:
        original, streaming: The models.
        steps: How the streaming model is fed.
        sample: The original's inputs, one window.
        clock: Seconds.
    """
    window, step = (plain_session(model.self_contained(), entries=STOP_SPINNING) for model in (original, streaming))
    batch = len(sample[next(iter(steps.inputs))])
    feeds = {
        port.name: zeros(port.shape, port.type, batch)
        if port.name in steps.states
        else cut(sample[port.name], steps.inputs[port.name], 0, steps.step)
        if port.name in steps.inputs
        else sample[port.name]
        for port in step.get_inputs()
    }
    runs = functools.partial(window.run, None, sample), functools.partial(step.run, None, feeds)
    begin = clock()
    for run in runs:
        run()
    rounds = min(MOST, max(FEWEST, int(SECONDS / max(clock() - begin, 1e-9))))
    first, second = interleaved(runs, rounds, clock)
    return median(first), median(second)
