"""load -> find sites -> plan -> apply -> fold -> prove: the whole way, on values."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from aarewrite.errors import CannotHandle, CheckFailed, UsageError
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import Model, load, recorded
from aarewrite.model.runtime import quiet_libraries
from aarewrite.model.shapes import Shapes
from aarewrite.passes import BY_PLACEMENT, a_trous, fold_padding, merge_box, second_phase
from aarewrite.passes.blur_geometry import A_TROUS, Rewrite, realise, twin
from aarewrite.planning import Plan, PlannedSite, make_plan, replan
from aarewrite.recipe import Recipe, load_recipe
from aarewrite.rewriting.checks import check
from aarewrite.rewriting.proof import Claim, Proof, prove
from aarewrite.sites.find import Located, find
from aarewrite.version import __version__

ModelSource = str | os.PathLike[str] | onnx.ModelProto | Model


@dataclass
class Result:
    """What `rewrite` returns.

    Attributes:
        plan: Every site with its decision.
        rewritten: The rewritten model with its weights set aside (as loaded where nothing is to be changed).
        proof: The identity proof and the result's run; None where it was not asked for or nothing changed.
        warnings: What the user should know about the model, e.g. that the original is not valid ONNX.
    """

    plan: Plan
    rewritten: Model
    proof: Proof | None = None
    warnings: tuple[str, ...] = ()
    _complete: onnx.ModelProto | None = field(default=None, repr=False)

    @property
    def changed(self) -> bool:
        """Whether any site was rewritten."""
        return self.plan.changes

    @property
    def model(self) -> onnx.ModelProto:
        """The complete rewritten ModelProto."""
        if self._complete is None:
            self._complete = self.rewritten.to_proto()
        return self._complete

    @property
    def report(self) -> dict[str, Any]:
        """Plan and proof as plain values, as `--json` writes them."""
        proof = self.proof.to_dict() if self.proof else None
        return self.plan.to_dict() | {"changed": self.changed, "proof": proof, "model_warnings": list(self.warnings)}


def rewrite(
    model: ModelSource,
    recipe: str | Path | Recipe = "aligned",
    *,
    filter: int | None = None,
    pad: str | None = None,
    placement: str | None = None,
    first_conv: bool | None = None,
    max_window: int | str | None = None,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    plan: Plan | Mapping[str, Any] | None = None,
    verify: bool = True,
) -> Result:
    """Rewrite a model into its anti-aliased version, and prove that every blur is in its place.

    Args:
        model: Path of an .onnx file, or a ModelProto, which is left as it is.
        recipe: "aligned", "zhang2019", "zhang2019-resnet", "timm", "composer", a TOML file, or a `Recipe`.
        filter: Taps per subsampled axis, 1..7; None: the recipe's.
        pad: "reflect", "edge" or "zero"; None: the recipe's.
        placement: "after" or "before" strided convs; None: the recipe's.
        first_conv: Whether the first conv is blurred; None: the recipe's.
        max_window: "keep" or the largest MaxPool window; None: the recipe's.
        only, skip: Globs over node names.
        input_shapes: Input name -> shape, for sizes that the model leaves open.
        plan: A plan to apply instead of making one; the arguments above it are then not used.
        verify: Run the identity proof and the rewritten model.

    Raises:
        UsageError: An argument is wrong.
        CannotHandle: The model cannot be read, represented or run.
        CheckFailed: The proof failed or the result is not valid.
    """
    quiet_libraries()
    loaded = load(model)
    editor = open_graph(loaded)
    if isinstance(plan, Plan):
        planned = plan
    elif plan is not None:
        planned = replan(editor, plan)
    else:
        options = recipe_options(load_recipe(recipe), filter, pad, placement, first_conv, max_window)
        planned = make_plan(editor, options, input_shapes, tuple(only), tuple(skip))
    if not planned.changes:
        return Result(planned, loaded)
    rewritten = apply_plan(planned, loaded, editor)
    warnings = check(loaded, rewritten)
    proof = None
    if verify:
        twin_model = apply_plan(planned, loaded, as_twin=True)
        proof = prove(loaded, twin_model, rewritten, claim(planned))
        if not proof.passed:
            raise CheckFailed(proof.failure, "nothing was written; please report the model's construct")
    return Result(planned, rewritten, proof, warnings)


def claim(planned: Plan) -> Claim:
    """What the proof is to show of a plan."""
    rewrites = planned.rewrites
    return Claim(
        input_shapes=planned.input_shapes,
        watched=tuple(p.map_name for p in rewrites if not p.site.scope and p.map_name),
        unproven=tuple(p.site.node for p in rewrites if p.rewrite and not p.rewrite.proven),
        in_branches=any(p.site.scope for p in rewrites),
    )


def plan(
    model: ModelSource,
    recipe: str | Path | Recipe = "aligned",
    *,
    filter: int | None = None,
    pad: str | None = None,
    placement: str | None = None,
    first_conv: bool | None = None,
    max_window: int | str | None = None,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Plan:
    """What `rewrite` would do with a model, as a value to print, save, edit and apply. Arguments as there."""
    quiet_libraries()
    options = recipe_options(load_recipe(recipe), filter, pad, placement, first_conv, max_window)
    return make_plan(open_graph(load(model)), options, input_shapes, tuple(only), tuple(skip))


def open_graph(model: Model) -> GraphEditor:
    """The model's graph with computed pads folded, for nothing is known of the shapes behind them otherwise."""
    editor = GraphEditor(model)
    if not fold_padding.candidates(editor) or not fold_padding.apply(editor, Shapes(editor)):
        return editor
    return GraphEditor(editor.export())


