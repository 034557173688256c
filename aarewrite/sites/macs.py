"""Multiply-accumulates of sites and models, at batch size 1 (max pooling and activations cost none)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from aarewrite.model.graph import FunctionKey, GraphEditor, Scope
from aarewrite.model.shapes import Dim, Shapes
from aarewrite.model.types import Node, integer, ints
from aarewrite.sites.site import Site
from aarewrite.windows import Sizes


def operator_macs(site: Site, output_size: Sizes) -> int | None:
    """Multiply-accumulates of a site's operator as written; None where a size is unknown."""
    if any(n is None for n in output_size) or site.channels is None:
        return None
    taps = prod(site.window.kernel)
    if site.kind == "conv":
        if site.input_channels is None:
            return None
        taps = taps * site.input_channels // site.group
    elif site.kind != "average_pool":
        taps = 0
    return prod(n for n in output_size if n is not None) * site.channels * taps


COUNTED = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul", "AveragePool"))


def model_macs(editor: GraphEditor, shapes: Shapes) -> int | None:
    """Multiply-accumulates of all Conv, ConvTranspose, Gemm, MatMul and AveragePool nodes; a function's as often as
    it is called. None where a size is unknown."""
    calls = calls_of(editor)
    total = 0
    for scope in editor.scopes:
        times = calls.get(scope.root.function, 1)
        for node in scope.nodes if times else ():  # nothing is known of a function that nobody calls
            if node.op in COUNTED:
                macs = _node_macs(shapes, scope, node)
                if macs is None:
                    return None
                total += macs * times
    return total


def calls_of(editor: GraphEditor) -> dict[FunctionKey | None, int]:
    """How often each function runs: its callers' count, summed over the calls."""
    counts: dict[FunctionKey | None, int] = {None: 1}
    for function, calls in editor.calls().items():
        counts[function] = sum(counts[scope.root.function] for scope, _ in calls)
    return counts


def _node_macs(shapes: Shapes, scope: Scope, node: Node) -> int | None:
    second = 3 if node.op.startswith("QLinear") else 1
    if node.op != "AveragePool" and len(node.inputs) <= second:
        return None
    outer = shapes.of(scope, node.inputs[0] if node.op == "ConvTranspose" else node.outputs[0]).dims
    if node.op == "AveragePool":
        inner: Sequence[Dim] = ints(node, "kernel_shape")
    else:
        weight = shapes.of(scope, node.inputs[second]).dims or (None,)
        rows = weight[-1:] if integer(node, "transB") else weight[-2:-1] or weight
        inner = weight[1:] if "Conv" in node.op else rows
    sizes = [d for d in (*(outer or (None, None))[1:], *inner) if isinstance(d, int)]
    known = outer is not None and len(sizes) == len(outer) - 1 + len(inner)
    return prod(sizes) if known else None
