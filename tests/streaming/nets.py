"""Nets to stream, and a runner of its own: it knows a streaming model by its metadata alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
from reference import Array, session

from aarewrite.model.model_file import Model, load
from aarewrite.streaming.flow import Flow
from aarewrite.streaming.layout import Planner
from aarewrite.streaming.source import Source
from aarewrite.streaming.writer import Writer


def flow_of(model: onnx.ModelProto, axis: str | int | None = None, **shapes: tuple[int, ...]) -> Flow:
    return Flow(Source(load(model), shapes), axis, tuple(shapes))


def written(flow: Flow, step: int, pack: bool = False) -> tuple[onnx.ModelProto, float]:
    """The streaming model without proof, and its work relative to a window's."""
    planner = Planner(flow, step)
    layout = planner.best()
    found: Model = Writer(flow, layout, step).write({"form": "exact"}, pack)
    return found.to_proto(), layout.work / max(1, planner.work)


def record(model: onnx.ModelProto) -> dict[str, Any]:
    entry = next(entry for entry in model.metadata_props if entry.key == "aarewrite.stream")
    found: dict[str, Any] = json.loads(entry.value)
    return found


def largest_difference(original: onnx.ModelProto, streaming: onnx.ModelProto, seed: int = 0, **others: Array) -> float:
    """Step through a random signal; the largest difference of any output in any whole window, relative to its scale."""
    told = record(streaming)
    before, after = session(original), session(streaming)
    window, step, axes = told["window"], told["step"], told["inputs"]
    first = -(-window // step)
    rng = np.random.default_rng(seed)
    shapes = {
        port.name: [size if isinstance(size, int) else 2 for size in port.shape]
        for port in after.get_inputs()
        if port.name not in others
    }
    kinds = {"tensor(float16)": np.float16, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8}
    types = {port.name: kinds.get(port.type, np.float32) for port in after.get_inputs()}
    signals = {}
    for name, axis in axes.items():
        shape = [*shapes[name]]
        shape[axis] = (first + 3) * step
        signals[name] = (rng.standard_normal(shape) * (40 if types[name] in (np.uint8, np.int8) else 1)).astype(
            types[name]
        )
    states = {name: np.zeros(shapes[name], types[name]) for name in told["states"]}
    names = [port.name for port in after.get_outputs()]
    worst, windows = 0.0, 0
    for count in range(1, first + 4):
        end = count * step

        def part(begin: int, end: int = end) -> dict[str, Array]:
            return {n: s.take(range(max(0, begin), end), axes[n]) for n, s in signals.items()}

        found = dict(zip(names, after.run(None, part(end - step) | states | others), strict=True))
        states = {name: found[output] for name, output in told["states"].items()}
        if count < first:
            continue
        windows += 1
        wanted = before.run(None, part(end - window) | others)
        for port, value in zip(before.get_outputs(), wanted, strict=True):
            given = found[port.name]
            assert given.shape == value.shape
            difference = np.abs(given.astype(np.float64) - value.astype(np.float64)).max(initial=0)
            worst = max(worst, difference / max(np.abs(value.astype(np.float64)).max(initial=0), 1e-30))
    assert windows == 4
    return float(worst)
