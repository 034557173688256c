"""Timing in interleaved rounds: what slows the machine down meets every model alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, sqrt
from statistics import median, quantiles

WARM_UP = 2  # rounds
SECONDS = 10.0  # that rounds may take in all, where their number is not given
FEWEST, MOST = 11, 300  # rounds, then
# The threads of the one must not wait actively on the cores that the other is timed on.
STOP_SPINNING = (("session.force_spinning_stop", "1"),)
Clock = Callable[[], float]


@dataclass(frozen=True)
class Spread:
    """A median, how far values lie around it, and how well it is known."""

    median: float
    quartiles: tuple[float, float]
    interval: tuple[float, float]  # of 95 % for the median, by order statistics; all values where there are few

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of two values or more."""
        lower, middle, upper = quantiles(values, n=4, method="inclusive")
        ordered, n = sorted(values), len(values)
        out = max(0, floor(n / 2 - 0.98 * sqrt(n)))  # of each end: a binomial's 2.5 %
        return cls(middle, (lower, upper), (ordered[out], ordered[n - 1 - out]))


def interleaved(
    runs: Sequence[Callable[[], object]], rounds: int | None = None, clock: Clock = time.perf_counter
) -> list[list[float]]:
    """Seconds of each run in every round, by run; every other round in reverse order, so that none is always first.

    Args:
        runs: What is timed.
        rounds: How many, after two that warm up; None: as many as take 10 s, from 11 to 300.
        clock: Seconds.
    """
    begin = clock()
    for _ in range(WARM_UP):
        for run in runs:
            run()
    if rounds is None:
        rounds = min(MOST, max(FEWEST, int(SECONDS * WARM_UP / max(clock() - begin, 1e-9))))
    seconds: list[list[float]] = [[] for _ in runs]
    for number in range(rounds):
        order = list(zip(runs, seconds, strict=True))
        for run, spent in order if number % 2 == 0 else reversed(order):
            begin = clock()
            run()
            spent.append(clock() - begin)
    return seconds


def ratios(after: Sequence[float], before: Sequence[float]) -> list[float]:
    """Of the times of two runs, round by round."""
    return [a / b for a, b in zip(after, before, strict=True)]


def median_ratio(
    before: Callable[[], object], after: Callable[[], object], rounds: int, clock: Clock = time.perf_counter
) -> float:
    """The median of what one run takes relative to another, in the same rounds."""
    first, second = interleaved([before, after], rounds, clock)
    return median(ratios(second, first))
