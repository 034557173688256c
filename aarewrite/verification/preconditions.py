"""What an exact circular claim needs of a network, and which nodes do not give it.

Under a circular shift a convolution commutes with the shift only when it wraps around; a downsampling layer
keeps its phases only when its input's size divides by the stride; a flattened feature map remembers positions.
Each violation downgrades the claim, with the node named.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from aarewrite.model.index import Attributes, OpenGraph, attributes, label
from aarewrite.model.model_file import load
from aarewrite.sites.existing_blurs import is_border, samplers

WINDOW_OPS = {"Conv", "MaxPool", "AveragePool", "LpPool", "QLinearConv", "ConvInteger", "ConvTranspose"}


@dataclass(frozen=True)
class Violation:
    """One node that keeps a circular claim from being exact."""

    node: str
    op: str
    reason: str


def find_violations(graph: OpenGraph) -> tuple[Violation, ...]:
    """Return the nodes that break exact circular equivariance, in graph order.

    Strided layers are named only where the size does not divide; that a divisible stride still aliases
    is what the measurement shows.
    """
    model = load(graph.proto)
    found, filters = [], samplers(model)
    for node in graph.proto.graph.node:
        if is_border(model, node.name):
            continue
        given = attributes(node)
        reasons: tuple[str | None, ...] = ()
        if node.op_type in WINDOW_OPS:
            reasons = _padding(node, given, graph), _remainder(node, given, graph)
        elif node.op_type == "Pad" and (mode := given.get("mode", b"constant").decode()) != "wrap":
            reasons = (f"pads with mode {mode}, not circularly",)
        elif node.name in filters:
            reasons = ("a filter that does not wrap around the border",)
        elif node.op_type in ("Flatten", "Reshape") and _forgets_space(node, graph):
            reasons = ("flattens a feature map: what follows depends on position",)
        found += [Violation(label(node), node.op_type, reason) for reason in reasons if reason]
    return tuple(found)


def _padding(node: onnx.NodeProto, given: Attributes, graph: OpenGraph) -> str | None:
    if any(pads := given.get("pads", [])):
        kind = "-inf" if node.op_type == "MaxPool" else "zeros"
        return f"pads with {kind} ({', '.join(map(str, pads))})"
    if (auto := given.get("auto_pad")) in (b"SAME_UPPER", b"SAME_LOWER"):
        return f"pads with zeros (auto_pad {auto.decode()})"
    before, after = graph.spatial(node.input[0]), graph.spatial(node.output[0])
    if node.op_type == "ConvTranspose" or _padded_in_front(node, graph) or not before or {*(after or (0,))} == {1}:
        return None
    weight = graph.shapes.get(node.input[1], ())[2:] if node.op_type == "Conv" else ()
    strides, dilations = (given.get(name, [1] * len(graph.size)) for name in ("strides", "dilations"))
    for k, s, d in zip(given.get("kernel_shape") or weight, strides, dilations, strict=False):
        if (k - 1) * d + 1 > s:
            return "overlapping windows without padding: they do not wrap around the border"
    return None


def _padded_in_front(node: onnx.NodeProto, graph: OpenGraph) -> onnx.NodeProto | None:
    """A Concat in front is taken as circular padding (Slice + Concat); a Pad is judged by itself."""
    producer = graph.producers.get(node.input[0])
    return producer if producer is not None and producer.op_type in ("Pad", "Concat") else None


def _remainder(node: onnx.NodeProto, given: Attributes, graph: OpenGraph) -> str | None:
    size = graph.spatial(node.input[0])
    if node.op_type == "ConvTranspose" or size is None:
        return None
    if pad := _padded_in_front(node, graph):
        size = graph.spatial(pad.input[0]) or size  # the padded size is not the map's period
    for extent, stride in zip(size, given.get("strides", []), strict=False):
        if stride > 1 and extent % stride:
            return f"size {extent} does not divide by stride {stride}"
    return None


def _forgets_space(node: onnx.NodeProto, graph: OpenGraph) -> bool:
    before, after = graph.spatial(node.input[0]), graph.shapes.get(node.output[0])
    return before is not None and max(before) > 1 and after is not None and len(after) == 2
