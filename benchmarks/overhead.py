"""Where the time goes that a rewrite adds, against what its extra work would take at the model's own rates.

    python benchmarks/overhead.py MODEL.onnx... [--threads 1] [--rounds N]

Per model, in ms of one run, from ONNX Runtime's profiler (interleaved rounds): what is added; what operators that
run dense now should take more, each at its own time and the growth of its multiply-accumulates (of a pooling: of its
outputs), and what they do take more; what the blurs should take, the larger of their multiply-accumulates and their
bytes read and written at the rates of the whole model, and what they do take; the rest: layouts and other nodes.
"""

from __future__ import annotations

import argparse
from math import prod
from pathlib import Path

import onnx

import aarewrite
from aarewrite.errors import AarewriteError
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import load
from aarewrite.model.shapes import Shapes

NOMINAL = 224
FLOAT_BYTES = 4


def main() -> None:
    """Print one row a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=31)
    asked = parser.parse_args()
    print("| model | original | added | dense: expected | measured | blurs: expected | measured | rest |")
    print("|---|---|---|---|---|---|---|---|")
    for path in asked.models:
        try:
            print(row(path, asked.threads, asked.rounds))
        except AarewriteError as error:
            print(f"| {path.stem} | left out: {error.message} |")


def row(path: Path, threads: int, rounds: int) -> str:
    """A model's figures."""
    original = with_sizes(onnx.load(path))
    result = aarewrite.rewrite(original, verify=False)
    found = aarewrite.bench(result.model, original, threads=threads, rounds=rounds)
    before = {one.operator: one.milliseconds[0] for one in found.nodes}
    after = {one.operator: one.milliseconds[1] for one in found.nodes}
    ends = {node.name: node.output[0] for node in result.model.graph.node}
    dense_expected = dense_measured = 0.0
    for planned in result.plan.rewrites:
        site, match = planned.site, planned.match
        if match is None or None in (*site.input_size, *site.output_size):
            continue
        grown = prod(n or 1 for n in match.window.output(site.input_size))
        kept = prod(n or 1 for n in site.output_size)
        was = taking(before, original_end(original, site.node), planned.map_name)
        now = taking(after, ends.get(site.node, f"{site.node}/dense"), f"{planned.map_name}/dense", planned.map_name)
        dense_expected += was * (grown / kept - 1)
        dense_measured += now - was
    blurs = [node for node in result.model.graph.node if "/blur/" in node.name]
    blur_measured = sum(taking(after, node.output[0]) for node in blurs)
    total, plan = sum(before.values()), result.plan
    more = [
        one.match.blur.macs(one.match.window.output(one.site.input_size)) * (one.site.channels or 0)
        for one in plan.rewrites
        if one.match
    ]
    sizes = bytes_of(result.model)
    moved = sum(sizes.get(name, 0) for node in blurs for name in (node.input[0], node.output[0]))
    own_bytes = sum(sizes_of_nodes(original))
    expected = max(sum(more) / (plan.macs or 1), moved / own_bytes) * total
    added = sum(after.values()) - total
    cells = (
        total,
        added,
        dense_expected,
        dense_measured,
        expected,
        blur_measured,
        added - dense_measured - blur_measured,
    )
    return f"| {path.stem} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |"


def with_sizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its open sizes written down."""
    for axis, dim in enumerate(model.graph.input[0].type.tensor_type.shape.dim):
        if dim.dim_value <= 0:
            dim.dim_value = NOMINAL if axis else 1
    return model


def original_end(model: onnx.ModelProto, name: str) -> str:
    """What a node writes."""
    return next((node.output[0] for node in model.graph.node if name in (node.name, node.output[0])), "")


def taking(times: dict[str, float], *tensors: str) -> float:
    """The time of the node that writes the first of some tensors that the profiler names."""
    named = {name.split(" (")[0].removesuffix("_nchwc"): ms for name, ms in times.items() if ms}
    return next((named[tensor] for tensor in tensors if tensor in named), 0.0)


def sizes_of_nodes(model: onnx.ModelProto) -> list[int]:
    """Bytes that every node reads and writes, without constants."""
    sizes = bytes_of(model)
    constant = {tensor.name for tensor in model.graph.initializer}
    return [
        sum(sizes.get(name, 0) for name in (*node.input, *node.output) if name not in constant)
        for node in model.graph.node
    ]


def bytes_of(model: onnx.ModelProto) -> dict[str, int]:
    """Bytes of every float map."""
    editor = GraphEditor(load(model))
    shapes, main_scope = Shapes(editor, {}), editor.scopes[0]
    found = {}
    for node in main_scope.nodes:
        for tensor in (*node.inputs, *node.outputs):
            dims = shapes.of(main_scope, tensor).dims
            if dims and all(isinstance(d, int) for d in dims):
                size = FLOAT_BYTES
                for d in dims:
                    size *= int(d or 1)
                found[tensor.name] = size
    return found


if __name__ == "__main__":
    main()
