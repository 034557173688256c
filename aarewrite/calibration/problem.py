"""One layer's regression problem: its samples gathered batch by batch, and its solution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from aarewrite.calibration.equations import Equations, Fit, fit
from aarewrite.calibration.layers import Constants, Layer, attributes
from aarewrite.calibration.samples import F32, choose_positions, conv_rows, value_rows
from aarewrite.calibration.stream import Array
from aarewrite.calibration.weights import read_weights
from aarewrite.errors import UsageError


class LayerProblem:
    """Gathers a layer's inputs and targets and solves for its weights.

    Args:
        model: The rewritten model, repaired up to this layer.
        layer: The layer.
        positions: Output positions looked at per sample.
        folds: Parts of the data.
        crops: Consecutive samples that stay in one fold.
        seed: Of the choice of positions.
    """

    def __init__(
        self, model: onnx.ModelProto, layer: Layer, *, positions: int, folds: int, crops: int, seed: int
    ) -> None:
        self.layer = layer
        self._weight, self._bias = read_weights(model, layer)
        self._values = attributes(model.graph.node[layer.index])
        self._kernel = tuple(Constants(model).tensor(layer.weight).dims)[2:]
        self._positions, self._folds, self._crops, self._seed = positions, folds, crops, seed
        self._equations = Equations(*self._weight.shape, folds)
        self._seen = self._batches = 0

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
        rows, targets, image = self._conv(x, y) if self.layer.kind == "Conv" else self._matrix(x, y)
        if not (np.isfinite(rows).all() and np.isfinite(targets).all()):
            raise UsageError(
                f"layer {self.layer.name}: values on the calibration data are not finite",
                "check the data and their preprocessing",
            )
        fold = (self._seen + image) // self._crops % self._folds
        for part in range(self._folds):
            chosen = fold == part
            if chosen.any():
                self._equations.add(rows[:, chosen], targets[:, chosen], part)
        self._seen += int(image[-1]) + 1 if len(image) else 0
        self._batches += 1

    def solve(self, alphas: Sequence[float], start: float) -> Fit:
        """The weights that fit best; `start` is where the search for the regularisation begins."""
        return fit(
            self._equations.moments(), self._weight, self._bias,
            intercept=self.layer.bias_node >= 0, alphas=alphas, start=start,
        )  # fmt: skip

    def _conv(self, x: Mapping[str, Array], y: Mapping[str, Array]) -> tuple[F32, F32, NDArray[np.intp]]:
        layer, values = self.layer, x[self.layer.input]
        target = y[layer.total or layer.target]
        size = target.shape[2:]
        rng = np.random.default_rng([self._seed, layer.index, self._batches])
        image, positions = choose_positions(size, len(values), self._positions, rng)
        rows = conv_rows(values, self._kernel, self._values, image, positions, size)
        targets = value_rows(target, image, positions, layer.group)
        if layer.total:
            # The block's sum is what the next block sees: the branch makes up for the errors of the shortcut.
            addend = x[layer.addend]
            steps = [-(-m // n) for m, n in zip(addend.shape[2:], size, strict=True)]
            places = tuple(p * step for p, step in zip(positions, steps, strict=True))
            targets = targets - value_rows(addend, image, places, layer.group)
        return rows, targets, image

    def _matrix(self, x: Mapping[str, Array], y: Mapping[str, Array]) -> tuple[F32, F32, NDArray[np.intp]]:
        values, target = x[self.layer.input], y[self.layer.target]
        rows = values.reshape(len(values), -1, values.shape[-1])
        targets = target.reshape(len(target), -1, target.shape[-1])
        rng = np.random.default_rng([self._seed, self.layer.index, self._batches])
        image, (place,) = choose_positions(rows.shape[1:2], len(rows), self._positions, rng)
        return (
            rows[image, place][None].astype(np.float32),
            targets[image, place][None].astype(np.float32),
            image,
        )

