"""Multiply-accumulates of a node on a whole window, at batch size 1."""

from __future__ import annotations

from math import prod

import onnx

from aarewrite.model.index import attributes
from aarewrite.model.shapes import Dim
from aarewrite.streaming.source import Source

WEIGHTS = {"Conv": 1, "ConvInteger": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "MatMulInteger": 1}
QUANTISED_WEIGHTS = {"QLinearConv": 3, "QLinearMatMul": 3}


def macs(source: Source, node: onnx.NodeProto) -> int:
    """Those of convolutions, products of matrices and averages; 0 for anything else and where a size is not known."""
    op, attrs = node.op_type, attributes(node)
    out = _sizes(source.dims(node.output[0]))
    if op == "AveragePool":
        return prod(out) * prod(attrs["kernel_shape"])
    place = {**WEIGHTS, **QUANTISED_WEIGHTS}.get(op)
    if place is None:
        return 0
    weights = _sizes(source.dims(node.input[place]))
    if op == "ConvTranspose":
        return prod(_sizes(source.dims(node.input[0]))) * prod(weights[1:])
    if "Conv" in op:
        return prod(out) * prod(weights[1:])
    summed = weights[-1:] if attrs.get("transB") else weights[-2:-1] or weights
    return prod(out) * prod(summed)


def _sizes(dims: tuple[Dim, ...] | None) -> list[int]:
    """Sizes with 1 for an open one; [0] where the rank is not known."""
    return [0] if dims is None else [size if isinstance(size, int) else 1 for size in dims]
