"""Ridge regression towards given weights, out of sums that stay small however many samples are seen.

For one layer with inputs x, targets y and weights W0, b0 the problem is

    min over W, b of  sum |x W + b - y|^2 + lambda |W - W0|^2 ,   lambda = alpha trace(X'X) / d

with x centred, so that the bias is free. It needs the data only through their second moments, kept in float64 and
apart for each fold: a fit on some folds is judged on the others, which is how alpha is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Rows = NDArray[np.floating]

WIDE = 1500  # unknowns per output
ALPHAS = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 100.0)


@dataclass(frozen=True)
class Moments:
    """Sums over samples, for g groups of d inputs and o outputs each."""

    n: float  # number of samples
    x: F64  # sums of inputs, (g, d)
    y: F64  # sums of targets, (g, o)
    xx: F64  # sums of products of inputs, (g, d, d)
    xy: F64  # sums of products of inputs and targets, (g, d, o)
    yy: F64  # sums of squared targets, (g, o)

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets of samples."""
        return Moments(*map(add, vars(self).values(), vars(other).values()))

    def error(self, weight: F64, bias: F64) -> F64:
        """Sum of squared errors of x W + b, per output: (g, o)."""
        quadratic = np.einsum("gdo,gdo->go", weight, self.xx @ weight - 2 * self.xy)
        cross = np.einsum("gd,gdo->go", self.x, weight)
        error: F64 = self.yy + quadratic + 2 * bias * (cross - self.y) + self.n * bias**2
        return np.maximum(error, 0.0)  # rounding may leave a perfect fit below zero

    def variance(self) -> float:
        """Of the targets, summed over outputs; above zero."""
        return max(float((self.yy - self.y**2 / self.n).sum()) / self.n, 1e-30)


class Equations:
    """Collects the moments of one layer, with so many inputs and outputs in each of its groups, fold by fold."""

    rows_at_once = 4096  # products are formed for this many samples at once: fast for one-image batches too

    def __init__(self, groups: int, inputs: int, outputs: int, folds: int) -> None:
        g, d, o = groups, inputs, outputs
        nothing = Moments(0, *map(np.zeros, ((g, d), (g, o), (g, d, d), (g, d, o), (g, o))))
        self._sums = [nothing] * folds
        self._rows: list[list[tuple[Rows, Rows]]] = [[] for _ in range(folds)]

    def add(self, x: Rows, y: Rows, fold: int) -> None:
        """Take in samples: x (g, m, d) and y (g, m, o)."""
        self._rows[fold].append((x, y))
        if sum(part.shape[1] for part, _ in self._rows[fold]) >= self.rows_at_once:
            self._flush(fold)

    def moments(self) -> list[Moments]:
        """The moments of each fold."""
        for fold, rows in enumerate(self._rows):
            if rows:
                self._flush(fold)
        return self._sums

    def total(self) -> Moments:
        """The moments of all folds together."""
        return reduce(add, self.moments())

    def _flush(self, fold: int) -> None:
        x, y = (np.concatenate(parts, axis=1, dtype=np.float64) for parts in zip(*self._rows[fold], strict=True))
        self._rows[fold] = []
        # One group at a time: numpy then sees x'x as the symmetric product it is, at half the work.
        xx = np.stack([group.T @ group for group in x])
        xy = x.transpose(0, 2, 1) @ y
        self._sums[fold] += Moments(x.shape[1], x.sum(1), y.sum(1), xx, xy, np.square(y).sum(1))


@dataclass(frozen=True)
class Fit:
    """The solution for one layer. Errors are mean squared ones relative to the variance of the targets."""

    weight: F64  # (g, d, o); the given one when nothing beats it
    bias: F64  # (g, o); as the weight
    alpha: float  # the chosen regularisation; infinity when the weights were left alone
    before: float  # error on samples not fitted to (cross-validated), with the given weights
    after: float  # the same with these
    own_before: float  # error on all samples, with the given weights
    own_after: float  # the same with these


def ridge(moments: Moments, weight: F64, bias: F64, alpha: float, *, intercept: bool) -> tuple[F64, F64]:
    """Weights and bias that solve the ridge problem of this module's first lines."""
    # Solved anew for every alpha: one eigendecomposition for all of them takes as long as ten to twenty solutions.
    mean_x = moments.x / moments.n if intercept else np.zeros_like(moments.x)
    mean_y = moments.y / moments.n if intercept else bias
    xx = moments.xx - moments.x[:, :, None] * mean_x[:, None, :]
    xy = moments.xy - moments.x[:, :, None] * mean_y[:, None, :]
    scale = np.trace(xx, axis1=1, axis2=2) / xx.shape[1]
    change = xy - xx @ weight
    np.einsum("gdd->gd", xx)[...] += alpha * np.where(scale > 0, scale, 1.0)[:, None]  # einsum: the diagonals' view
    solved = weight + np.linalg.solve(xx, change)
    return solved, mean_y - np.einsum("gd,gdo->go", mean_x, solved)


def fit(
    folds: Sequence[Moments],
    weight: F64,
    bias: F64,
    *,
    intercept: bool,
    alphas: Sequence[float] = ALPHAS,
    start: float = 1e-1,
) -> Fit:
    """Choose alpha by the error on the fold left out, then solve on all of them.

    Args:
        folds: Moments of each fold; at least two with samples, or the weights are left alone.
        weight: (g, d, o), what the solution is pulled towards.
        bias: (g, o).
        intercept: Whether the bias may change.
        alphas: Candidates; the weights are left alone when the best of them does not lower the error.
        start: Where the search among them begins.
    """
    seen = [fold for fold in folds if fold.n > 0]
    # A solution of a wide layer takes seconds: one fold left out has to do for it.
    judges = seen[:1] if weight.shape[1] > WIDE else seen

    def error(alpha: float) -> float:
        """The sum of squared errors on each fold left out."""
        summed = 0.0
        for judge in judges:
            # Summed anew each time: keeping the sums would double the memory of wide layers.
            rest = reduce(add, (fold for fold in seen if fold is not judge))
            summed += judge.error(*ridge(rest, weight, bias, alpha, intercept=intercept)).sum()
        return summed

    total = reduce(add, seen)
    before = sum(fold.error(weight, bias).sum() for fold in judges)
    alpha, after = _lowest(error, alphas, start) if len(seen) > 1 else (math.inf, before)
    solution = weight, bias
    if after < before:
        solution = ridge(total, weight, bias, alpha, intercept=intercept)
    else:
        alpha, after = math.inf, before
    samples, scale = sum(fold.n for fold in judges), total.variance()
    own = [total.error(*one).sum() / total.n for one in ((weight, bias), solution)]
    relative = (float(value / scale) for value in (before / samples, after / samples, *own))
    return Fit(*solution, alpha, *relative)


def _lowest(error: Callable[[float], float], alphas: Sequence[float], start: float) -> tuple[float, float]:
    """Walk downhill over the sorted candidates from the one nearest to `start`; the error has one valley."""
    ladder, known = sorted(alphas), dict[int, float]()
    best = min(range(len(ladder)), key=lambda i: abs(math.log(ladder[i] / start)))
    while True:
        place = best
        for near in (place, place - 1, place + 1):
            if 0 <= near < len(ladder) and near not in known:
                known[near] = error(ladder[near])
        best = min(known, key=lambda i: known[i])
        if best == place:
            return ladder[place], known[place]
