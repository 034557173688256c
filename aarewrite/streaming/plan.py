"""What a step does, as values: a row for every node, and the sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import prod

import onnx

from aarewrite.errors import CannotHandle
from aarewrite.options import Json
from aarewrite.streaming.flow import BEHIND, Flow, Part, sizes
from aarewrite.streaming.layout import Layout, Planner
from aarewrite.streaming.signal import SignalLayout, SignalWriter
from aarewrite.streaming.tracks import Range

LEAST_SAVING = 1.3
ONE_VALUE = "it makes one value of the whole window"


@dataclass(frozen=True)
class Row:
    """A node."""

    node: str
    op: str
    length: int  # indices of its outputs along the stream, 0 where they do not lie along it
    pieces: tuple[Range, ...]  # which of them a step computes
    state: Range | None  # which are kept
    macs: int  # of a whole window
    work: float  # of a step
    reason: str = ""  # why it computes the whole window
    forced: bool = False  # whether it has to


@dataclass(frozen=True)
class StreamPlan:
    """A model's step."""

    input: str
    axis: int
    window: int  # samples
    step: int
    first_valid: int  # steps until outputs are right
    form: str
    work: float  # multiply-accumulates of a step
    window_work: int  # of a whole window
    state_bytes: int  # at batch size 1
    rows: tuple[Row, ...]
    inputs: dict[str, int]  # every streamed input and its axis
    latency: int = 0  # samples between the end of the window that outputs are for and the newest one

    @property
    def saving(self) -> float:
        """How many times less work a step is than a window."""
        return self.window_work / self.work if self.work else float("inf")

    @property
    def refusal(self) -> str:
        """Why it is not worth it, "" where it is."""
        if self.saving >= LEAST_SAVING:
            return ""
        first = next((row for row in self.rows if row.forced), None)
        where = f": node {first.node!r} ({first.op}) is computed on the whole window: {first.reason}" if first else ""
        return f"a step of {self.step} would take {self.work / max(1, self.window_work):.2f} of a window's work{where}"

    def check(self) -> None:
        """Refuse what saves too little.

        Raises:
            CannotHandle: The message names the first node that is computed on the whole window.
        """
        if self.refusal:
            raise CannotHandle(self.refusal, "use a smaller step, a longer window, or run the model as it is")

    def to_dict(self) -> Json:
        """Plain values for JSON."""
        return asdict(self) | {"saving": round(self.saving, 4), "rows": [asdict(row) for row in self.rows]}


def plan_of(flow: Flow, planner: Planner, layout: Layout) -> StreamPlan:
    """The plan of a layout of the exact form."""
    bits = sum(_bytes(flow, name, high - low) for name, (low, high) in layout.states.items())
    return StreamPlan(
        flow.input, flow.inputs[flow.input], flow.window, planner.step, -(-flow.window // planner.step), "exact",
        layout.work, planner.work, bits, tuple(_rows(flow, planner, layout)), dict(flow.inputs),
    )  # fmt: skip


def signal_plan(flow: Flow, layout: SignalLayout) -> StreamPlan:
    """The plan of a layout of the signal form."""
    writer = SignalWriter(flow, layout)
    states = writer.write({}).proto.graph.input
    held = [value.type.tensor_type for value in states if value.name in writer.states]
    bits = sum(
        onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
        * prod(dim.dim_value or 1 for dim in kind.shape.dim)
        for kind in held
    )
    return StreamPlan(
        flow.input, flow.inputs[flow.input], flow.window, layout.step, layout.first_valid, "signal", layout.work,
        layout.window_work, bits, tuple(_signal_rows(flow, layout)), dict(flow.inputs), layout.latency,
    )  # fmt: skip


def _signal_rows(flow: Flow, layout: SignalLayout) -> Iterator[Row]:
    for part, cost in zip(flow.parts, layout.costs, strict=True):
        rule = part.rule
        if rule is None or part.outputs[0] not in layout.delays:
            reason = part.fit if isinstance(part.fit, str) else _why_no_chunks(part, layout)
            yield Row(part.name, part.node.op_type, 0, (), None, cost, cost, reason, bool(reason))
            continue
        track = rule.track
        piece = track.length - layout.chunk(track), track.length
        work = cost * layout.chunk(track) / track.length
        yield Row(part.name, part.node.op_type, track.length, (piece,), None, cost, work)


def _why_no_chunks(part: Part, layout: SignalLayout) -> str:
    """Why a node with a rule is computed on the whole window in the signal form; "" where it reads a part of it."""
    assert part.rule is not None, "without one its own reason is said"
    if part.rule.ends:
        return ""
    if not all(part.node.input[k] in layout.delays for k in part.rule.inputs):
        return BEHIND
    if part.rule.track.length == 1:
        return ONE_VALUE
    return "in this form it has no rule of its own"


def _rows(flow: Flow, planner: Planner, layout: Layout) -> Iterator[Row]:
    for k, part in enumerate(flow.parts):
        pieces = layout.pieces.get(k)
        if pieces is None:
            continue
        rule = part.rule
        if rule is None or rule.ends:
            reason = "" if rule else str(part.fit)
            yield Row(part.name, part.node.op_type, 0, (), None, planner.macs[k], planner.macs[k], reason, rule is None)
            continue
        length = rule.track.length
        state = next((layout.states[name] for name in part.outputs if name in layout.states), None)
        work = planner.macs[k] * sum(high - low for low, high in pieces) / length
        whole = pieces == ((0, length),)
        reason, forced = _why_whole(part, planner), rule.track.kept(planner.step) is None
        yield Row(
            part.name, part.node.op_type, length, pieces, state, planner.macs[k], work, reason if whole else "",
            whole and forced,
        )  # fmt: skip


def _why_whole(part: Part, planner: Planner) -> str:
    assert part.rule is not None, "it has pieces"
    track = part.rule.track
    if track.length == 1:
        return ONE_VALUE
    if track.kept(planner.step) is None:
        moved = track.moved(planner.step)
        return f"its borders ({track.left} and {track.right}) and the step ({moved}) cover its {track.length}"
    return "what is read of it costs less to compute than to keep"


def _bytes(flow: Flow, name: str, length: int) -> int:
    size = _size(flow.source.types[name].dtype)
    return size * prod(d if isinstance(d, int) else 1 for d in sizes(flow, name, length))


def _size(kind: int) -> int:
    """Bytes of a value of an element type."""
    return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)
