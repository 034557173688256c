"""How finely each tensor samples the input: the product of the strides along its path.

Sizes alone mislead where borders are cropped: a map of 8 samples of 96 px may have stride 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

import numpy as np
import onnx

from aarewrite.model.index import Attributes, OpenGraph, attributes
from aarewrite.model.types import Array
from aarewrite.windows import Sizes

# For each axis of a tensor its samples per sample of the input, None for one that is not spatial.
Ratios = tuple[Fraction | None, ...]
STRIDED = frozenset(
    ("AveragePool", "Conv", "ConvInteger", "DeformConv", "FusedConv", "LpPool", "MaxPool", "QLinearConv")
)
KEEPING = frozenset(("Cast", "Identity", "Pad"))  # what is added at the border is no stride
SHUFFLING = frozenset(("Einsum", "NonZero", "Shape", "Size"))
LONGEST_DETOUR = 8  # nodes between two Reshapes, the second of which restores what the first one changed


def path_ratios(graph: OpenGraph) -> dict[str, Ratios]:
    """The ratios of every tensor for which they follow from the strides on its path from an image input."""
    found = {
        spec.name: tuple(Fraction(1) if axis in spec.axes else None for axis in range(len(spec.layout)))
        for spec in graph.inputs
    }
    for node in graph.proto.graph.node:
        known = [name for name in node.input if name in found]
        if node.op_type == "Reshape":
            behind = _restored(node, graph, found)
        else:
            source = max(known, key=lambda name: len(found[name]), default=None)
            behind = None if source is None else _behind(node, found[source], source, graph)
        found |= {name: behind for name in node.output if name and behind and any(behind)}
    return found


def ratio_of_sizes(out: int, into: int) -> Fraction | None:
    """Samples out per sample in as a small fraction; borders may cost a sample or two."""
    if out >= into:
        factor = round(out / into)
        return Fraction(factor) if abs(out - factor * into) <= max(2, factor) else None
    stride = round(into / out)
    return Fraction(1, stride) if abs(out * stride - into) <= 2 * stride else None


def _behind(node: onnx.NodeProto, state: Ratios, source: str, graph: OpenGraph) -> Ratios | None:
    """The ratios behind a node that reads `source`, whose are `state`; None where they are not known."""
    given, op, rank = attributes(node), node.op_type, len(state)
    if op in STRIDED:
        return _times(state, 2, [Fraction(1, stride) for stride in given.get("strides", ()) if stride > 0])
    if op == "ConvTranspose":
        return _times(state, 2, map(Fraction, given.get("strides", ())))
    if op in ("SpaceToDepth", "DepthToSpace"):
        block = Fraction(given.get("blocksize", 1))
        return _times(state, 2, [1 / block if op == "SpaceToDepth" else block] * (rank - 2))
    if op == "Transpose":
        perm = given.get("perm") or range(rank)[::-1]
        return tuple(state[axis] for axis in perm) if sorted(perm) == list(range(rank)) else None
    if op == "Slice":
        axes, steps = (_listed(graph, node, place) for place in (3, 4))
        places = [int(axis) % rank for axis in axes] or range(len(steps))
        factors = dict(zip(places, steps, strict=False))
        return tuple(r and r / abs(int(factors.get(axis, 1)) or 1) for axis, r in enumerate(state))
    if op in ("Squeeze", "Unsqueeze"):
        return _resqueezed(node, given, graph, state)
    if op.startswith("Reduce") or op in ("ArgMax", "ArgMin"):
        return _reduced(node, given, graph, state)
    if op == "Gather":
        axis, indices = given.get("axis", 0) % rank, graph.shapes.get(node.input[1])
        if indices is None or state[axis] is not None:
            return None
        return (*state[:axis], *[None] * len(indices), *state[axis + 1 :])
    if op in SHUFFLING:
        return None
    if op in KEEPING:
        return state
    return _by_sizes(state, graph.shapes.get(source), graph.shapes.get(node.output[0]))


def _times(state: Ratios, first: int, factors: Iterable[Fraction]) -> Ratios | None:
    """The ratios times factors from an axis on; None where that axis is not spatial."""
    changed = dict(enumerate(factors, start=first))
    if any(axis >= len(state) or state[axis] is None for axis in changed):
        return None
    return tuple(r and r * changed.get(axis, 1) for axis, r in enumerate(state))


def _listed(graph: OpenGraph, node: onnx.NodeProto, place: int) -> Array:
    """A node's constant input as a list, empty where there is none."""
    value = graph.constant(node.input[place]) if len(node.input) > place and node.input[place] else None
    return np.empty(0) if value is None else value.reshape(-1)


