"""Multiply-accumulates of sites and models, at batch size 1 (max pooling and activations cost none)."""

from __future__ import annotations

from math import prod
from typing import Any

from aarewrite.decide import Rewrite
from aarewrite.graph import GraphEditor, Scope
from aarewrite.shapes import Shapes
from aarewrite.sites import Site
from aarewrite.windows import Sizes


def site_macs(site: Site, rewrite: Rewrite | None, input_size: Sizes, output_size: Sizes) -> tuple[int, int] | None:
    """Multiply-accumulates of a site before and after the rewrite; None where a size is unknown."""
    if any(n is None for n in (*input_size, *output_size)) or site.channels is None:
        return None
    out = prod(n for n in output_size if n is not None) * site.channels
    taps = prod(site.window.kernel)
    if site.kind == "conv":
        if site.input_channels is None:
            return None
        per_output = taps * site.input_channels // site.group
    else:
        per_output = taps if site.kind == "average_pool" else 0
    before = out * per_output
    if rewrite is None:
        return before, before
    if rewrite.placement == "instead":
        return before, out * prod(rewrite.blur.sizes)
    filter_taps = prod(rewrite.blur.sizes)
    if rewrite.placement == "before":
        size = prod(n for n in input_size if n is not None) * (site.input_channels or 0)
        return before, before + size * filter_taps
    if rewrite.placement == "input":
        size = prod(n for n in output_size if n is not None) * (site.input_channels or 0)
        return before, before + size * filter_taps
    mapped = rewrite.window.output(input_size)
    dense = prod(n for n in mapped if n is not None) * site.channels
    return before, dense * per_output + out * filter_taps


def model_macs(editor: GraphEditor, shapes: Shapes) -> int | None:
    """Multiply-accumulates of all Conv, ConvTranspose, Gemm and MatMul nodes; None where a size is unknown."""
    total = 0
    for scope in editor.scopes:
        for node in scope.nodes:
            if node.op in ("Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul"):
                macs = _node_macs(shapes, scope, node)
                if macs is None:
                    return None
                total += macs
    return total


def _node_macs(shapes: Shapes, scope: Scope, node: Any) -> int | None:
    second = 3 if node.op.startswith("QLinear") else 1
    weight = shapes.of(scope, node.inputs[second]).dims
    outer = node.inputs[0] if node.op == "ConvTranspose" else node.outputs[0]
    dims = shapes.of(scope, outer).dims
    if weight is None or dims is None or not all(isinstance(d, int) for d in (*weight, *dims[1:])):
        return None
    positions = prod(int(d) for d in dims[1:] if d is not None)
    if "Conv" in node.op:
        return positions * prod(int(d) for d in weight[1:] if d is not None)
    inner = weight[-1] if node.op == "Gemm" and node.attrs.get("transB") else weight[-2 if len(weight) > 1 else 0]
    return positions * int(inner or 0)
