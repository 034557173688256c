"""A second phase: the model is computed on two interleaved grids from some strided operator on, weights untouched.

A strided operator keeps one phase of the grid and drops the others. Here a copy of it keeps a second one, half a stride
away along each axis (the two together are the quincunx grid), and what follows is computed for both, with the same
weights, up to global pooling or the model's output, where the two are averaged. What the first phase computes is what
the original computes; the second is what it computes for an image that moved by half a stride. The average of two
samplings is a low-pass filter over shifts. It costs what follows once more, where a stage a trous costs it stride^2
times. Source: polyphase components, as in Chaman & Dokmanic 2021, but averaged instead of selected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from aarewrite.errors import CannotHandle
from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.model_file import Model, recorded
from aarewrite.model.shapes import Shapes
from aarewrite.model.types import Node, Tensor, ints
from aarewrite.options import whole
from aarewrite.passes.contract import LowPass, Record, Rewritten, StagePass
from aarewrite.sites.find import node_names
from aarewrite.sites.pooling import covers_map
from aarewrite.sites.reading import Reading
from aarewrite.sites.regions import FLOATS
from aarewrite.sites.site import Located, Site
from aarewrite.windows import Axes

DOUBLE = 11
OLDEST_SLICE_WITH_INPUTS = 10  # before it, Slice has attributes
OLDEST_PAD_WITH_INPUTS = 11


@dataclass(frozen=True)
class Start:
    """Where a second phase begins.

    Attributes:
        site: The site that is sampled at both phases.
        node: Its strided operator, or the blur that samples in its place.
        pad: The Pad node that pads for a blur, None where the operator pads itself.
        begin, end: Pads per spatial axis.
        strides: Per spatial axis.
        blur: The filter, where it samples by other means than a node's strides.
        chain: All its nodes, in graph order.
    """

    site: Site
    node: Node
    pad: Node | None
    begin: Axes
    end: Axes
    strides: Axes
    blur: LowPass | None = None
    chain: tuple[Node, ...] = ()

    @property
    def first(self) -> Node:
        """The node at which the two phases part."""
        return self.chain[0] if self.chain else self.pad if self.pad is not None else self.node


@dataclass(frozen=True)
class Asked:
    """What a recipe may say of it.

    Attributes:
        second_phase: Stride of the map from which on a classifier is computed on two interleaved grids, whose results
            are averaged: 8 begins with the operators that bring the stride to 8, or the nearest there are. 0: none.
    """

    second_phase: int = whole(0)


class SecondPhase(StagePass):
    """What follows `sites`, the strided operators of one stage, at two phases, averaged."""

    name = "second phase"
    key = "aarewrite.second_phase"
    Options = Asked
    entry = ("second_phase", True)
    refusal = "no second phase"
    nowhere = "there is no strided operator of known stride"
    again = "an earlier run added one"

    @classmethod
    def wanted(cls, reading: Reading, asked: Asked) -> Self | None:
        """The operators that bring the stride to the one asked for, or nearest to it."""
        if not asked.second_phase:
            return None
        reached = {place.site.node: there for place in reading.located if (there := _stride_behind(place.site))}
        nearest = min(reached.values(), key=lambda there: abs(math.log2(there / asked.second_phase)), default=0)
        return cls(tuple(name for name, there in reached.items() if there == nearest))

    def check(self, reading: Reading) -> None:
        """What follows these operators can be computed twice."""
        branch(reading, _starts(reading, self.sites))

    def apply(self, reading: Reading, rewritten: Sequence[Rewritten], twin: bool) -> tuple[Reading, Record]:
        """Copy what follows; the record holds the name of each node that samples and that of its copy."""
        filters = {one.located.site.node: one for one in rewritten if not one.located.site.scope}
        return reading, copy_branch(reading, _starts(reading, self.sites, filters), twin)

    def says(self, site: Site) -> str:
        """What follows."""
        return "what follows at two phases, averaged"

    @classmethod
    def earlier(cls, model: Model) -> dict[str, str]:
        """The operators that an earlier run computes at two phases, and their copies."""
        copies = recorded(model, cls.key)
        return dict.fromkeys([*copies, *map(str, copies.values())], "an earlier run computes it at two phases")

    @classmethod
    def cheaper(cls, asked: Asked) -> Sequence[Mapping[str, object]]:
        """From a coarser map on, an octave at a time; not at all."""
        if not asked.second_phase:
            return ()
        return [{"second_phase": asked.second_phase * 2**octave} for octave in range(1, 6)] + [{"second_phase": 0}]


def _stride_behind(site: Site) -> int:
    """The stride of the map that a strided operator of the main graph makes, 0 where it is not known."""
    if site.scope or site.stride_so_far is None or not site.strided:
        return 0
    return max(s * before for s, before in zip(site.strides, site.stride_so_far, strict=True) if s > 1)


def _starts(reading: Reading, names: Sequence[str], filters: Mapping[str, Rewritten] | None = None) -> list[Start]:
    """Where a second phase begins at operators of the main graph."""
    for name in names:
        if ("", name) not in reading.places:
            raise CannotHandle(f"{name}: no strided operator of the main graph", "choose one that keeps its stride")
    starts = [start(reading.editor, reading.places["", name], (filters or {}).get(name)) for name in names]
    forward = _is_forward(starts)
    for one in starts:
        _, *pads = _moved(one, forward, as_twin=False)
        if any(_is_refused(one, side) for side in pads):
            why = "a window of the second phase would lie in the padding alone"
            raise CannotHandle(f"{one.site.node}: {why}", "leave it at one phase")
    return starts


def start(editor: GraphEditor, located: Located, rewritten: Rewritten | None = None) -> Start:
    """A second phase that begins where a site samples: at the filter that was inserted there, if that is strided, else
    at its operator.

    Raises:
        CannotHandle: The site cannot be sampled at a second phase; the message says why.
    """
    site = located.site
    why = ""
    if site.scope:
        why = "it is inside a function or body"
    elif site.dense is None:
        why = site.obstacle or "its pads are not known"
    elif site.quantised:
        why = "its map is quantised"
    elif not site.strided:
        why = "stride 1: there is one phase only"
    if why or site.dense is None:
        raise CannotHandle(f"{site.node}: {why}", "leave it at one phase")
    n = len(site.strides)
    node = _sampling_node(located, rewritten.filter if rewritten else "")
    if rewritten and (blur := rewritten.match.blur).moves_itself and max(blur.strides) > 1:
        made = (one for one in located.scope.nodes if one.name.startswith(f"{site.node}/blur/"))
        chain = tuple(one for one in made if not editor.is_constant(one.outputs[0]))
        return Start(site, chain[-1], None, (0,) * n, (0,) * n, blur.strides, blur, chain)
    if node is located.node:
        return Start(site, node, None, site.dense.begin, site.dense.end, site.strides)
    producer = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
    own = producer is not None and producer.op == "Pad" and producer.name.startswith(f"{site.node}/blur/")
    pad = producer if own else None
    if pad is None:
        pads = ints(node, "pads")
    else:
        given = editor.constant_value(pad.inputs[1]) if len(pad.inputs) > 1 else None
        amounts = ints(pad, "pads") if given is None else [int(amount) for amount in given]
        pads = amounts[2 : n + 2] + amounts[n + 4 :]
    return Start(site, node, pad, tuple(pads[:n]), tuple(pads[n:]), tuple(ints(node, "strides")))


def _sampling_node(located: Located, filter: str) -> Node:
    blur = next((node for node in located.scope.nodes if filter and node.name == filter), None)
    return blur if blur is not None and max(ints(blur, "strides", [1])) > 1 else located.node


def branch(reading: Reading, starts: Sequence[Start]) -> tuple[list[Node], list[Tensor]]:
    """Everything that depends on the operators that sample, in graph order, and the tensors where both phases can be
    averaged.

    Raises:
        CannotHandle: It cannot be computed twice; the message names the node and the reason.
    """
    editor, shapes, main = reading.editor, reading.shapes, reading.main
    names = node_names(editor)
    first = {id(one.first) for one in starts}
    phased: set[str] = set()
    nodes, meets = list[Node](), list[Tensor]()
    for node in main.nodes:
        name = names[id(node)]
        if id(node) in first:
            if any(tensor.name in phased for tensor in node.inputs):
                raise CannotHandle(f"{name}: it is behind another second phase", "choose one stride")
        elif not any(tensor.name in phased for tensor in node.inputs):
            continue
        else:
            single = [t for t in node.inputs if t.name and t.name not in phased and not editor.is_constant(t)]
            if any(_is_map(shapes, main, tensor) for tensor in single):
                raise CannotHandle(f"{name}: it joins both phases with a map of one", "name all operators of the stage")
        nodes.append(node)
        if covers_map(editor, shapes, main, node):
            meets.append(node.outputs[0])
        else:
            phased |= {tensor.name for tensor in node.outputs if tensor.name}
    captured = {t.name for scope in editor.scopes if scope.parent is not None for n in scope.nodes for t in n.inputs}
    if phased & captured:
        raise CannotHandle(f"{sorted(phased & captured)[0]}: an If, Loop or Scan reads it", "leave it at one phase")
    for output in main.graph.outputs:
        if output.name in phased:
            if _is_map(shapes, main, output):
                raise CannotHandle(f"{output.name}: the output is a map", "leave it at one phase")
            if shapes.of(main, output).dtype not in FLOATS:
                raise CannotHandle(f"{output.name}: the output is no float to average", "leave it at one phase")
            meets.append(output)
    if not meets:
        raise CannotHandle("nothing that depends on it is an output", "leave it at one phase")
    return nodes, meets


def copy_branch(reading: Reading, starts: Sequence[Start], as_twin: bool) -> dict[str, str]:
    """Compute what follows `starts` at a second phase and average the two.

    In the twin the second phase is the first one, so that every value is the original's.

    Returns:
        The name of each node that samples -> that of its copy.

    Raises:
        CannotHandle: As `branch`.
    """
    editor, main = reading.editor, reading.main
    nodes, meets = branch(reading, starts)
    beginnings = {id(one.first): one for one in starts}
    parts = {id(node): one for one in starts for node in one.chain}
    chains: dict[int, list[Node]] = {}
    sampling = {id(one.node) for one in starts}
    forward = _is_forward(starts)
    copies: dict[str, Tensor] = {}
    moved = []
    for node in nodes:
        copy = editor.copy(node, "phase2", [copies.get(tensor.name, tensor) for tensor in node.inputs])
        one = beginnings.get(id(node))
        crops = _shift(editor, main, copy, one, forward, as_twin) if one is not None and not one.chain else []
        if id(node) in parts:
            chains.setdefault(id(parts[id(node)]), []).append(copy)
        if id(node) in sampling:
            moved.append((node, copy))
        editor.insert_after(main, node, [*crops, copy])
        copies |= {t.name: c for t, c in zip(node.outputs, copy.outputs, strict=True) if t.name}
    for one in starts:
        if one.blur is not None:
            one.blur.move(editor, main, chains[id(one)], _steps(one, as_twin))
    for tensor in meets:
        producer = tensor.inputs[0]
        both = copies[tensor.name]
        op = "Max" if producer.op in ("GlobalMaxPool", "MaxPool", "ReduceMax") else "Mean"
        alone = editor.take_over(main, tensor, "phase1")
        phases, average = [alone, both], []
        if op == "Mean" and reading.shapes.of(main, tensor).dtype == DOUBLE:  # for which ONNX Runtime has no Mean
            total = editor.variable(f"{tensor.name}/total")
            average = [editor.node("Add", f"{tensor.name}/add", phases, [total])]
            op, phases = "Mul", [total, editor.constant(main, f"{tensor.name}/half", np.array(0.5), DOUBLE)]
        average.append(editor.node(op, f"{tensor.name}/both_phases", phases, [tensor]))
        editor.insert_after(main, both.inputs[0], average)
    names = node_names(editor)
    return {names[id(node)]: names[id(copy)] for node, copy in moved}


def _is_map(shapes: Shapes, scope: Scope, tensor: Tensor) -> bool:
    """Whether a tensor has, or may have, more than one position per channel."""
    dims = shapes.of(scope, tensor).dims
    return dims is None or (len(dims) > 2 and any(size != 1 for size in dims[2:]))


def _is_forward(starts: Sequence[Start]) -> bool:
    """Whether the second phase is to the right of the first: it is to the left where only the pads there allow it
    (TensorFlow's SAME has one at the end), so that no operator needs more padding than it has."""
    rows = [row for one in starts for row in zip(one.begin, one.end, one.strides, strict=True)]
    return all(begin >= s // 2 for begin, _, s in rows) or not all(end >= s // 2 for _, end, s in rows)


def _steps(one: Start, as_twin: bool) -> Axes:
    """Half a stride, per spatial axis."""
    return tuple(0 if as_twin else stride // 2 for stride in one.strides)


def _shift(editor: GraphEditor, scope: Scope, copy: Node, one: Start, forward: bool, as_twin: bool) -> list[Node]:
    """Move a copied operator by half a stride through its pads; returns what has to crop its input first."""
    cropped, begin, end = _moved(one, forward, as_twin)
    if copy.op == "Pad":
        _set_pads(editor, scope, copy, one, begin, end)
    else:
        editor.set_attributes(copy, pads=[*begin, *end], auto_pad=None, ceil_mode=None)
    if not any(cropped):
        return []
    crop = _crop(editor, scope, copy.inputs[0], copy.name, cropped, forward)
    copy.inputs[0] = crop.outputs[0]
    return [crop]


def _moved(one: Start, forward: bool, as_twin: bool) -> tuple[Axes, Axes, Axes]:
    """How much of its input an operator that is moved by half a stride drops at the near border, and its pads at begin
    and end."""
    steps = _steps(one, as_twin)
    near, far = (one.begin, one.end) if forward else (one.end, one.begin)
    cropped = tuple(max(0, step - pad) for step, pad in zip(steps, near, strict=True))
    near = tuple(max(0, pad - step) for step, pad in zip(steps, near, strict=True))
    far = tuple(pad + step for step, pad in zip(steps, far, strict=True))
    sizes = [n for n in (*one.site.input_size, *one.site.output_size) if n is not None]
    if _is_refused(one, far) and len(sizes) == 2 * len(far):  # no more than the last window needs
        rows = zip(sizes, sizes[len(far) :], one.strides, one.site.window.extent, strict=False)
        needed = [(after - 1) * s + k - before for before, after, s, k in rows]
        far = tuple(max(0, min(f, n + c - b)) for f, n, c, b in zip(far, needed, cropped, near, strict=True))
    return (cropped, near, far) if forward else (cropped, far, near)


def _is_refused(one: Start, pads: Axes) -> bool:
    """Whether ONNX Runtime refuses these pads: it does where a pool's are as wide as its window."""
    kernel = one.site.window.kernel
    is_pool = one.node.op == one.site.op and one.site.kind != "conv"
    return is_pool and any(pad >= k for pad, k in zip(pads, kernel, strict=True))


def _set_pads(editor: GraphEditor, scope: Scope, pad: Node, one: Start, begin: Axes, end: Axes) -> None:
    """Change how much a copied Pad node pads; a map that may be too small to reflect is padded with its edge."""
    amounts = [0, 0, *begin, 0, 0, *end]
    sizes = [None if n is None else n * s for n, s in zip(one.site.output_size, one.site.strides, strict=True)]
    if any(n is None or n <= max(b, e) + 1 for n, b, e in zip(sizes, begin, end, strict=True)):
        editor.set_attributes(pad, mode="edge")
    if scope.opset < OLDEST_PAD_WITH_INPUTS:
        editor.set_attributes(pad, pads=amounts)
    else:
        pad.inputs[1] = editor.constant(scope, f"{pad.name}/pads", np.array(amounts), 7)


def _crop(editor: GraphEditor, scope: Scope, tensor: Tensor, name: str, counts: Sequence[int], forward: bool) -> Node:
    """A Slice that drops samples at the near border of each spatial axis."""
    kept = [(axis, count) for axis, count in enumerate(counts, start=2) if count]
    axes = [axis for axis, _ in kept]
    starts = [count if forward else 0 for _, count in kept]
    ends = [2**31 - 1 if forward else -count for _, count in kept]
    output = editor.variable(f"{tensor.name}/phase2")
    if scope.opset < OLDEST_SLICE_WITH_INPUTS:
        return editor.node("Slice", f"{name}/crop", [tensor], [output], axes=axes, starts=starts, ends=ends)
    values = [
        editor.constant(scope, f"{name}/crop/{what}", np.array(value, np.int64), 7)
        for what, value in (("starts", starts), ("ends", ends), ("axes", axes))
    ]
    return editor.node("Slice", f"{name}/crop", [tensor, *values], [output])
