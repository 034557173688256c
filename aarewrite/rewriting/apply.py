"""Applying a plan: the one loop over the registry; it names no pass."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

import onnx

from aarewrite import planning
from aarewrite.errors import UsageError
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import Model, load, recorded
from aarewrite.passes import REGISTRY
from aarewrite.passes.contract import GraphPass, Match, Rewritten, SitePass, StagePass
from aarewrite.planning import PlannedSite
from aarewrite.rewriting.checks import check
from aarewrite.sites.reading import InputShapes, Reading
from aarewrite.version import __version__

BLURS = "aarewrite.blurs"  # key of the metadata: name of each blur's node -> where it comes from


@dataclass(frozen=True)
class Plan(planning.Plan):
    """A plan that can be applied."""

    def apply(self, model: onnx.ModelProto | Model | str) -> onnx.ModelProto:
        """The model rewritten by this plan (a copy, folded and checked, not proven).

        Raises:
            UsageError: A planned site is not in this model.
            CannotHandle: The model cannot be represented.
            CheckFailed: The result is not valid ONNX.
        """
        loaded = load(model)
        rewritten = applied(self, loaded)
        check(loaded, rewritten)
        return rewritten.to_proto()


def open_reading(model: Model, input_shapes: InputShapes | None = None) -> Reading:
    """The model's graph, with what the registry folds first: nothing is known of shapes behind computed pads otherwise.

    Raises:
        CannotHandle: The model cannot be represented.
    """
    reading = Reading(GraphEditor(model))
    for kind in takewhile(lambda kind: issubclass(kind, GraphPass), REGISTRY):
        if issubclass(kind, GraphPass) and kind().apply(reading, ()):
            reading = reading.again()
    return dataclasses.replace(reading, input_shapes=dict(input_shapes or {}))


def applied(planned: planning.Plan, model: onnx.ModelProto | Model | str, twin: bool = False) -> Model:
    """A model rewritten by a plan. Arguments and errors as of `apply_plan`."""
    return apply_plan(planned, open_reading(load(model), planned.input_shapes), twin)


def apply_plan(planned: planning.Plan, reading: Reading, twin: bool = False) -> Model:
    """Apply a plan to a graph, pass by pass in the registry's order. In the twin every filter passes one tap through,
    and it leaves out the sites whose operator the plan changes.

    Args:
        planned: The plan.
        reading: Of `open_reading`; its graph is changed.
        twin: Whether to make the proof's twin.

    Raises:
        UsageError: A planned site is not in the model.
        CannotHandle: A stage cannot be applied.
    """
    original = reading.model
    if not planned.changes:
        return original
    rewritten: list[Rewritten] = []
    origins: dict[str, object] = {}
    records: dict[str, object] = {}
    sites_done = False
    for kind in REGISTRY:
        if issubclass(kind, SitePass):
            if not sites_done:
                origins = dict(_apply_sites(planned, reading, rewritten, twin))
                sites_done = True
        elif issubclass(kind, GraphPass):
            if sites_done:
                kind().apply(reading, rewritten)
        else:
            for stage in planned.stages:
                if type(stage) is kind:
                    reading, records[stage.key] = _apply_stage(stage, reading, rewritten, twin)
    if not twin:
        reading.editor.metadata = {
            "aarewrite.version": __version__,
            "aarewrite.recipe": json.dumps(planned.recipe.to_dict()),
            BLURS: json.dumps(recorded(original, BLURS) | origins),
        } | {key: json.dumps(record) for key, record in records.items()}
    return reading.editor.export()


def _apply_stage(stage: StagePass, reading: Reading, rewritten: list[Rewritten], twin: bool) -> tuple[Reading, object]:
    for name in stage.sites:
        if ("", name) not in reading.places:
            raise _missing(name)
    return stage.apply(reading, rewritten, twin)


def _apply_sites(
    planned: planning.Plan, reading: Reading, rewritten: list[Rewritten], twin: bool
) -> Iterator[tuple[str, object]]:
    """Every site in graph order; yields the name of each blur's node and where it comes from."""
    for entry in planned.rewrites:
        match = entry.match
        assert match is not None, "a plan's rewrites have a match"
        place = reading.places.get((entry.site.scope, entry.site.node))
        if place is None:
            raise _missing(entry.site.node)
        if twin and not match.proven:
            continue
        match = match.twin() if twin else match
        name = entry.do.apply(reading.editor, place, match)
        rewritten.append(Rewritten(place, match, name))
        yield name, _origin(entry, match)


def _missing(node: str) -> UsageError:
    return UsageError(f"plan: site {node!r} is not in this model", "make a plan for this model")


def _origin(entry: PlannedSite, match: Match) -> dict[str, object]:
    site = entry.site
    return {
        "scope": site.scope,
        "node": site.node,
        "op": site.op,
        "strides": list(site.strides),
        "placement": entry.do.name,
    } | match.blur.record()