def _axes(node: onnx.NodeProto, given: Attributes, graph: OpenGraph, rank: int) -> list[int]:
    """The axes that a node names by attribute or input, counted from the first."""
    named = given.get("axes") or ([given["axis"]] if "axis" in given else [int(a) for a in _listed(graph, node, 1)])
    return sorted(axis % rank for axis in named)


def _resqueezed(node: onnx.NodeProto, given: Attributes, graph: OpenGraph, state: Ratios) -> Ratios | None:
    if node.op_type == "Squeeze":
        dropped = _axes(node, given, graph, len(state))
        return tuple(r for axis, r in enumerate(state) if axis not in dropped) if dropped else None
    named = given.get("axes") or list(_listed(graph, node, 1))
    behind = list(state)
    for axis in sorted(int(axis) % (len(state) + len(named)) for axis in named):
        behind.insert(axis, None)
    return tuple(behind)


def _reduced(node: onnx.NodeProto, given: Attributes, graph: OpenGraph, state: Ratios) -> Ratios | None:
    axes = _axes(node, given, graph, len(state)) or ([0] if node.op_type.startswith("Arg") else list(range(len(state))))
    if given.get("keepdims", 1):
        return tuple(None if axis in axes else r for axis, r in enumerate(state))
    return tuple(r for axis, r in enumerate(state) if axis not in axes)


def _restored(node: onnx.NodeProto, graph: OpenGraph, found: Mapping[str, Ratios]) -> Ratios | None:
    """What lies in front of a detour, such as a normalisation by groups or a shuffle of channels, that a Reshape ends
    with the shape that was there, or with the spatial axes that were there at the end."""
    sizes = graph.producers.get(node.input[1]) if len(node.input) > 1 else None
    if sizes is not None and sizes.op_type == "Shape":
        return found.get(sizes.input[0])
    shape, name = graph.shapes.get(node.output[0]), node.input[0]
    for _ in range(LONGEST_DETOUR):
        if (kept := _last_kept(found.get(name, ()), graph.shapes.get(name), shape)) is not None:
            return kept
        producer = graph.producers.get(name)
        if producer is None or not producer.input:
            return None
        name = producer.input[0]
    return None


def _last_kept(state: Ratios, before: Sizes | None, after: Sizes | None) -> Ratios | None:
    """The ratios where the axes from the first spatial one on are the last ones of another shape; all of them where it
    is the same shape."""
    first = next((axis for axis, ratio in enumerate(state) if ratio), None)
    if first is None or not before or not after or len(before) != len(state):
        return None
    if before == after:
        return None if None in after else state
    last = len(state) - first
    same = len(after) > last and after[-last:] == before[first:] and None not in after[-last:]
    return (*[None] * (len(after) - last), *state[first:]) if same else None


def _by_sizes(state: Ratios, before: Sizes | None, after: Sizes | None) -> Ratios | None:
    """The ratios behind an operator that keeps the axes, told from what it makes of the sizes."""
    if before is None or after is None or not len(before) == len(after) == len(state):
        return None
    behind: list[Fraction | None] = []
    for ratio, n, m in zip(state, before, after, strict=True):
        if ratio is None or n == m:
            behind.append(ratio)
        elif not n or not m or (factor := ratio_of_sizes(m, n)) is None:
            return None
        else:
            behind.append(None if m == 1 else ratio * factor)
    return tuple(behind)
