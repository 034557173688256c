"""The signal form: padding at the window's borders gives way to the signal's own samples, so that nothing is computed
twice. It changes the function; how far is measured.

Of every streamed tensor a step computes the next M = P / r indices. With E samples fed they end at index E / r - D: a
window looks ahead, so D > 0 where its extent is not all padding. A convolution whose newest input is -D - 1 (counted
from E / r) has as its newest output floor((-D - 1 + b - (ke - 1)) / s). Padding only gives indices other numbers. What
meets is delayed to the largest D.

Operators that need the whole window read the last L indices. All of them have to mean the same window, so they are
delayed to one latency. Where the window begins, the maps' grids have to begin as well; of all the phases in which the
samples can be counted, that of the smallest latency is taken.

Source: Kechris et al. 2024, StreamiNNC.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import onnx

from aarewrite.model.model_file import Model
from aarewrite.options import Json
from aarewrite.streaming.flow import Flow, Part
from aarewrite.streaming.pointwise import Reshaped
from aarewrite.streaming.rules import set_attribute
from aarewrite.streaming.sliding import Padded, Sliced, Sliding, Spread
from aarewrite.streaming.tracks import Range, Track
from aarewrite.streaming.work import macs
from aarewrite.streaming.writer import GraphWriter


@dataclass(frozen=True)
class SignalLayout:
    """Delays and latency of the signal form at a step."""

    step: int
    phase: int  # samples by which counting begins earlier
    delays: dict[str, int]  # D of every tensor that has chunks
    end: int  # samples, as counted, from the window's begin to the newest one
    latency: int  # samples between the window's end and the newest one
    first_valid: int  # steps until the outputs are those of whole windows
    work: float
    costs: list[int]  # multiply-accumulates of every node on a whole window

    @property
    def window_work(self) -> int:
        """Multiply-accumulates of a whole window."""
        return sum(self.costs)

    def chunk(self, track: Track) -> int:
        """Indices that a step makes."""
        return int(track.moved(self.step))

    def late(self, track: Track, name: str) -> int:
        """Indices by which a tensor's newest window is older than what is newest of it."""
        return int(self.end / track.rate) - self.delays[name] - track.length


def lay_out(flow: Flow, step: int) -> SignalLayout:
    """The layout of the smallest latency over every phase."""
    grid = math.lcm(*(track.rate.numerator for track in flow.tracks.values() if track.length > 1))
    costs = macs(flow.source, [part.node for part in flow.parts])
    return min((_in_phase(flow, step, phase, grid, costs) for phase in range(grid)), key=lambda found: found.latency)


