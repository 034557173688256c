"""How the stream runs through a model: every tensor's track, every node's rule or the reason why it has none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice

import onnx

from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model.index import consumed, label
from aarewrite.model.runner import likely_layout
from aarewrite.streaming.operators import fit
from aarewrite.streaming.rules import Fit, Rule
from aarewrite.streaming.source import Source
from aarewrite.streaming.tracks import Track

BEHIND = "what it reads is computed on the whole window"
OTHER_INPUT = "it reads an input that is not streamed"
NEAREST = 3  # steps that are named on either side of one that does not fit


@dataclass(frozen=True)
class Part:
    """A node that depends on an input."""

    node: onnx.NodeProto
    name: str
    fit: Fit
    reads: tuple[str, ...]  # every tensor it reads, in its bodies too

    @property
    def rule(self) -> Rule | None:
        """Its rule, None where it is computed on the whole window."""
        return self.fit if isinstance(self.fit, Rule) else None

    @property
    def outputs(self) -> list[str]:
        """The tensors it makes."""
        return [name for name in self.node.output if name]


class Flow:
    """A model along the stream.

    Args:
        source: The model.
        axis: The name or index of the axis along which the stream runs; None: the longest one of space.
        given: Names of the inputs whose shapes the user gave; one of them is streamed first of all.

    Raises:
        UsageError: There is no such axis, or its size is open.
        CannotHandle: No input has an axis to stream along.
    """

    def __init__(self, source: Source, axis: str | int | None = None, given: Sequence[str] = ()) -> None:
        self.source = source
        self.input, place = _streamed_input(source, axis, given)
        self.window = _length(source, self.input, place)
        self.inputs = {
            value.name: place
            for value in source.inputs
            if value.name == self.input or _runs_beside(source, value.name, self.input, place, self.window)
        }
        whole = Fraction(1)
        self.tracks = {name: Track(place, whole, 0, 0, self.window) for name in self.inputs}
        self.parts = tuple(self._parts())

    def _parts(self) -> Iterator[Part]:
        aside = {value.name for value in self.source.inputs} - self.inputs.keys()
        for node in self.source.nodes:
            reads = consumed(node)
            if set(node.output) - {""} <= self.source.constant:
                continue
            found: Fit = OTHER_INPUT if reads & aside else BEHIND
            if reads & self.tracks.keys():
                found = fit(self.source, self.tracks, node)
            if isinstance(found, Rule) and not found.ends:
                self.tracks |= dict.fromkeys((name for name in node.output if name), found.track)
            yield Part(node, label(node), found, tuple(sorted(reads)))

    @cached_property
    def sized(self) -> frozenset[str]:
        """The streamed tensors whose other sizes are known, or an input's open ones."""
        open_sizes = {dim for name in self.inputs for dim in self.source.dims(name) or ()}
        return frozenset(
            name
            for name in self.tracks
            if all(d is not None and (isinstance(d, int) or d in open_sizes) for d in self.source.dims(name) or (None,))
        )

    def obstacle(self, step: int, everywhere: bool = False) -> Part | None:
        """The first node behind which the window moves by no whole number of indices in such a step; None where all
        fit. Where nothing could be kept anyway, nothing has to fit, unless it is to fit `everywhere`."""
        for part in self.parts:
            if part.rule and not part.rule.ends:
                track = part.rule.track
                moved = track.moved(step)
                here = everywhere and track.length > 1
                if moved.denominator > 1 and (here or track.left + track.right + moved < track.length):
                    return part
        return None

    def check_step(self, step: int, everywhere: bool = False) -> None:
        """Refuse a step that does not fit the model; arguments as of `obstacle`.

        Raises:
            UsageError: The message names the node and the nearest steps that work.
        """
        if not 0 < step <= self.window:
            raise UsageError(f"--step {step}: not within the window of {self.window}", "give 1 or more, up to that")
        part = self.obstacle(step, everywhere)
        if part is None or part.rule is None:
            return
        below, above = (
            list(islice((k for k in steps if self.obstacle(k, everywhere) is None), NEAREST))
            for steps in (range(step - 1, 0, -1), range(step + 1, self.window))
        )
        rate = part.rule.track.rate
        raise UsageError(
            f"--step {step}: node {part.name!r} ({part.node.op_type}) makes one value of {rate} samples, and {step} is "
            f"no multiple of that",
            f"the nearest steps that work are {', '.join(map(str, sorted(below + above)))}"
            if below or above
            else "no step shorter than the window works",
        )


def _streamed_input(source: Source, axis: str | int | None, given: Sequence[str]) -> tuple[str, int]:
    """The input that is streamed first of all, and its axis."""
    shapes = {value.name: source.dims(value.name) or () for value in source.inputs}
    wanted = [name for name in given if name in shapes] + [name for name in shapes if name not in given]
    if axis is None:
        for name in wanted:
            layout = likely_layout([d if isinstance(d, int) else None for d in shapes[name]])
            space = [k for k, letter in enumerate(layout) if letter not in "nc"]
            if space:
                return name, max((_size(shapes[name][k]), k) for k in space)[1]
        raise CannotHandle("no input has an axis of space or time", "name one with --axis INDEX")
    for name in wanted:
        for place, called in enumerate(source.axis_names[name]):
            if str(axis) in (called or str(place), str(place), str(place - len(shapes[name]))):
                return name, place
    names = sorted({called for found in source.axis_names.values() for called in found if called})
    ranks = max(map(len, shapes.values()), default=0)
    known = ", ".join([*names, f"0 to {ranks - 1}"])
    raise UsageError(f"--axis {axis}: no input has such an axis", f"it is one of {known}")


def _size(dim: object) -> int:
    return dim if isinstance(dim, int) else 1 << 40  # an open axis is the one that grows


def _length(source: Source, name: str, place: int) -> int:
    dims = source.dims(name) or ()
    size = dims[place]
    if not isinstance(size, int):
        shape = "x".join(str(d) if isinstance(d, int) else "N" for d in dims)
        raise UsageError(
            f"input {name!r} is open along axis {place}: the window's length is not known",
            f"give it with --input {name}:SHAPE, {shape} with numbers for N",
        )
    return size


def _runs_beside(source: Source, name: str, first: str, place: int, window: int) -> bool:
    """Whether another input is streamed with the first: it has as many axes, and the window's length on the same."""
    dims, own = source.dims(name) or (), source.dims(first) or ()
    return len(dims) == len(own) and dims[place] == window and window > 1


def volume(source: Source, name: str) -> int:
    """Elements of a tensor at batch size 1; open sizes count 1."""
    return math.prod(d if isinstance(d, int) else 1 for d in source.dims(name) or ())


def sizes(flow: Flow, name: str, length: int) -> Sequence[int | str | None]:
    """A streamed tensor's shape with another length along the stream."""
    dims: list[int | str | None] = list(flow.source.dims(name) or ())
    dims[flow.tracks[name].axis] = length
    return dims
