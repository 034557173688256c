"""Ridge regression towards given weights, out of sums that stay small however many samples are seen.

For one layer with inputs x, targets y and weights W0, b0 the problem is

    min over W, b of  sum |x W + b - y|^2 + lambda |W - W0|^2 ,   lambda = alpha trace(X'X) / d

with x centred, so that the bias is free. It needs the data only through their second moments, kept in float64 and
apart for each fold: a fit on some folds is judged on the others, which is how alpha is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

WIDE = 1500  # unknowns per output
ALPHAS = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 100.0)


@dataclass(frozen=True)
class Moments:
    """Sums over samples, for g groups of d inputs and o outputs each.

    Attributes:
        n: Number of samples.
        x, y: Sums of inputs and targets, (g, d) and (g, o).
        xx, xy: Sums of products, (g, d, d) and (g, d, o).
        yy: Sums of squared targets, (g, o).
    """

    n: float
    x: F64
    y: F64
    xx: F64
    xy: F64
    yy: F64

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets of samples."""
        return Moments(
            self.n + other.n,
            self.x + other.x,
            self.y + other.y,
            self.xx + other.xx,
            self.xy + other.xy,
            self.yy + other.yy,
        )

    def centred(self) -> F64:
        """Sums of products of the inputs about their means, (g, d, d)."""
        mean = self.x / self.n
        centred: F64 = self.xx - self.n * mean[:, :, None] * mean[:, None, :]
        return centred

    def error(self, weight: F64, bias: F64) -> F64:
        """Sum of squared errors of x W + b, per output: (g, o)."""
        quadratic = np.einsum("gdo,gdo->go", weight, self.xx @ weight - 2 * self.xy)
        cross = np.einsum("gd,gdo->go", self.x, weight)
        error: F64 = self.yy + quadratic + 2 * bias * (cross - self.y) + self.n * bias**2
        return np.maximum(error, 0.0)  # rounding may leave a perfect fit below zero


class Equations:
    """Collects the moments of one layer, fold by fold.

    Args:
        groups, inputs, outputs: Groups of the layer; inputs and outputs of each group.
        folds: Number of folds.
    """

    rows_at_once = 4096  # products are formed for this many samples at once: fast for one-image batches too

    def __init__(self, groups: int, inputs: int, outputs: int, folds: int) -> None:
        g, d, o = groups, inputs, outputs
        self._shape = (g, d, o)
        self._sums = [
            Moments(0.0, np.zeros((g, d)), np.zeros((g, o)), np.zeros((g, d, d)), np.zeros((g, d, o)), np.zeros((g, o)))
            for _ in range(folds)
        ]
        self._rows: list[list[tuple[NDArray[np.floating], NDArray[np.floating]]]] = [[] for _ in range(folds)]

    def add(self, x: NDArray[np.floating], y: NDArray[np.floating], fold: int) -> None:
        """Take in samples: x (g, m, d) and y (g, m, o)."""
        self._rows[fold].append((x, y))
        if sum(part.shape[1] for part, _ in self._rows[fold]) >= self.rows_at_once:
            self._flush(fold)

    def moments(self) -> list[Moments]:
        """The moments of each fold."""
        for fold in range(len(self._sums)):
            self._flush(fold)
        return self._sums

    def total(self) -> Moments:
        """The moments of all folds together."""
        return _sum([fold for fold in self.moments() if fold.n > 0])

    def _flush(self, fold: int) -> None:
        if not self._rows[fold]:
            return
        x = np.concatenate([part for part, _ in self._rows[fold]], axis=1).astype(np.float64)
        y = np.concatenate([part for _, part in self._rows[fold]], axis=1).astype(np.float64)
        self._rows[fold] = []
        xt = x.transpose(0, 2, 1)
        # One group at a time: numpy then sees x'x as the symmetric product it is, at half the work.
        sums = self._sums[fold]
        for g in range(self._shape[0]):
            sums.xx[g] += xt[g] @ x[g]
            sums.xy[g] += xt[g] @ y[g]
        self._sums[fold] = Moments(
            sums.n + x.shape[1], sums.x + x.sum(1), sums.y + y.sum(1), sums.xx, sums.xy, sums.yy + (y * y).sum(1)
        )


