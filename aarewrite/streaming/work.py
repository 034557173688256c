"""Multiply-accumulates of nodes on a whole window, at batch size 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import onnx

from aarewrite.model.index import attributes
from aarewrite.model.runtime import open_session
from aarewrite.model.shapes import Dim
from aarewrite.rewriting.random_inputs import accepted
from aarewrite.rewriting.stretches import with_outputs
from aarewrite.streaming.source import Source

WEIGHTS = {
    "Conv": 1, "ConvInteger": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "MatMulInteger": 1, "QLinearConv": 3,
    "QLinearMatMul": 3,
}  # fmt: skip
Sizes = Callable[[str], Sequence[int]]


def macs(source: Source, nodes: Sequence[onnx.NodeProto]) -> list[int]:
    """Those of convolutions, products of matrices and averages; 0 for anything else. Sizes that inference leaves open
    are taken from a run on random input; where the model does not run on it they count 1."""
    named = {dim for value in source.inputs for dim in source.dims(value.name) or () if isinstance(dim, str)}
    needed = [name for node in nodes for name in _sized(node)]
    doubtful = dict.fromkeys(name for name in needed if not _settled(source.dims(name), named))
    run = _run(source, list(doubtful)) if doubtful else {}

    def sizes(name: str) -> Sequence[int]:
        dims = run.get(name, source.dims(name))
        return [0] if dims is None else [size if isinstance(size, int) else 1 for size in dims]

    return [_macs(node, sizes) for node in nodes]


def _sized(node: onnx.NodeProto) -> list[str]:
    """The tensors whose sizes a node's count rests on: its result, or what it spreads, and its weights."""
    if node.op_type == "AveragePool":
        return [node.output[0]]
    place = WEIGHTS.get(node.op_type)
    spread = node.op_type == "ConvTranspose"
    return [] if place is None else [node.input[0] if spread else node.output[0], node.input[place]]


def _settled(dims: tuple[Dim, ...] | None, named: set[str]) -> bool:
    """Whether every size is known, or an input's open one."""
    return dims is not None and all(isinstance(size, int) or size in named for size in dims)


def _run(source: Source, names: list[str]) -> dict[str, tuple[int, ...]]:
    given = {
        value.name: tuple(size if isinstance(size, int) else 1 for size in source.dims(value.name) or ())
        for value in source.inputs
    }
    try:
        session = open_session(with_outputs(source.model, names))
        found = accepted(session, source.model, given, False, 0)[0][1]
    except Exception:  # ONNX Runtime raises a dozen private types; the proof will say what is wrong
        return {}
    return {name: found[name].shape for name in names}


def _macs(node: onnx.NodeProto, sizes: Sizes) -> int:
    tensors, attrs = _sized(node), attributes(node)
    if not tensors:
        return 0
    outer = prod(sizes(tensors[0]))
    if node.op_type == "AveragePool":
        return outer * prod(attrs["kernel_shape"])
    weights = sizes(tensors[1])
    if "Conv" in node.op_type:
        return outer * prod(weights[1:])
    return outer * prod(weights[-1:] if attrs.get("transB") else weights[-2:-1] or weights)