def recipe_options(
    recipe: Recipe,
    filter: int | None,
    pad: str | None,
    placement: str | None,
    first_conv: bool | None,
    max_window: int | str | None,
) -> Recipe:
    """A recipe with the command line's options in place of its own values."""
    if placement not in (None, "after", "before"):
        raise UsageError(f"placement {placement!r} is not one of after, before")
    window: int | None = None
    if max_window is not None:
        if max_window != "keep" and not (str(max_window).isdigit() and int(max_window) > 0):
            raise UsageError(f"max_window {max_window!r} is neither keep nor a window size")
        window = 0 if max_window == "keep" else int(max_window)
    return recipe.with_options(filter=filter, pad=pad, conv=placement, first_conv=first_conv, max_window=window)


def apply_plan(planned: Plan, model: ModelSource, editor: GraphEditor | None = None, as_twin: bool = False) -> Model:
    """Apply a plan to a model: every rewrite, then the folds. In the twin every filter passes one tap through, and
    it leaves out the sites whose operator the plan changes.

    Raises:
        UsageError: A planned site is not in the model or cannot be rewritten there.
        CannotHandle: The model cannot be represented.
    """
    quiet_libraries()
    loaded = load(model)
    if not planned.changes:
        return loaded
    editor = editor or open_graph(loaded)
    stages = {p.site.node: list(p.site.strides) for p in planned.sites if p.choice.action == A_TROUS}
    if stages:
        editor = a_trous.applied(editor.model, stages, planned.input_shapes, as_twin)
    shapes = Shapes(editor, planned.input_shapes)
    places = {(place.site.scope, place.site.node): place for place in find(editor, shapes)[0]}
    origins = {}
    filters = {}
    for entry in planned.rewrites:
        place = _place(places, entry)
        found = realise(place.site, entry.choice)
        if isinstance(found, str):
            raise UsageError(f"plan: {entry.site.node}: {found}", "make a plan for this model")
        if as_twin and not found.proven:
            continue
        geometry = twin(found) if as_twin else found
        blur = BY_PLACEMENT[geometry.placement](editor, place, geometry)
        filters[entry.site] = merge_box.apply(editor, place, blur, geometry.blur)
        origins[blur] = _origin(entry, geometry)
    starts = [
        second_phase.start(editor, _place(places, entry), filters.get(entry.site, ""))
        for entry in planned.sites
        if entry.choice.second_phase
    ]
    copies = second_phase.apply(editor, shapes, starts, as_twin) if starts else {}
    if not as_twin:
        editor.metadata = {
            "aarewrite.version": __version__,
            "aarewrite.recipe": json.dumps(planned.recipe.to_dict()),
            "aarewrite.blurs": json.dumps(recorded(loaded, "aarewrite.blurs") | origins),
        }
        if stages:
            editor.metadata["aarewrite.a_trous"] = json.dumps(stages)
        if copies:
            editor.metadata["aarewrite.second_phase"] = json.dumps(copies)
    return editor.export()


def _place(places: Mapping[tuple[str, str], Located], entry: PlannedSite) -> Located:
    place = places.get((entry.site.scope, entry.site.node))
    if place is None:
        raise UsageError(f"plan: site {entry.site.node!r} is not in this model", "make a plan for this model")
    return place


def _origin(entry: PlannedSite, geometry: Rewrite) -> dict[str, Any]:
    site = entry.site
    return {
        "scope": site.scope,
        "node": site.node,
        "op": site.op,
        "strides": list(site.strides),
        "placement": geometry.placement,
        "taps": list(geometry.blur.sizes),
        "strength": geometry.blur.strength,
        "pad": geometry.blur.mode,
    }


__all__ = ["CannotHandle", "Result", "apply_plan", "check", "claim", "plan", "rewrite"]
