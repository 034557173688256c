"""What an operator does along the stream: the contract, and what is asked of a node.

A rule says which indices of its streamed inputs a range of its outputs is computed from, and fits a copy of the node
to such a range. An operator without a rule, or one whose rule declines, is computed on the whole window; the reason is
what the table shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import onnx

from aarewrite.model.index import Attributes, attributes
from aarewrite.model.shapes import Dim
from aarewrite.model.types import Array
from aarewrite.streaming.source import Source
from aarewrite.streaming.tracks import Range, Track, joined


class Draft(Protocol):
    """What a rule needs of the graph that is being written."""

    opset: int

    def constant(self, name: str, value: Array) -> str:
        """The name of a constant with this value; `name` is what it may be called."""


@dataclass(frozen=True)
class Rule:
    """An operator that computes a range of its outputs from a range of its inputs. This one maps index to index."""

    inputs: tuple[int, ...]  # which of the node's inputs are streamed
    track: Track  # of its outputs
    ends: ClassVar[bool] = False  # whether its outputs lie along the stream no more: they are one piece, (0, 1)

    def made(self, wanted: Range) -> Range:
        """The range that is computed where this one is wanted; it holds it."""
        return wanted

    def reads(self, made: Range) -> Range:
        """The indices of each streamed input that a range is computed from."""
        return made

    def fit(self, node: onnx.NodeProto, made: Range, draft: Draft) -> None:
        """Change a copy of the node, already wired to the inputs' ranges, so that it computes this range."""


Fit = Rule | str  # or the reason why the node is computed on the whole window


class Ask:
    """A node with what is known of its inputs and outputs."""

    def __init__(self, source: Source, tracks: Mapping[str, Track], node: onnx.NodeProto) -> None:
        self.source, self.node, self.opset = source, node, source.opset
        self.tracks = {k: tracks[name] for k, name in enumerate(node.input) if name in tracks}

    @property
    def attrs(self) -> Attributes:
        """The node's attributes."""
        return attributes(self.node)

    @property
    def first(self) -> Track:
        """The track of the first streamed input."""
        return next(iter(self.tracks.values()))

    def text(self, name: str, default: str = "") -> str:
        """A text attribute."""
        value = self.attrs.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def dims(self, index: int) -> tuple[Dim, ...] | None:
        """The shape of an input."""
        dims = self.source.dims(self.node.input[index])
        if dims is None or None in dims:
            value = self.value(index)
            return dims if value is None else value.shape
        return dims

    def out_dims(self) -> tuple[Dim, ...] | None:
        """The shape of the first output."""
        return self.source.dims(self.node.output[0])

    def given(self, index: int) -> bool:
        """Whether an optional input is there."""
        return index < len(self.node.input) and bool(self.node.input[index])

    def value(self, index: int) -> Array | None:
        """The value of a constant input."""
        return self.source.value(self.node.input[index]) if self.given(index) else None

    def numbers(self, attribute: str, index: int) -> list[int] | None:
        """Whole numbers that are an attribute in older opsets and an input in newer ones; None: not given. [] cannot
        be told from not given in either."""
        if attribute in self.attrs:
            value = self.attrs[attribute]
            return [int(one) for one in (value if isinstance(value, list) else [value])]
        found = self.value(index)
        return None if found is None else [int(one) for one in np.reshape(found, -1)]

    def used_outputs(self) -> list[str]:
        """Outputs that something reads."""
        seen = self.source.readers.keys() | set(self.source.outputs)
        return [name for name in self.node.output if name in seen]

    def only_streams(self, *indices: int) -> str:
        """Why not, where other inputs than these depend on the stream, or one that has to be constant is not."""
        for k, name in enumerate(self.node.input):
            if name and k not in indices and name not in self.source.constant:
                return "an operand that has to be constant is not"
        return "" if set(self.tracks) == set(indices) else "an operand is not streamed"

    def along(self, track: Track | None = None) -> Rule:
        """The rule of an operator that maps index to index."""
        return Rule(tuple(self.tracks), track or self.first)


Asked = Callable[[Ask], Fit]


def set_attribute(node: onnx.NodeProto, name: str, value: object) -> None:
    """Give a node another value of an attribute; None removes it."""
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    if value is not None:
        node.attribute.append(onnx.helper.make_attribute(name, value))


def meeting(ask: Ask) -> tuple[Track, int] | str:
    """The track and the rank of what broadcast operands give, or why they do not meet index by index."""
    ranks = {k: len(dims) for k in range(len(ask.node.input)) if ask.given(k) and (dims := ask.dims(k)) is not None}
    if len(ranks) < sum(map(ask.given, range(len(ask.node.input)))):
        return "the shape of an operand is not known"
    rank = max(ranks.values())
    axes = {rank - ranks[k] + track.axis for k, track in ask.tracks.items()}
    if len(axes) > 1:
        return "its operands carry the stream on different axes"
    axis = axes.pop()
    for k in ranks.keys() - ask.tracks.keys():
        dims, place = ask.dims(k) or (), axis - (rank - ranks[k])
        if ask.node.input[k] not in ask.source.constant:
            return "an operand depends on the whole window or on another input"
        if place >= 0 and dims[place] != 1:
            return "a constant operand differs along the window"
    track = joined(list(ask.tracks.values()))
    return track if isinstance(track, str) else (track.on(axis), rank)
