"""One layer's regression problem: its samples gathered batch by batch, and its solution."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from aarewrite.calibration.equations import F64, Equations, Fit, fit, ridge
from aarewrite.calibration.layers import Layer
from aarewrite.calibration.samples import F32, choose_positions, conv_rows, value_rows
from aarewrite.calibration.weights import read_weights
from aarewrite.data.arrays import Array
from aarewrite.errors import UsageError
from aarewrite.model.index import Constants, attributes


class LayerProblem:
    """Gathers a layer's inputs and targets and solves for its weights.

    Args:
        model: The rewritten model, repaired up to this layer.
        layer: The layer.
        positions: Output positions looked at per sample.
        folds: Parts of the data.
        crops: Consecutive samples that stay in one fold.
        seed: Of the choice of positions.
        impute: Rounds of filling in targets where the activation clips them.
        row_memory: Bytes for the samples that these rounds need; they are left out where there are more.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        layer: Layer,
        *,
        positions: int,
        folds: int,
        crops: int,
        seed: int,
        impute: int = 0,
        row_memory: int = 0,
    ) -> None:
        self.layer = layer
        self._weight, self._bias = read_weights(model, layer)
        self._values = attributes(model.graph.node[layer.index])
        self._kernel = tuple(Constants(model).tensor(layer.weight).dims)[2:]
        self._positions, self._folds, self._crops, self._seed = positions, folds, crops, seed
        inputs, outputs = self._weight.shape[1:]
        self._equations = Equations(len(self._weight), inputs, outputs, folds)
        self._seen = self._batches = 0
        clips = impute > 0 and (layer.low > -np.inf or layer.high < np.inf)
        self._rounds, self._room = impute, row_memory
        self._rows: list[tuple[F32, F32, F32, F32]] | None = [] if clips else None

    @property
    def inputs(self) -> list[str]:
        """Tensors it needs from the rewritten model."""
        return [name for name in (self.layer.input, self.layer.addend) if name]

    @property
    def targets(self) -> list[str]:
        """Tensors it needs from the original."""
        return [self.layer.total or self.layer.target]

    def add(self, x: Mapping[str, Array], y: Mapping[str, Array]) -> None:
        """Take in one batch: tensors of the rewritten model and of the original, by name.

        Raises:
            UsageError: The values are not finite.
        """
        layer = self.layer
        rows, targets, offset, image = self._conv(x, y) if layer.kind == "Conv" else self._matrix(x, y)
        if not (np.isfinite(rows).all() and np.isfinite(targets).all()):
            raise UsageError(
                f"layer {layer.name}: values on the calibration data are not finite",
                "check the data and their preprocessing",
            )
        fold = (self._seen + image) // self._crops % self._folds
        for part in range(self._folds):
            chosen = fold == part
            if chosen.any():
                self._equations.add(rows[:, chosen], targets[:, chosen], part)
        if self._rows is not None:
            low, high = self._to_layer(layer.low, offset), self._to_layer(layer.high, offset)
            self._rows.append((rows, targets, np.minimum(low, high), np.maximum(low, high)))
            self._room -= rows.nbytes + 3 * targets.nbytes
            if self._room < 0:
                self._rows = None
        self._seen += int(image[-1]) + 1 if len(image) else 0
        self._batches += 1

    def solve(self, alphas: Sequence[float], start: float) -> Fit:
        """The weights that fit best; `start` is where the search for the regularisation begins."""
        solution = fit(
            self._equations.moments(),
            self._weight,
            self._bias,
            intercept=self.layer.bias_node >= 0,
            alphas=alphas,
            start=start,
        )
        if self._rows is None or not math.isfinite(solution.alpha):
            return solution
        return self._impute(solution)

    def _impute(self, solution: Fit) -> Fit:
        """Solve for what is left behind the activation.

        Where the activation clips the original's value, any value beyond the bound is as good. Targets there
        are set to the current prediction, as far as it is beyond, and the weights solved for again: each round
        lowers the error behind the activation (majorisation), whose rest is what is reported.
        """
        moments = self._equations.total()
        scale = np.trace(moments.centred(), axis1=1, axis2=2)[:, None, None] / moments.x.shape[1]

        def penalty(weight: F64) -> float:
            return float((solution.alpha * scale * (weight - self._weight) ** 2).sum())

        given, fitted = self._beyond(self._weight, self._bias), self._beyond(solution.weight, solution.bias)
        weight, bias, sums = self._weight, self._bias, given
        if fitted.error + penalty(solution.weight) < given.error:
            weight, bias, sums = solution.weight, solution.bias, fitted
        intercept = self.layer.bias_node >= 0
        for _ in range(self._rounds):
            filled = replace(moments, y=sums.y, xy=sums.xy, yy=sums.yy)
            weight, bias = ridge(filled, self._weight, self._bias, solution.alpha, intercept=intercept)
            sums = self._beyond(weight, bias)
        return replace(
            solution, weight=weight, bias=bias, own_before=given.error / moments.n, own_after=sums.error / moments.n
        )

    def _beyond(self, weight: F64, bias: F64) -> _Filled:
        """Sums over the samples with targets filled in by the predictions of these weights."""
        y, xy = np.zeros_like(bias), np.zeros_like(weight)
        yy, error = np.zeros_like(bias), 0.0
        for rows, targets, low, high in self._rows or []:
            predicted = rows @ weight.astype(np.float32) + bias[:, None].astype(np.float32)
            filled = np.where(
                targets <= low,
                np.minimum(predicted, low),
                np.where(targets >= high, np.maximum(predicted, high), targets),
            )
            error += float(np.square(predicted - filled, dtype=np.float64).sum())
            y += filled.sum(1, dtype=np.float64)
            yy += np.square(filled, dtype=np.float64).sum(1)
            xy += rows.transpose(0, 2, 1) @ filled
        return _Filled(y, xy, yy, error)

    def _to_layer(self, value: float | F32, offset: F32) -> F32:
        """From the space where the activation is applied back to the layer's own output."""
        moved = value - offset
        if self.layer.scale is None or self.layer.shift is None:
            return np.asarray(moved, np.float32)
        shape = (self.layer.group, 1, -1)
        shift, scale = self.layer.shift.reshape(shape), self.layer.scale.reshape(shape)
        return np.asarray((moved - shift) / scale, np.float32)

    def _conv(self, x: Mapping[str, Array], y: Mapping[str, Array]) -> tuple[F32, F32, F32, NDArray[np.intp]]:
        layer, values = self.layer, x[self.layer.input]
        target = y[layer.total or layer.target]
        size = target.shape[2:]
        rng = np.random.default_rng([self._seed, layer.index, self._batches])
        image, positions = choose_positions(size, len(values), self._positions, rng)
        rows = conv_rows(values, self._kernel, self._values, image, positions, size)
        targets = value_rows(target, image, positions, layer.group)
        offset = np.zeros_like(targets)
        if layer.total:
            # The block's sum is what the next block sees: the branch makes up for the errors of the shortcut.
            addend = x[layer.addend]
            steps = [-(-m // n) for m, n in zip(addend.shape[2:], size, strict=True)]
            places = tuple(p * step for p, step in zip(positions, steps, strict=True))
            offset = value_rows(addend, image, places, layer.group)
            targets = self._to_layer(targets, offset)
        return rows, targets, offset, image

    def _matrix(self, x: Mapping[str, Array], y: Mapping[str, Array]) -> tuple[F32, F32, F32, NDArray[np.intp]]:
        values, target = x[self.layer.input], y[self.layer.target]
        rows = values.reshape(len(values), -1, values.shape[-1])
        targets = target.reshape(len(target), -1, target.shape[-1])
        rng = np.random.default_rng([self._seed, self.layer.index, self._batches])
        image, (place,) = choose_positions(rows.shape[1:2], len(rows), self._positions, rng)
        chosen = targets[image, place][None].astype(np.float32)
        return rows[image, place][None].astype(np.float32), chosen, np.zeros_like(chosen), image


@dataclass(frozen=True)
class _Filled:
    """Sums over samples with filled-in targets, and the squared error that is left."""

    y: F64
    xy: F64
    yy: F64
    error: float