@dataclass(frozen=True)
class Fit:
    """The solution for one layer.

    Attributes:
        weight, bias: (g, d, o) and (g, o); the given ones when nothing beats them.
        alpha: The chosen regularisation; infinity when the weights were left alone.
        before, after: Mean squared error, summed over outputs, on samples not fitted to (cross-validated).
        own_before, own_after: The same on all samples.
        variance: Of the targets, for scale.
    """

    weight: F64
    bias: F64
    alpha: float
    before: float
    after: float
    own_before: float
    own_after: float
    variance: float


def ridge(moments: Moments, weight: F64, bias: F64, alpha: float, *, intercept: bool) -> tuple[F64, F64]:
    """Weights and bias that solve the ridge problem of this module's first lines."""
    g, d, o = moments.xy.shape
    mean_x = moments.x / moments.n if intercept else np.zeros((g, d))
    mean_y = moments.y / moments.n if intercept else np.zeros((g, o))
    xx = moments.xx - moments.n * mean_x[:, :, None] * mean_x[:, None, :]
    xy = moments.xy - moments.n * mean_x[:, :, None] * mean_y[:, None, :]
    if not intercept:
        xy = xy - moments.x[:, :, None] * bias[:, None, :]
    scale = np.trace(xx, axis1=1, axis2=2) / d
    damping = alpha * np.where(scale > 0, scale, 1.0)
    index = np.arange(d)
    change = xy - xx @ weight
    xx[:, index, index] += damping[:, None]
    solved = weight + np.linalg.solve(xx, change)
    return solved, (mean_y - np.einsum("gd,gdo->go", mean_x, solved) if intercept else bias)


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
    """
    seen = [fold for fold in folds if fold.n > 0]
    total = _sum(seen)
    own_before = float(total.error(weight, bias).sum())
    variance = float((total.yy - total.y**2 / total.n).sum())
    # A solution of a wide layer takes seconds: one fold left out has to do for it.
    judges = 1 if weight.shape[1] > WIDE else len(seen)
    samples = sum(fold.n for fold in seen[:judges])
    before = sum(float(fold.error(weight, bias).sum()) for fold in seen[:judges])
    after, best_alpha = before, float("inf")
    if len(seen) > 1:

        def error(alpha: float) -> float:
            summed = 0.0
            for out in range(judges):
                # Summed anew each time: keeping the sums would double the memory of wide layers.
                rest = _sum([fold for i, fold in enumerate(seen) if i != out])
                summed += float(seen[out].error(*ridge(rest, weight, bias, alpha, intercept=intercept)).sum())
            return summed

        alpha, lowest = _lowest(error, alphas, start)
        if lowest < before:
            after, best_alpha = lowest, alpha
    if best_alpha == float("inf"):
        solved, shift = weight, bias
    else:
        solved, shift = ridge(total, weight, bias, best_alpha, intercept=intercept)
    own_after = float(total.error(solved, shift).sum())
    n = total.n
    return Fit(
        solved, shift, best_alpha, before / samples, after / samples, own_before / n, own_after / n, variance / n
    )


def _sum(folds: Sequence[Moments]) -> Moments:
    total = folds[0]
    for fold in folds[1:]:
        total = total + fold
    return total


def _lowest(error: Callable[[float], float], alphas: Sequence[float], start: float) -> tuple[float, float]:
    """Walk downhill over the sorted candidates from the one nearest to `start`; the error has one valley."""
    ladder = sorted(alphas)
    place = min(range(len(ladder)), key=lambda i: abs(np.log(ladder[i] / start)))
    known = {place: error(ladder[place])}
    while True:
        for near in (place - 1, place + 1):
            if 0 <= near < len(ladder) and near not in known:
                known[near] = error(ladder[near])
        best = min(known, key=lambda i: known[i])
        if best == place:
            return ladder[place], known[place]
        place = best
