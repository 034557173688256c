"""Decisions that concern a whole stage: its stride removed (a trous), or what follows computed at a second phase."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aarewrite.errors import CannotHandle
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import recorded
from aarewrite.model.shapes import Shapes
from aarewrite.passes import a_trous, second_phase
from aarewrite.passes.blur_geometry import A_TROUS, Choice, keep
from aarewrite.sites.find import Located, find

InputShapes = Mapping[str, Sequence[int]]


def with_last_stage(
    editor: GraphEditor, located: list[Located], choices: list[Choice], input_shapes: InputShapes, left: Collection[str]
) -> tuple[list[Choice], GraphEditor, list[str]]:
    """The choices with the last stage a trous and the graph that they make, or the same ones and a note on why it
    keeps its stride; `left` are the sites that the user wants left alone."""
    stage = a_trous.last_stage(editor)
    why = "" if stage else "no strided conv is the last to downsample"
    if asked := [name for name in stage if name in left]:
        why = f"{asked[0]} is left out on request"
    if recorded(editor.model, "aarewrite.a_trous"):
        why = "an earlier run left a stage a trous"
    finer = editor
    try:
        finer = editor if why else a_trous.applied(editor.model, stage, input_shapes)
    except CannotHandle as error:
        why = error.message
    if why:
        return choices, editor, [f"the last stage keeps its stride: {why}"]
    return _marked(located, choices, stage, action=A_TROUS, reason=""), finer, []


def with_second_phase(
    editor: GraphEditor,
    located: list[Located],
    choices: list[Choice],
    input_shapes: InputShapes,
    stride: int,
    left: Collection[str],
) -> tuple[list[Choice], list[str]]:
    """The choices with a second phase from the operators on that bring the stride to `stride`, or nearest to it, or
    the same ones and a note on why not.

    `editor` is the graph with the last stage a trous, if it is.
    """
    reached = {place.site.node: there for place in located if (there := _stride_behind(place))}
    nearest = min(reached.values(), key=lambda there: abs(math.log2(there / stride)), default=0)
    stage = [name for name, there in reached.items() if there == nearest]
    why = "" if stage else "there is no strided operator of known stride"
    if asked := [name for name in stage if name in left]:
        why = f"{asked[0]} is left out on request"
    if recorded(editor.model, "aarewrite.second_phase"):
        why = "an earlier run added one"
    try:
        if not why:
            branch(editor, input_shapes, stage)
    except CannotHandle as error:
        why = error.message
    if why:
        return choices, [f"no second phase: {why}"]
    return _marked(located, choices, stage, second_phase=True), []


def branch(editor: GraphEditor, input_shapes: InputShapes, names: Collection[str]) -> second_phase.Branch:
    """What the strided operators `names` would have computed twice.

    Raises:
        CannotHandle: It cannot be.
    """
    shapes = Shapes(editor, input_shapes)
    places = [p for p in find(editor, shapes)[0] if not p.site.scope and p.site.node in names]
    if missing := sorted(set(names) - {place.site.node for place in places}):
        raise CannotHandle(f"{missing[0]}: no strided operator of the main graph", "choose one that keeps its stride")
    return second_phase.branch(editor, shapes, [second_phase.start(editor, place) for place in places])


def left_at_one_phase(editor: GraphEditor, located: list[Located], choices: list[Choice]) -> list[Choice]:
    """The choices without the operators, and their copies, that an earlier run computes at two phases."""
    earlier = recorded(editor.model, "aarewrite.second_phase")
    done = {*earlier, *earlier.values()}
    return [
        keep("an earlier run computes it at two phases", choice)
        if place.site.node in done and not place.site.scope
        else choice
        for place, choice in zip(located, choices, strict=True)
    ]


def _stride_behind(place: Located) -> int:
    """The stride of the map that a strided operator of the main graph makes, 0 where it is not known."""
    site = place.site
    if site.scope or site.stride_so_far is None or not site.strided:
        return 0
    return max(s * before for s, before in zip(site.strides, site.stride_so_far, strict=True) if s > 1)


def _marked(located: list[Located], choices: list[Choice], stage: Collection[str], **changes: Any) -> list[Choice]:
    return [
        dataclasses.replace(choice, **changes) if not place.site.scope and place.site.node in stage else choice
        for place, choice in zip(located, choices, strict=True)
    ]
