"""Numbers with their uncertainty: proportions (Wilson), means over images and paired changes (normal intervals).

The image is the unit that is counted: what is seen of one image, its shifts and pairs of views, is not independent.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from aarewrite.data.arrays import Array

Z95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution
ALPHA = 0.05  # largest p of a change that is shown
BETTER, WORSE, MIXED, UNSHOWN = "better", "worse", "better and worse", "no difference shown"


@dataclass(frozen=True)
class Proportion:
    """A share of images with its 95 % Wilson score interval (E. B. Wilson, JASA 1927).

    An image that is tried several times counts once, by its share of successes; the interval is then no narrower than
    it should be, for no share varies more over images than a yes or no. `value`, `low` and `high` lie in 0..1; they
    are NaN when `n` is 0.
    """

    value: float
    successes: float
    n: int
    low: float
    high: float

    @classmethod
    def of(cls, successes: float, n: int) -> Proportion:
        """Return the proportion `successes / n` with its interval."""
        if n == 0:
            return cls(math.nan, 0, 0, math.nan, math.nan)
        successes = int(successes) if successes == int(successes) else successes
        return cls(successes / n, successes, n, *_wilson(successes / n, n))

    @classmethod
    def pooled(cls, parts: Sequence[float], wholes: Sequence[float]) -> Proportion:
        """The share of all `wholes` that their `parts` are, an entry an image; images without a whole do not count.

        `n` are the images. The interval is that of as many images of equal weight as say as much (L. Kish, Survey
        Sampling, 1965: the square of the sum of their weights, by the sum of the squares).
        """
        weights = [whole for whole in wholes if whole > 0]
        if not weights:
            return cls.of(0, 0)
        total = math.fsum(weights)
        value, alike = math.fsum(parts) / total, total**2 / math.fsum(weight**2 for weight in weights)
        return cls(value, value * len(weights), len(weights), *_wilson(value, alike))


def _wilson(p: float, n: float) -> tuple[float, float]:
    z2 = Z95 * Z95
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # At p = 0 and p = 1 the bound is exactly p; rounding must not put it beside it.
    return 0.0 if p == 0 else centre - half, 1.0 if p == 1 else centre + half


@dataclass(frozen=True)
class Mean:
    """A mean over images with its 95 % interval (1.96 standard errors), its largest value and the count."""

    value: float
    n: int
    low: float
    high: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float] | Array) -> Mean:
        """Return the mean; NaN without any value, an interval of zero width for one."""
        n = len(values)
        if n == 0:
            return cls(math.nan, 0, math.nan, math.nan, math.nan)
        with np.errstate(invalid="ignore"):  # an infinite value has no interval
            error = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else 0.0
        mean = float(np.mean(values))
        return cls(mean, n, mean - Z95 * error, mean + Z95 * error, float(np.max(values)))


class Tally:
    """Figures by what they are of, one an image: what studies count, and take means and shares from."""

    def __init__(self) -> None:
        self.values = defaultdict[Hashable, "array[float]"](lambda: array("d"))

    def add(self, key: Hashable, values: float | Sequence[float]) -> None:
        """Count an image: by its value, or by the mean of several, which are not independent."""
        self.values[key].append(sum(values) / len(values) if isinstance(values, Sequence) else values)

    def mean(self, key: Hashable) -> Mean:
        """The mean over images."""
        return Mean.of(self.values[key])

    def share(self, key: Hashable) -> Proportion:
        """The share of images, of values in 0..1."""
        return Proportion.of(math.fsum(self.values[key]), len(self.values[key]))


@dataclass(frozen=True)
class Difference:
    """One measure before and after, in percent, means over images, and whether the change is more than chance."""

    name: str
    before: float
    after: float
    low: float  # to `high`: 95 % interval of the change, over images
    high: float
    p: float  # two-sided p-value of the change, from flipping the sign of whole images at random
    n: int  # images

    @property
    def change(self) -> float:
        """After minus before."""
        return self.after - self.before

    @property
    def says(self) -> str:
        """The change with its interval, in words."""
        return f"{self.change:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"

    @property
    def sign(self) -> int:
        """1: above zero, -1: below zero, 0: neither is shown.

        The interval has to lie there and the sign-flip test to agree: with a handful of images that changed, all the
        same way (4 of any number), the normal interval leaves zero out though one exchange in 8 does as much.
        """
        shown = self.p < ALPHA and (self.low > 0 or self.high < 0)
        return 0 if not shown else 1 if self.low > 0 else -1


def judgement(far: Difference, near: Difference) -> str:
    """What the paired changes of two agreements show of a model: one of `BETTER`, `WORSE`, `MIXED`, `UNSHOWN`.

    Better: at least one lies above zero, and none below. Models that do not differ, their answers exchanged at random
    image by image, pass with a probability of at most 5 %: each change lies above zero in at most 2.5 %.
    """
    signs = {far.sign, near.sign} - {0}
    return {1: BETTER, -1: WORSE, 0: MIXED if signs else UNSHOWN}[sum(signs)]


def difference(
    name: str, before: Sequence[float] | Array, after: Sequence[float] | Array, seed: int = 0, rounds: int = 2000
) -> Difference:
    """The change of a per-image measure (0..1), with its interval and a sign-flip test."""
    old, new = 100 * np.asarray(before, float), 100 * np.asarray(after, float)
    change = new - old
    found = Mean.of(change)
    moved, rng = change[change != 0], np.random.default_rng(seed)

    def extreme(signs: Array) -> int:
        return int((np.abs(signs @ moved) >= np.abs(moved.sum()) - 1e-9).sum())

    if 2 ** len(moved) <= rounds:  # all of them
        p = extreme(np.array(list(product((-1.0, 1.0), repeat=len(moved))))) / 2 ** len(moved)
    else:  # a few rounds at a time: memory does not grow with rounds x images
        blocks = (extreme(rng.choice([-1.0, 1.0], (100, len(moved)))) for _ in range(0, rounds, 100))
        p = (sum(blocks) + 1) / (rounds + 1)
    return Difference(name, float(old.mean()), float(new.mean()), found.low, found.high, p, len(change))
