"""Multiply-accumulates of sites and models, at batch size 1 (max pooling and activations cost none)."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.shapes import Shapes
from aarewrite.passes.blur_geometry import Rewrite
from aarewrite.sites.find import Site
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


def second_macs(site: Site, rewrite: Rewrite | None, input_size: Sizes, output_size: Sizes) -> int | None:
    """Multiply-accumulates of a site at one more phase; None where a size is unknown.

    Behind a dense operator the blur alone samples again, and behind a blur in front the operator alone.
    """
    macs = site_macs(site, rewrite, input_size, output_size)
    if macs is None or rewrite is None or rewrite.placement == "before":
        return None if macs is None else macs[0]
    if rewrite.placement != "after":
        return macs[1]
    return prod(n for n in output_size if n is not None) * (site.channels or 0) * prod(rewrite.blur.sizes)


COUNTED = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul", "AveragePool"))


def model_macs(editor: GraphEditor, shapes: Shapes) -> int | None:
    """Multiply-accumulates of all Conv, ConvTranspose, Gemm, MatMul and AveragePool nodes; a function's as often as
    it is called. None where a size is unknown."""
    calls = _calls(editor)
    total = 0
    for scope in editor.scopes:
        macs = nodes_macs(shapes, scope, scope.nodes)
        if macs is None:
            return None
        total += macs * calls.get(scope.root.function, 1)
    return total


def nodes_macs(shapes: Shapes, scope: Scope, nodes: Iterable[Any]) -> int | None:
    """The same of some nodes of a scope."""
    total = 0
    for node in nodes:
        if node.op in COUNTED:
            macs = _node_macs(shapes, scope, node)
            if macs is None:
                return None
            total += macs
    return total


def _calls(editor: GraphEditor) -> dict[tuple[str, str] | None, int]:
    """How often each function runs: its callers' count, summed over the calls."""
    functions = [scope.function for scope in editor.scopes if scope.kind == "function"]
    counts: dict[tuple[str, str] | None, int] = {None: 1}
    while len(counts) <= len(functions):
        found = len(counts)
        for function in (f for f in functions if f not in counts):
            callers = [
                scope.root.function
                for scope in editor.scopes
                for node in scope.nodes
                if (node.domain or "", node.op) == function
            ]
            if all(caller in counts for caller in callers):
                counts[function] = sum(counts[caller] for caller in callers)
        if len(counts) == found:  # recursive functions are not valid ONNX
            break
    return counts


def _node_macs(shapes: Shapes, scope: Scope, node: Any) -> int | None:
    if node.op == "AveragePool":
        pooled = shapes.of(scope, node.outputs[0]).dims
        if pooled is None or not all(isinstance(d, int) for d in pooled[1:]):
            return None
        return prod(int(d) for d in pooled[1:] if d is not None) * prod(node.attrs.get("kernel_shape") or ())
    second = 3 if node.op.startswith("QLinear") else 1
    if len(node.inputs) <= second:
        return None
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
