"""Repairing the weights behind inserted blurs, in closed form, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import onnx

from aarewrite.calibration.layers import KINDS, Layer, LayerRepair, find_layers
from aarewrite.calibration.problem import LayerProblem, RepairOptions
from aarewrite.calibration.stream import Stream
from aarewrite.calibration.weights import write_weights
from aarewrite.data.arrays import Batches
from aarewrite.errors import CannotHandle
from aarewrite.model.index import ancestors

DEFAULTS = RepairOptions()
Progress = Callable[[LayerRepair, int, int], None]  # after each layer: what was done, layers done, their total


def repair(
    original: onnx.ModelProto,
    rewritten: onnx.ModelProto,
    batches: Batches,
    options: RepairOptions = DEFAULTS,
    *,
    progress: Progress | None = None,
) -> tuple[onnx.ModelProto, list[LayerRepair]]:
    """Fit the layers behind inserted blurs to what the original computes, on unlabelled data.

    Layers are walked in topological order. Each Conv, Gemm and MatMul behind a blur gets the weights that bring
    its output closest to the original's output of the same node, with everything before it repaired already. A
    layer that no solution improves on samples left out keeps its weights.

    Args:
        original: The model before the rewrite.
        rewritten: The model after it: nodes keep their names, blurred tensors the names of what they replace.
        batches: Called for each pass over the data; yields feeds (input name to array), each time the same.
        options: How.
        progress: Called after each layer.

    Returns:
        A new model and a record per layer behind a blur, in order; neither argument is changed.

    Raises:
        CannotHandle: The model is quantised, or its layers are inside functions or bodies.
        UsageError: There are no data, or they do not fit the model.

    Source: the conditional mean of an aliased feature given the band-limited one is its least-squares predictor.
    """
    _refuse(rewritten)
    model = onnx.ModelProto()
    model.CopyFrom(rewritten)
    layers, done = find_layers(original, model, options.residual)
    total = len(layers) + len(done)
    teacher, pupil = (
        Stream(one, batches, memory=options.memory // 2, threads=options.threads) for one in (original, model)
    )
    alpha = 1e-1
    for group in _groups(model, layers):
        share = replace(options, sample_memory=options.sample_memory // len(group))
        problems = [LayerProblem(model, layer, share) for layer in group]
        xs = pupil.run([name for layer in group for name in layer.reads], min(layer.index for layer in group))
        ys = teacher.run([layer.aim for layer in group], min(layer.original_index for layer in group))
        for x, y in zip(xs, ys, strict=True):
            for problem in problems:
                problem.add(x, y)
        for layer, found in zip(group, [problem.solve(alpha) for problem in problems], strict=True):
            reason = "no other weights do better on samples left out"
            if math.isfinite(found.alpha):
                write_weights(model, layer, found.weight, found.bias)
                alpha, reason = found.alpha, ""
            errors = found.before, found.after, found.own_before, found.own_after
            done.append(LayerRepair(layer.name, layer.kind, *errors, found.alpha, reason))
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
        if any(node.op_type in KINDS for node in function.node):
            raise CannotHandle(
                f"function {function.name}: its layers are shared by every call",
                "inline the functions (onnx.inliner) first",
            )


def _groups(model: onnx.ModelProto, layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    """Runs of layers that do not depend on each other: they share one pass over the data."""
    group: list[Layer] = []
    for layer in layers:
        behind = ancestors(model, layer.reads)
        if any(one.index in behind for one in group):
            yield group
            group = []
        group.append(layer)
    if group:
        yield group
