"""What an exact circular claim needs of a network, and which nodes do not give it.

Under a circular shift a convolution commutes with the shift only when it wraps around; a downsampling layer
keeps its phases only when its input's size divides by the stride; a flattened feature map remembers positions.
Each violation downgrades the claim, with the node named.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from aarewrite.model.index import OpenGraph

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
    found = []
    for node in graph.proto.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        name = node.name or (node.output[0] if node.output else node.op_type)
        if node.op_type in WINDOW_OPS:
            if reason := _padding(node, attributes, graph):
                found.append(Violation(name, node.op_type, reason))
            if reason := _remainder(node, attributes, graph):
                found.append(Violation(name, node.op_type, reason))
        elif node.op_type == "Pad":
            mode = attributes.get("mode", b"constant").decode()
            if mode != "wrap":
                found.append(Violation(name, "Pad", f"pads with mode {mode}, not circularly"))
        elif node.op_type in ("Flatten", "Reshape") and _forgets_space(node, graph):
            found.append(Violation(name, node.op_type, "flattens a feature map: what follows depends on position"))
    return tuple(found)


def _padding(node: onnx.NodeProto, attributes: dict[str, object], graph: OpenGraph) -> str | None:
    pads = attributes.get("pads") or []
    if isinstance(pads, list) and any(pads):
        kind = "-inf" if node.op_type == "MaxPool" else "zeros"
        return f"pads with {kind} ({', '.join(map(str, pads))})"
    auto = attributes.get("auto_pad", b"NOTSET")
    if auto in (b"SAME_UPPER", b"SAME_LOWER"):
        return f"pads with zeros (auto_pad {auto.decode()})"
    if node.op_type == "ConvTranspose" or _padded_in_front(node, graph):
        return None
    before, after = graph.spatial(node.input[0]), graph.spatial(node.output[0])
    weight = graph.shapes.get(node.input[1]) if node.op_type == "Conv" else None
    kernel = attributes.get("kernel_shape") or list((weight or ())[2:])
    strides = attributes.get("strides") or [1] * len(graph.size)
    dilations = attributes.get("dilations") or [1] * len(graph.size)
    if not all(isinstance(values, list) for values in (kernel, strides, dilations)) or after == (1,) * len(after or ()):
        return None
    for k, s, d in zip(kernel, strides, dilations, strict=False):  # type: ignore[call-overload]
        if (k - 1) * d + 1 > s and before:
            return "overlapping windows without padding: they do not wrap around the border"
    return None


def _padded_in_front(node: onnx.NodeProto, graph: OpenGraph) -> bool:
    """A Concat in front is taken as circular padding (Slice + Concat); a Pad is judged by itself."""
    producer = graph.producers.get(node.input[0])
    return producer is not None and producer.op_type in ("Pad", "Concat")


def _remainder(node: onnx.NodeProto, attributes: dict[str, object], graph: OpenGraph) -> str | None:
    strides = attributes.get("strides") or []
    size = graph.spatial(node.input[0])
    if not isinstance(strides, list) or node.op_type == "ConvTranspose" or size is None:
        return None
    producer = graph.producers.get(node.input[0])
    if producer is not None and producer.op_type in ("Pad", "Concat"):
        size = graph.spatial(producer.input[0]) or size  # the padded size is not the map's period
    for extent, stride in zip(size, strides, strict=False):
        if stride > 1 and extent % stride:
            return f"size {extent} does not divide by stride {stride}"
    return None


def _forgets_space(node: onnx.NodeProto, graph: OpenGraph) -> bool:
    before = graph.spatial(node.input[0])
    after = graph.shapes.get(node.output[0])
    return before is not None and max(before) > 1 and after is not None and len(after) == 2
