"""Applying a plan: the one loop over the registry; it names no pass."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from itertools import dropwhile, takewhile

import onnx

from aarewrite import planning
from aarewrite.errors import UsageError
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import Model, load, recorded
from aarewrite.passes import REGISTRY
from aarewrite.passes.contract import GraphPass, Rewritten, StagePass
from aarewrite.rewriting.checks import check
from aarewrite.rewriting.lower import lower
from aarewrite.sites.existing_blurs import BLURS
from aarewrite.sites.reading import InputShapes, Reading
from aarewrite.sites.site import Located
from aarewrite.version import __version__


@dataclass(frozen=True)
class Plan(planning.Plan):
    """A plan that can be applied."""

    def apply(self, model: onnx.ModelProto | Model | str) -> onnx.ModelProto:
        """The model rewritten by this plan (a copy, folded, lowered and checked, not proven). Errors as of `load`,
        `apply_plan` and `check`."""
        loaded = load(model)
        rewritten, _ = lower(applied(self, loaded), loaded, self.recipe.target, verify=False)
        check(loaded, rewritten, self.frames, self.more_outputs)
        return rewritten.to_proto()


def open_reading(model: Model, input_shapes: InputShapes | None = None) -> Reading:
    """The model's graph, with what the registry folds first: nothing is known of shapes behind computed pads otherwise.
    Errors as of `GraphEditor`."""
    reading, tidied, dearer = Reading(GraphEditor(model)), dict[str, int](), None
    for kind in takewhile(lambda kind: issubclass(kind, GraphPass), REGISTRY):
        assert issubclass(kind, GraphPass)
        while count := kind().apply(reading, ()):
            tidied[kind.told] = tidied.get(kind.told, 0) + count
            dearer = dearer or (reading.model if kind.saves else None)
            reading = reading.again()  # with it, more shapes are known
    return dataclasses.replace(reading, input_shapes=dict(input_shapes or {}), tidied=tidied, dearer=dearer)


def applied(planned: planning.Plan, model: onnx.ModelProto | Model | str, twin: bool = False) -> Model:
    """A model rewritten by a plan. Arguments and errors as of `apply_plan`."""
    return apply_plan(planned, open_reading(load(model), planned.input_shapes), twin)[1]


def apply_plan(planned: planning.Plan, reading: Reading, twin: bool = False) -> tuple[GraphEditor, Model]:
    """Apply a plan to a graph, pass by pass in the registry's order. In the twin every filter passes one tap through,
    and it leaves out the sites whose operator the plan changes.

    Args:
        planned: The plan.
        reading: Of `open_reading`; its graph is changed.
        twin: Whether to make the proof's twin.

    Returns:
        The graph as it is then, and the model that it makes: the original where nothing changes.

    Raises:
        UsageError: A planned site is not in the model.
        CannotHandle: A stage cannot be applied.
    """
    original = reading.model
    if not planned.changes:
        return reading.editor, original
    rewritten: list[Rewritten] = []
    origins: dict[str, object] = {}
    records: dict[str, object] = {}
    sites_done = False
    for kind in dropwhile(lambda kind: issubclass(kind, GraphPass), REGISTRY):
        if issubclass(kind, GraphPass):
            kind().apply(reading, rewritten)
        elif issubclass(kind, StagePass):
            for stage in planned.stages:
                if type(stage) is kind:
                    for name in stage.sites if stage.at_sites else ():
                        _place(reading, "", name)
                    reading, records[stage.key] = stage.apply(reading, twin)
        elif not sites_done:  # all site passes at once, in the graph's order
            origins, sites_done = _apply_sites(planned, reading, rewritten, twin), True
    if not twin:
        reading.editor.metadata = {
            "aarewrite.version": __version__,
            "aarewrite.recipe": json.dumps(planned.recipe.to_dict()),
            BLURS: json.dumps(recorded(original, BLURS) | origins),
        } | {key: json.dumps(record) for key, record in records.items()}
    return reading.editor, reading.editor.export()


def _apply_sites(planned: planning.Plan, reading: Reading, rewritten: list[Rewritten], twin: bool) -> dict[str, object]:
    """Rewrite every site in graph order; returns the name of each blur's node and where it comes from."""
    origins: dict[str, object] = {}
    for entry in planned.rewrites:
        site, match = entry.site, entry.match
        assert match is not None, "a plan's rewrites have a match"
        place = _place(reading, site.scope, site.node)
        if twin and not match.proven:
            continue
        match = match.twin() if twin else match
        name = entry.do.apply(reading.editor, place, match)
        rewritten.append(Rewritten(place, match, name))
        origins[name] = {
            "scope": site.scope,
            "node": site.node,
            "op": site.op,
            "strides": list(site.strides),
            "placement": entry.do.name,
        } | match.blur.record()
    return origins


def _place(reading: Reading, scope: str, node: str) -> Located:
    if (scope, node) not in reading.places:
        raise UsageError(f"plan: site {node!r} is not in this model", "make a plan for this model")
    return reading.places[scope, node]
