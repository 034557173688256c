"""One layer's regression problem: its samples gathered batch by batch, and its solution."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx

from aarewrite.calibration.equations import ALPHAS, F64, Equations, Fit, Moments, fit, ridge
from aarewrite.calibration.layers import Layer
from aarewrite.calibration.samples import F32, choose_positions, conv_rows, value_rows
from aarewrite.calibration.weights import read_weights
from aarewrite.data.arrays import Array
from aarewrite.errors import UsageError
from aarewrite.model.index import Constants, attributes


@dataclass(frozen=True)
class RepairOptions:
    """How weights are repaired."""

    positions: int = 64  # output positions looked at per sample, drawn at random; all of them on smaller maps
    folds: int = 3  # parts of the data, for choosing the regularisation by the error on the part left out
    crops: int = 1  # consecutive samples that show the same image: they are never split over folds
    impute: int = 3  # rounds of solving for what is left behind the activation; 0: fit what is in front of it
    residual: bool = True  # fit the last layer of a residual block so that the block's sum fits, not the branch
    # Candidates for the regularisation, relative to the mean variance of a layer's inputs
    alphas: tuple[float, ...] = ALPHAS
    seed: int = 0  # of the choice of positions
    memory: int = 1 << 30  # bytes for the tensors remembered between layers, both models together: less is slower
    sample_memory: int = 1 << 29  # bytes for the samples of a layer that `impute` needs; layers with more go without it
    threads: int = 0  # threads of ONNX Runtime; 0: as many as cores


class LayerProblem:
    """Gathers a layer's inputs and targets and solves for its weights; `model` is repaired up to this layer."""

    def __init__(self, model: onnx.ModelProto, layer: Layer, options: RepairOptions) -> None:
        self.layer, self._options = layer, options
        self._weight, self._bias = read_weights(model, layer)
        self._values = attributes(model.graph.node[layer.index])
        self._kernel = Constants(model).tensor(layer.weight).dims[2:] or [1]  # a matrix is a kernel of one value
        groups, inputs, outputs = self._weight.shape
        self._equations = Equations(groups, inputs, outputs, options.folds)
        self._seen = self._batches = 0
        self._room = options.sample_memory
        clips = options.impute > 0 and (layer.low > -math.inf or layer.high < math.inf)
        self._rows: list[tuple[F32, F32, F32, F32]] | None = [] if clips else None

    def add(self, x: Mapping[str, Array], y: Mapping[str, Array]) -> None:
        """Take in one batch: tensors of the rewritten model (the layer's `reads`) and of the original (its `aim`).

        Raises:
            UsageError: The values are not finite.
        """
        layer, options = self.layer, self._options
        values, target = self._map(x[layer.input]), self._map(y[layer.aim])
        size = target.shape[2:]
        rng = np.random.default_rng([options.seed, layer.index, self._batches])
        image, positions = choose_positions(size, len(values), options.positions, rng)
        rows = conv_rows(values, self._kernel, self._values, image, positions, size)
        targets = value_rows(target, image, positions, layer.group)
        offset = np.zeros_like(targets)
        if layer.total:
            # The block's sum is what the next block sees: the branch makes up for the errors of the shortcut.
            offset = value_rows(x[layer.addend], image, positions, layer.group, size)
            targets = self._to_layer(targets, offset)
        if not (np.isfinite(rows).all() and np.isfinite(targets).all()):
            raise UsageError(
                f"layer {layer.name}: values on the calibration data are not finite",
                "check the data and their preprocessing",
            )
        folds = (self._seen + image) // options.crops % options.folds
        for fold in np.unique(folds):
            self._equations.add(rows[:, folds == fold], targets[:, folds == fold], int(fold))
        if self._rows is not None:
            low, high = self._to_layer(layer.low, offset), self._to_layer(layer.high, offset)
            self._rows.append((rows, targets, np.minimum(low, high), np.maximum(low, high)))
            self._room -= rows.nbytes + 3 * targets.nbytes
            if self._room < 0:
                self._rows = None
        self._seen += len(values)
        self._batches += 1

    def solve(self, start: float) -> Fit:
        """The weights that fit best; `start` is where the search for the regularisation begins.

        Raises:
            UsageError: No batch was taken in.
        """
        if not self._batches:
            raise UsageError("there are no calibration data", "give a folder of images or an .npz with some")
        folds, alphas, intercept = self._equations.moments(), self._options.alphas, bool(self.layer.bias_nodes)
        found = fit(folds, self._weight, self._bias, intercept=intercept, alphas=alphas, start=start)
        return found if self._rows is None or not math.isfinite(found.alpha) else self._impute(found)

    def _impute(self, found: Fit) -> Fit:
        """Solve for what is left behind the activation.

        Where the activation clips the original's value, any value beyond the bound is as good. Targets there
        are set to the current prediction, as far as it is beyond, and the weights solved for again: each round
        lowers the error behind the activation (majorisation), whose rest is what is reported.
        """
        moments = self._equations.total()
        spread = np.trace(moments.xx, axis1=1, axis2=2) - np.square(moments.x).sum(1) / moments.n
        moved = np.square(found.weight - self._weight).sum((1, 2))
        penalty = found.alpha * float(spread @ moved) / moments.x.shape[1]
        given, own_before = self._filled(moments, self._weight, self._bias)
        filled, error = self._filled(moments, found.weight, found.bias)
        if error + penalty >= own_before:
            filled = given
        intercept = bool(self.layer.bias_nodes)
        for _ in range(self._options.impute):  # at least once
            weight, bias = ridge(filled, self._weight, self._bias, found.alpha, intercept=intercept)
            filled, error = self._filled(moments, weight, bias)
        scale = moments.n * moments.variance()
        return replace(found, weight=weight, bias=bias, own_before=own_before / scale, own_after=error / scale)

    def _filled(self, moments: Moments, weight: F64, bias: F64) -> tuple[Moments, float]:
        """The moments with targets filled in by the predictions of these weights (but for their squares, which no
        solution needs), and the squared error that is left."""
        y, xy, error = np.zeros_like(bias), np.zeros_like(weight), 0.0
        for rows, targets, low, high in self._rows or []:
            predicted = rows @ weight.astype(np.float32) + bias[:, None].astype(np.float32)
            beyond = [np.minimum(predicted, low), np.maximum(predicted, high)]
            filled = np.select([targets <= low, targets >= high], beyond, targets)
            error += float(np.square(predicted - filled, dtype=np.float64).sum())
            y += filled.sum(1, dtype=np.float64)
            xy += rows.transpose(0, 2, 1) @ filled
        return replace(moments, y=y, xy=xy), error

    def _to_layer(self, value: float | F32, offset: F32) -> F32:
        """From the space where the activation is applied back to the layer's own output."""
        moved = value - offset
        if self.layer.scale is None or self.layer.shift is None:
            return np.asarray(moved, np.float32)
        shape = (self.layer.group, 1, -1)
        return np.asarray((moved - self.layer.shift.reshape(shape)) / self.layer.scale.reshape(shape), np.float32)

    def _map(self, value: Array) -> Array:
        """A tensor with the channels on axis 1: those of a Gemm or MatMul are last."""
        if self.layer.kind == "Conv":
            return value
        return np.moveaxis(value.reshape(len(value), -1, value.shape[-1]), -1, 1)
