"""Repairing the weights behind inserted blurs, in closed form, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import onnx

from aarewrite.calibration.equations import ALPHAS, Fit
from aarewrite.calibration.layers import Layer, find_layers
from aarewrite.calibration.problem import LayerProblem
from aarewrite.calibration.stream import Stream
from aarewrite.calibration.weights import write_weights
from aarewrite.data.arrays import Batches
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model.index import ancestors


@dataclass(frozen=True)
class RepairOptions:
    """How weights are repaired.

    Attributes:
        positions: Output positions looked at per sample, drawn at random; all of them on smaller maps.
        folds: Parts of the data, for choosing the regularisation by the error on the part left out.
        crops: Consecutive samples that show the same image: they are never split over folds.
        impute: Rounds of solving for what is left behind the activation; 0: fit what is in front of it.
        residual: Fit the last layer of a residual block so that the block's sum fits, not the branch.
        alphas: Candidates for the regularisation, relative to the mean variance of a layer's inputs.
        seed: Of the choice of positions.
        memory: Bytes for the tensors remembered between layers, both models together: less is slower.
        sample_memory: Bytes for the samples of a layer that `impute` needs; layers with more go without it.
        threads: Threads of ONNX Runtime; 0: as many as cores.
    """

    positions: int = 64
    folds: int = 3
    crops: int = 1
    impute: int = 3
    residual: bool = True
    alphas: tuple[float, ...] = ALPHAS
    seed: int = 0
    memory: int = 1 << 30
    sample_memory: int = 1 << 29
    threads: int = 0


@dataclass(frozen=True)
class LayerRepair:
    """What was done to one layer.

    Errors are mean squared ones relative to the variance of the layer's target: 0.1 means that a tenth of what
    the layer tells apart is lost.

    Attributes:
        name: The layer: its node's name, or its first output's.
        kind: Conv, Gemm or MatMul.
        before, after: Error with the given and the repaired weights, on samples that were not fitted to.
        own_before, own_after: The same on all calibration samples, with the weights as stored.
        alpha: Regularisation chosen for it; infinity when it was left alone.
        reason: Why it was left alone; empty when it was repaired.
    """

    name: str
    kind: str
    before: float
    after: float
    own_before: float
    own_after: float
    alpha: float
    reason: str = ""

    @property
    def repaired(self) -> bool:
        """Whether its weights changed."""
        return not self.reason


def repair(
    original: onnx.ModelProto,
    rewritten: onnx.ModelProto,
    batches: Batches,
    options: RepairOptions | None = None,
    *,
    progress: Callable[[LayerRepair, int, int], None] | None = None,
) -> tuple[onnx.ModelProto, list[LayerRepair]]:
    """Fit the layers behind inserted blurs to what the original computes, on unlabelled data.

    Layers are walked in topological order. Each Conv, Gemm and MatMul behind a blur gets the weights that bring
    its output closest to the original's output of the same node, with everything before it repaired already. A
    layer that no solution improves on samples left out keeps its weights.

    Args:
        original: The model before the rewrite.
        rewritten: The model after it: nodes keep their names, blurred tensors the names of what they replace.
        batches: Called for each pass over the data; yields feeds (input name to array), each time the same.
        options: See `RepairOptions`.
        progress: Called after each layer with it, the number of layers done and their total.

    Returns:
        A new model and a record per layer behind a blur, in order; neither argument is changed.

    Raises:
        CannotHandle: The model is quantised, or its layers are inside functions or bodies.
        UsageError: There are no data, or they do not fit the model.

    Source: the conditional mean of an aliased feature given the band-limited one is its least-squares predictor.
    """
    options = options or RepairOptions()
    _refuse(rewritten)
    model = onnx.ModelProto()
    model.CopyFrom(rewritten)
    layers, left = find_layers(original, model)
    if not options.residual:
        layers = [
            replace(layer, addend="", total="", low=-math.inf, high=math.inf) if layer.total else layer
            for layer in layers
        ]
    total = len(layers) + len(left)
    done = [LayerRepair(one.name, one.kind, 0.0, 0.0, 0.0, 0.0, math.inf, one.reason) for one in left]
    teacher = Stream(original, batches, memory=options.memory // 2, threads=options.threads)
    pupil = Stream(model, batches, memory=options.memory // 2, threads=options.threads)
    alpha = 1e-1
    for group in _groups(model, layers):
        for layer, solution in zip(group, _solve(model, teacher, pupil, group, alpha, options), strict=True):
            if math.isfinite(solution.alpha):
                write_weights(model, layer, solution.weight, solution.bias)
                alpha = solution.alpha
            done.append(_record(layer, solution))
            if progress is not None:
                progress(done[-1], len(done), total)
    return model, done


def _refuse(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger"):
            raise CannotHandle(
                f"{node.name or node.op_type}: the model is quantised", "calibrate the float model, then quantise it"
            )
    for function in model.functions:
        if any(node.op_type in ("Conv", "Gemm", "MatMul") for node in function.node):
            raise CannotHandle(
                f"function {function.name}: its layers are shared by every call",
                "inline the functions (onnx.inliner) first",
            )


def _groups(model: onnx.ModelProto, layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    """Runs of layers that do not depend on each other: they share one pass over the data."""
    group: list[Layer] = []
    for layer in layers:
        if group:
            behind = ancestors(model, [name for name in (layer.input, layer.addend) if name])
            if any(one.index in behind for one in group):
                yield group
                group = []
        group.append(layer)
    if group:
        yield group


def _solve(
    model: onnx.ModelProto, teacher: Stream, pupil: Stream, group: Sequence[Layer], alpha: float, options: RepairOptions
) -> list[Fit]:
    problems = [
        LayerProblem(
            model,
            layer,
            positions=options.positions,
            folds=options.folds,
            crops=options.crops,
            seed=options.seed,
            impute=options.impute,
            row_memory=options.sample_memory // len(group),
        )
        for layer in group
    ]
    inputs = list(dict.fromkeys(name for problem in problems for name in problem.inputs))
    targets = list(dict.fromkeys(name for problem in problems for name in problem.targets))
    seen = False
    for x, y in zip(
        pupil.run(inputs, min(layer.index for layer in group)),
        teacher.run(targets, min(layer.original_index for layer in group)),
        strict=True,
    ):
        seen = True
        for problem in problems:
            problem.add(x, y)
    if not seen:
        raise UsageError("there are no calibration data", "give a folder of images or an .npz with some")
    return [problem.solve(options.alphas, alpha) for problem in problems]


def _record(layer: Layer, solution: Fit) -> LayerRepair:
    scale = max(solution.variance, 1e-30)
    return LayerRepair(
        layer.name,
        layer.kind,
        solution.before / scale,
        solution.after / scale,
        solution.own_before / scale,
        solution.own_after / scale,
        solution.alpha,
        "" if math.isfinite(solution.alpha) else "no other weights do better on samples left out",
    )
