"""What a blur that is in a model already is: its taps, strides and pads, and the operator that it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from aarewrite.filters import axis_taps
from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.shapes import Shapes
from aarewrite.model.types import Array, Node, ints, text
from aarewrite.sites.existing_blurs import FARTHEST, MOVING, blur_weight, is_blur, value_readers
from aarewrite.sites.regions import POINTWISE, QUANTISATION
from aarewrite.sites.site import ExistingBlur, Source
from aarewrite.windows import Window


@dataclass(frozen=True)
class DescribedBlurs:
    """The blurs of a graph, each by its convolution."""

    editor: GraphEditor
    shapes: Shapes
    names: Mapping[int, str]  # of `node_names`

    def blur(self, scope: Scope, node: Node, window: Window, source: Source) -> ExistingBlur | None:
        """The blur that a convolution is, None where it is none; `source` says where it is."""
        weight = blur_weight(self.editor, node)
        if weight is None or (weight[0].size == 1 and max(window.strides) == 1):
            return None
        kernel = weight[0, 0]
        pads = [self._amounts(scope, pad, kernel.ndim) for pad in pads_of(node)]
        own = np.array((window.begin, window.end))
        modes = [
            _mode(pad) for pad, amounts in zip(pads_of(node), pads, strict=True) if amounts is None or amounts.any()
        ]
        modes += ["zero"] if own.any() else []
        amounts = None if any(one is None for one in pads) else sum((one for one in pads if one is not None), own)
        taps = axis_taps(kernel)
        placement, of = self._placement(node, strided=max(window.strides) > 1)
        return ExistingBlur(
            **vars(source),
            kernel=window.kernel,
            strides=window.strides,
            taps=None if taps is None else tuple(tuple(float(tap) for tap in axis) for axis in taps),
            begin=() if amounts is None else tuple(map(int, amounts[0])),
            end=() if amounts is None else tuple(map(int, amounts[1])),
            pad="computed" if amounts is None else " and ".join(dict.fromkeys(modes)),
            placement=placement,
            of=of,
        )

    def _amounts(self, scope: Scope, pad: Node, rank: int) -> Array | None:
        """Begin and end pads of the last `rank` axes, shape (2, rank); None where they are not known."""
        given = pad.inputs[1:2] + pad.inputs[3:4]
        known = [self.editor.constant_value(tensor) for tensor in given if tensor.name]
        values = [value for value in known if value is not None] if given else [np.array(ints(pad, "pads"))]
        if len(values) < len(known) or not values[0].size or values[0].size % 2:
            return None
        amounts = values[0].reshape(2, -1)
        if len(values) == 1:
            return amounts[:, -rank:] if amounts.shape[1] >= rank else None
        dims = self.shapes.of(scope, pad.inputs[0]).dims
        if dims is None:
            return None
        whole = np.zeros((2, len(dims)), dtype=np.int64)
        whole[:, values[1]] = amounts
        return whole[:, -rank:]

    def _placement(self, node: Node, strided: bool) -> tuple[str, str]:
        """Where a blur is, and the operator that it belongs to: "before" the one that samples what it filtered, else
        "after" the one whose map it filters."""
        behind = None if strided else self._first(node, _reader, MOVING | QUANTISATION | {"Pad"})
        if behind is not None and (behind.op == "Slice" or max(ints(behind, "strides"), default=1) > 1):
            return "before", self._name(behind)
        front = self._first(node, _maker, MOVING | QUANTISATION | POINTWISE | {"Pad"})
        return ("alone", "") if front is None else ("after", self._name(front))

    def _first(self, node: Node, onward: Callable[[Node], Node | None], passed: frozenset[str]) -> Node | None:
        """The first node on that is neither passed nor a blur."""
        current = onward(node)
        for _ in range(FARTHEST):
            if current is None or (current.op not in passed and not is_blur(self.editor, current)):
                break
            current = onward(current)
        return current

    def _name(self, node: Node) -> str:
        return self.names.get(id(node), node.name)


def pads_of(node: Node) -> list[Node]:
    """The Pad nodes in front of a blur's convolution, the nearest last."""
    found: list[Node] = []
    maker = _maker(node)
    for _ in range(FARTHEST):
        if maker is None or maker.op not in MOVING | {"Pad"}:
            break
        found += [maker] if maker.op == "Pad" else []
        maker = _maker(maker)
    return found[::-1]


def _mode(pad: Node) -> str:
    mode = text(pad, "mode", "constant")
    return "zero" if mode == "constant" else mode


def _maker(node: Node) -> Node | None:
    """The producer of what a node works on."""
    return next((maker for tensor in node.inputs[:1] for maker in tensor.inputs), None)


def _reader(node: Node) -> Node | None:
    return next(iter(value_readers(node.outputs[0])), None)