def _in_phase(flow: Flow, step: int, phase: int, grid: int, costs: list[int]) -> SignalLayout:
    delays = dict.fromkeys(flow.inputs, phase)
    work, reach, needed = 0.0, 0, flow.window + phase
    heads = {name for name in flow.source.outputs if name in flow.tracks}
    for part, cost in zip(flow.parts, costs, strict=True):
        delay = _delay(flow, part, delays)
        if delay is None:
            work += cost
            heads.update(name for name in part.reads if name in delays)
            continue
        assert part.rule is not None, "what has a delay has a rule"
        delays |= dict.fromkeys(part.outputs, delay)
        work += cost * part.rule.track.moved(step) / part.rule.track.length
        reach = max(reach, math.ceil(part.rule.track.left * part.rule.track.rate))
    for name in heads & delays.keys():
        track = flow.tracks[name]
        needed = max(needed, math.ceil(track.rate * (delays[name] + track.length)))
    end = -(-needed // grid) * grid
    latency = end - phase - flow.window
    first = -(-(flow.window + latency + reach) // step)
    return SignalLayout(step, phase, delays, end, latency, first, float(work), costs)


def _delay(flow: Flow, part: Part, delays: dict[str, int]) -> int | None:
    """D of a node's outputs, None where it is computed on the whole window."""
    rule = part.rule
    if rule is None or rule.ends or rule.track.length == 1 or isinstance(rule, Spread):
        return None
    sources = [part.node.input[k] for k in rule.inputs]
    if not all(name in delays for name in sources) or not flow.sized.issuperset(part.outputs):
        return None
    delay = max(delays[name] for name in sources)
    if isinstance(rule, Padded):
        return delay - rule.begin
    if isinstance(rule, Sliding | Sliced):
        extent, pad = _window(rule)
        return -((-delay - 1 + pad - (extent - 1)) // rule.stride) - 1
    if isinstance(rule, Reshaped):
        return None if delay * rule.parts % rule.joins else delay * rule.parts // rule.joins
    return delay


def _window(rule: Sliding | Sliced) -> tuple[int, int]:
    """How many input indices an output reads, and the padding in front of the first."""
    return (rule.extent, rule.begin) if isinstance(rule, Sliding) else (1, -rule.begin)


class Interior(NamedTuple):
    """Where a tensor of the streaming model must equal the original's map: no border reaches it there."""

    tensor: str
    held: str  # what holds it in the streaming model
    steps: int  # so many steps later the window reaches it
    part: Range  # of what holds it
    map: Range  # of the map of the window of that later step


class SignalWriter(GraphWriter):
    """Writes the signal form."""

    def __init__(self, flow: Flow, layout: SignalLayout) -> None:
        super().__init__(flow, layout.step)
        self.layout = layout
        self.chunks = {name: name for name in flow.inputs}  # tensor -> what holds its newest indices
        self._late: dict[tuple[str, int], str] = {}
        self._windows: dict[str, str] = {}

    def write(self, more: Json, pack: bool = False) -> Model:
        """The streaming model; arguments and errors as `Writer.write`."""
        flow = self.flow
        parts = {id(part.node): part for part in flow.parts}
        for node in flow.source.nodes:
            part = parts.get(id(node))
            if part is None:
                self.copy(node)
            elif part.outputs and part.outputs[0] in self.layout.delays:
                self._chunk(part)
            else:
                self.copy(node, {name: self.window(name) for name in part.reads if name in self.layout.delays})
        for name in flow.source.outputs:
            if name in self.layout.delays and (found := self.window(name)) != name:
                self._add("Identity", [found], name)
        if pack:
            self.pack()
        return self.finish(more)

    def window(self, name: str) -> str:
        """A tensor on the window that the outputs are for, under its own name where that is free."""
        if name not in self._windows:
            track, late = self.flow.tracks[name], self.layout.late(self.flow.tracks[name], name)
            joined, length = self._remember(name, self.chunks[name], track.length + late - self.layout.chunk(track))
            made = self.cut(joined, track.axis, (length - late - track.length, length - late), length)
            if made in self.flow.inputs or name in self.flow.inputs:
                self._windows[name] = made
            else:
                self._add("Identity", [made], name)
                self._windows[name] = name
        return self._windows[name]

    def _remember(self, name: str, chunk: str, count: int) -> tuple[str, int]:
        """A chunk behind the last so many indices of what came before it, and its length; the chunk's own last ones
        where it is longer than that."""
        track = self.flow.tracks[name]
        length = self.layout.chunk(track)
        if count <= 0:
            return chunk, length
        state = self.begin_state(name, count)
        joined = self.join([state, chunk], self.fresh(f"{name}/remembered"), track.axis)
        self.end_state(state, self.cut(joined, track.axis, (length, length + count), length + count))
        return joined, length + count

    def _delayed(self, name: str, late: int) -> str:
        """A tensor's chunk, so many indices older."""
        if late == 0:
            return self.chunks[name]
        if (name, late) not in self._late:
            track = self.flow.tracks[name]
            joined, length = self._remember(name, self.chunks[name], late)
            self._late[name, late] = self.cut(joined, track.axis, (0, self.layout.chunk(track)), length)
        return self._late[name, late]

    def _chunk(self, part: Part) -> None:
        """A node on the newest indices."""
        rule, delays = part.rule, self.layout.delays
        assert rule is not None, "what has a delay has a rule"
        node, behind = onnx.NodeProto(), self.layout.chunk(rule.track)
        node.CopyFrom(part.node)
        sources = [part.node.input[k] for k in rule.inputs]
        largest = max(delays[name] for name in sources)
        for k, name in zip(rule.inputs, sources, strict=True):
            node.input[k] = self._delayed(name, largest - delays[name])
        if isinstance(rule, Sliding | Sliced):
            node.input[0] = self._reach(sources[0], node.input[0], rule, largest, delays[part.outputs[0]])
        if isinstance(rule, Padded):
            replace(rule, length=behind).fit(node, (rule.begin, rule.begin + behind), self)
        else:
            rule.fit(node, (0, behind), self)
        if isinstance(rule, Sliding):
            pads, axis = list(rule.pads), rule.track.axis - 2
            pads[axis] = pads[axis + len(pads) // 2] = 0
            set_attribute(node, "pads", pads)
        node.name = self.fresh(f"{part.name}/chunk")
        for k, name in enumerate(part.node.output):
            if name:
                node.output[k] = self.chunks[name] = self.fresh(f"{name}/chunk")
        self._nodes.append(node)

    def _reach(self, name: str, chunk: str, rule: Sliding | Sliced, delay: int, behind: int) -> str:
        """What a window that moves reaches for its newest outputs: some of what came before, not quite the newest."""
        track = self.flow.tracks[name]
        extent, pad = _window(rule)
        slack = -delay - 1 - (rule.stride * (-behind - 1) - pad + extent - 1)
        count = extent - rule.stride + slack
        joined, length = self._remember(name, chunk, count)
        return self.cut(joined, track.axis, (max(0, -count), length - slack), length)

    def interiors(self) -> Iterator[Interior]:
        """What can be compared of all that was written, of chunks and of whole windows; not the inputs."""
        made = {name for node in self._nodes for name in node.output}
        for name, delay in self.layout.delays.items():
            track = self.flow.tracks[name]
            length, end = self.layout.chunk(track), track.length - track.right
            if name in self.flow.inputs or track.left >= end:
                continue
            if self._windows.get(name) in made:
                yield Interior(name, self._windows[name], 0, (track.left, end), (track.left, end))
            newest = int(self.layout.end / track.rate) - delay  # index behind the chunk, from the window's begin
            later = max(0, -(-(newest - end) // length))
            newest -= later * length
            low, high = max(track.left, newest - length), min(end, newest)
            if low < high and self.chunks[name] in made:
                part = low - newest + length, high - newest + length
                yield Interior(name, self.chunks[name], later, part, (low, high))
