"""Numbers with their uncertainty: proportions (Wilson) and means over images (normal interval)."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


@dataclass(frozen=True)
class Proportion:
    """A share of trials with its 95 % Wilson score interval (E. B. Wilson, JASA 1927).

    `value`, `low` and `high` lie in 0..1; they are NaN when `n` is 0.
    """

    value: float
    successes: int
    n: int
    low: float
    high: float

    @classmethod
    def of(cls, successes: int, n: int) -> Proportion:
        """Return the proportion `successes / n` with its interval."""
        if n == 0:
            return cls(math.nan, 0, 0, math.nan, math.nan)
        p, z2 = successes / n, Z95 * Z95
        centre = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        # At p = 0 and p = 1 the bound is exactly p; rounding must not put it beside it.
        low = 0.0 if successes == 0 else centre - half
        high = 1.0 if successes == n else centre + half
        return cls(p, successes, n, low, high)


@dataclass(frozen=True)
class Mean:
    """A mean over images with its 95 % interval (1.96 standard errors), its largest value and the count.

    Steps within one image are not independent, so the image is the unit that is counted.
    """

    value: float
    n: int
    low: float
    high: float
    largest: float


class RunningMean:
    """Welford's running mean and variance: memory does not grow with the number of values."""

    def __init__(self) -> None:
        self.n = 0
        self._mean = 0.0
        self._m2 = 0.0
        self._largest = -math.inf

    def add(self, value: float) -> None:
        """Count one more value."""
        self.n += 1
        step = value - self._mean
        self._mean += step / self.n
        self._m2 += step * (value - self._mean)
        self._largest = max(self._largest, value)

    def result(self) -> Mean:
        """Return the mean so far; NaN without any value, an interval of zero width for one."""
        if self.n == 0:
            return Mean(math.nan, 0, math.nan, math.nan, math.nan)
        error = math.sqrt(self._m2 / (self.n - 1) / self.n) if self.n > 1 else 0.0
        return Mean(self._mean, self.n, self._mean - Z95 * error, self._mean + Z95 * error, self._largest)
