"""Plan: a decision per site, as a value that can be printed, saved as JSON, edited and applied."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx

from aarewrite.errors import CannotHandle, UsageError
from aarewrite.filters import LARGEST_FILTER, PADS
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import Model, load
from aarewrite.model.shapes import Shapes
from aarewrite.passes import a_trous
from aarewrite.passes.blur_geometry import A_TROUS, PLACEMENTS, Choice, Rewrite, choose, keep, realise
from aarewrite.recipe import Recipe, check_strength, matches_glob, recipe_from_dict
from aarewrite.rewriting.alignment import misaligned
from aarewrite.sites.find import Located, Site, Source, find, node_names
from aarewrite.sites.macs import model_macs, nodes_macs, second_macs, site_macs
from aarewrite.stages import branch, left_at_one_phase, with_last_stage, with_second_phase
from aarewrite.version import __version__

FORMAT = 1
NOMINAL_SIZES = {4: 224, 3: 1024, 5: 32}  # of symbolic spatial axes, by rank of the input; for costs only


@dataclass(frozen=True)
class PlannedSite:
    """A site, what is to be done with it, and what that costs.

    Attributes:
        site: Where and what.
        choice: What is to be done.
        rewrite: The geometry; None where the site is kept.
        macs: Multiply-accumulates before and after at `Plan.cost_shapes`; None where a size is unknown.
        map_name: The tensor that is anti-aliased; it keeps its name.
    """

    site: Site
    choice: Choice
    rewrite: Rewrite | None
    macs: tuple[int, int] | None = None
    map_name: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about this rewrite."""
        return self.rewrite.notes if self.rewrite else ()


@dataclass(frozen=True)
class Plan:
    """Every site of a model with its decision, and every other aliasing source with its reason.

    Attributes:
        recipe: The recipe it was made with.
        sites: In graph order.
        sources: What else samples, or is a blur already.
        input_shapes: Shapes the user gave for inputs that the model leaves open.
        cost_shapes: Input shapes at which the costs hold.
        macs: Multiply-accumulates of the whole model before the rewrite; None where unknown.
        warnings: What concerns several sites, e.g. branches whose filters shift by half a pixel.
        phase_macs: Multiply-accumulates that further phases add: a stage a trous, a second phase. None: unknown.
    """

    recipe: Recipe
    sites: tuple[PlannedSite, ...]
    sources: tuple[Source, ...]
    input_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    cost_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    macs: int | None = None
    warnings: tuple[str, ...] = ()
    phase_macs: int | None = 0

    @property
    def rewrites(self) -> tuple[PlannedSite, ...]:
        """The sites that get a blur."""
        return tuple(planned for planned in self.sites if planned.rewrite)

    @property
    def a_trous(self) -> tuple[str, ...]:
        """The strided convs whose stage runs a trous instead."""
        return tuple(planned.site.node for planned in self.sites if planned.choice.action == A_TROUS)

    @property
    def second_phase(self) -> tuple[str, ...]:
        """The strided operators behind which a second phase is computed."""
        return tuple(planned.site.node for planned in self.sites if planned.choice.second_phase)

    @property
    def changes(self) -> bool:
        """Whether anything is to be changed."""
        return bool(self.rewrites or self.a_trous or self.second_phase)

    @property
    def macs_after(self) -> int | None:
        """Multiply-accumulates of the whole model after the rewrite; None where unknown."""
        if self.macs is None or self.phase_macs is None or any(planned.macs is None for planned in self.rewrites):
            return None
        return self.macs + self.phase_macs + sum(p.macs[1] - p.macs[0] for p in self.rewrites if p.macs)

    def apply(self, model: onnx.ModelProto | Model | str) -> onnx.ModelProto:
        """The model rewritten by this plan (a copy, folded and checked, not proven).

        Raises:
            UsageError: A planned site is not in this model, or cannot be rewritten as the plan says.
            CannotHandle: The model cannot be represented.
            CheckFailed: The result is not valid ONNX.
        """
        from aarewrite.rewriting.pipeline import apply_plan, check

        loaded = load(model)
        rewritten = apply_plan(self, loaded)
        check(loaded, rewritten)
        return rewritten.to_proto()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `aarewrite.rewrite(model, plan=values)` reads them back."""
        return {
            "format": FORMAT,
            "aarewrite": __version__,
            "recipe": self.recipe.to_dict(),
            "input_shapes": {name: list(shape) for name, shape in self.input_shapes.items()},
            "cost_shapes": {name: list(shape) for name, shape in self.cost_shapes.items()},
            "macs": {"before": self.macs, "after": self.macs_after},
            "warnings": list(self.warnings),
            "sites": [_site_to_dict(planned) for planned in self.sites],
            "other_sources": [dataclasses.asdict(source) for source in self.sources],
        }

    def to_json(self) -> str:
        """The plan as JSON text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"


EDITABLE = (
    "action",
    "placement",
    "filter",
    "pad",
    "pad_rule",
    "every_axis",
    "max_window",
    "keep_stride",
    "after",
    "strength",
    "second_phase",
)


def _site_to_dict(planned: PlannedSite) -> dict[str, Any]:
    site, choice = planned.site, planned.choice
    window = site.window
    entry: dict[str, Any] = {
        "scope": site.scope,
        "node": site.node,
        "op": site.op,
        "kernel": list(window.kernel),
        "strides": list(window.strides),
        "dilations": list(window.dilations),
        "channels": site.channels,
        "input_size": list(site.input_size),
        "output_size": list(site.output_size),
        "stride_so_far": list(site.stride_so_far) if site.stride_so_far is not None else None,
        "macs": {"before": planned.macs[0], "after": planned.macs[1]} if planned.macs else None,
        "smallest_map": planned.rewrite.smallest_map if planned.rewrite else None,
        "proven": bool(planned.rewrite and planned.rewrite.proven),
        "reason": choice.reason,
        "notes": list(planned.notes),
    }
    return entry | {name: getattr(choice, name) for name in EDITABLE}


# ---- making a plan -----------------------------------------------------------------------------------------


def make_plan(
    editor: GraphEditor,
    recipe: Recipe,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
) -> Plan:
    """Decide every site of a model.

    Args:
        editor: The model's graph, not yet edited.
        recipe: What to do.
        input_shapes: Sizes of inputs that the model leaves open.
        only: Globs over node names; the other sites are kept. Empty: all.
        skip: Globs over node names of sites to keep.

    Raises:
        UsageError: A glob matches no site, or an input shape does not fit.
    """
    shapes = Shapes(editor, input_shapes)
    located, sources = find(editor, shapes)
    _check_globs(editor, located, sources, only=only, skip=skip, recipe=recipe)
    choices = []
    for place in located:
        choice = choose(place.site, recipe)
        if choice.action == "blur" and only and not _matches(place.site, only):
            choice = keep("not selected by --only", choice)
        if choice.action == "blur" and _matches(place.site, skip):
            choice = keep("left out by --skip", choice)
        choices.append(choice)
    choices = left_at_one_phase(editor, located, choices)
    left = [place.site.node for place in located if _is_left(place.site, recipe, only, skip)]
    given = input_shapes or {}
    finer, notes = editor, list[str]()
    if recipe.last_stage == A_TROUS:
        choices, finer, notes = with_last_stage(editor, located, choices, given, left)
    if recipe.second_phase:
        choices, more = with_second_phase(finer, located, choices, given, recipe.second_phase, left)
        notes += more
    return _assemble(editor, shapes, recipe, located, sources, choices, given, finer, notes)


def _is_left(site: Site, recipe: Recipe, only: Iterable[str], skip: Iterable[str]) -> bool:
    """Whether the user asks for a site to be left alone."""
    override = recipe.override_for(site.node, site.scope)
    kept = override is not None and override.action == "keep"
    return kept or _matches(site, skip) or (bool(only) and not _matches(site, only))


def replan(editor: GraphEditor, table: Mapping[str, Any]) -> Plan:
    """A plan read back from (edited) JSON values, checked against the model it is for.

    Raises:
        UsageError: The plan is malformed, names a site the model does not have, or asks for something that
            cannot be done there.
    """
    recipe, shapes_given, entries = _parse(table)
    shapes = Shapes(editor, shapes_given)
    located, sources = find(editor, shapes)
    known = {(place.site.scope, place.site.node) for place in located}
    for scope, node in entries:
        if (scope, node) not in known:
            raise UsageError(f"plan: site {node!r} is not in this model", "make a new plan with --dry-run --json")
    choices = []
    for place in located:
        key = (place.site.scope, place.site.node)
        choice = entries.get(key, keep("not in the plan"))
        if choice.action == "blur":
            reason = place.site.obstacle or _failure(place.site, choice)
            if reason:
                raise UsageError(f"plan: {place.site.node}: {reason}", 'set its "action" to "keep"')
        choices.append(choice)
    stage = [node for (_, node), choice in entries.items() if choice.action == A_TROUS]
    starts = [node for (_, node), choice in entries.items() if choice.second_phase]
    finer, what = editor, "a trous"
    try:
        finer = a_trous.applied(editor.model, stage, shapes_given) if stage else editor
        what = "second phase"
        if starts:
            branch(finer, shapes_given, starts)
    except CannotHandle as error:
        raise UsageError(f"plan: {what}: {error}") from None
    return _assemble(editor, shapes, recipe, located, sources, choices, shapes_given, finer)


def _failure(site: Site, choice: Choice) -> str:
    found = realise(site, choice)
    return found if isinstance(found, str) else ""


def _assemble(
    editor: GraphEditor,
    shapes: Shapes,
    recipe: Recipe,
    located: list[Located],
    sources: list[Source],
    choices: list[Choice],
    input_shapes: Mapping[str, Sequence[int]],
    finer: GraphEditor,
    notes: Sequence[str] = (),
) -> Plan:
    cost_shapes = _cost_shapes(editor, input_shapes)
    nominal = Shapes(editor, cost_shapes) if cost_shapes else shapes
    total = model_macs(editor, nominal)
    sized = {(p.site.scope, p.site.node): p.site for p in find(editor, nominal)[0]} if cost_shapes else {}
    planned = []
    starts: dict[str, int | None] = {}
    for place, choice in zip(located, choices, strict=True):
        rewrite = None
        if choice.action == "blur":
            found = realise(place.site, choice)
            rewrite, choice = (None, keep(found, choice)) if isinstance(found, str) else (found, choice)
        concrete = sized.get((place.site.scope, place.site.node), place.site)
        macs = site_macs(place.site, rewrite, concrete.input_size, concrete.output_size)
        if choice.second_phase:
            starts[place.site.node] = second_macs(place.site, rewrite, concrete.input_size, concrete.output_size)
        planned.append(PlannedSite(place.site, choice, rewrite, macs, place.region.end.name))
    pairs = zip(located, planned, strict=True)
    rewrites = {id(place.node): (place, entry.rewrite) for place, entry in pairs if entry.rewrite}
    return Plan(
        recipe=recipe,
        sites=tuple(planned),
        sources=tuple(sources),
        input_shapes={name: tuple(shape) for name, shape in input_shapes.items()},
        cost_shapes=cost_shapes or {name: tuple(s) for name, s in _declared(editor).items()},
        macs=total,
        warnings=(*notes, *misaligned(editor, rewrites)),
        phase_macs=(
            _phase_macs(finer, cost_shapes or input_shapes, planned, starts, total)
            if starts or finer is not editor
            else 0
        ),
    )


def _phase_macs(
    finer: GraphEditor,
    shapes_given: Mapping[str, Sequence[int]],
    planned: Sequence[PlannedSite],
    starts: Mapping[str, int | None],
    total: int | None,
) -> int | None:
    """Multiply-accumulates of the phases that `finer`, the graph with a stage a trous, and a second phase, whose
    `starts` cost so much once more, add to `total`; blurs in the second phase are counted once more."""
    shapes = Shapes(finer, shapes_given)
    finer_total = model_macs(finer, shapes)
    if total is None or finer_total is None or None in starts.values():
        return None
    added = finer_total - total
    if starts:
        names = node_names(finer)
        behind = [node for node in branch(finer, shapes_given, starts).nodes if names[id(node)] not in starts]
        macs = nodes_macs(shapes, finer.scopes[0], behind)
        again = {names[id(node)] for node in behind}
        if macs is None:
            return None
        added += macs + sum(start or 0 for start in starts.values())
        added += sum(p.macs[1] - p.macs[0] for p in planned if p.macs and p.site.node in again)
    return added


def _declared(editor: GraphEditor) -> dict[str, tuple[int, ...]]:
    initialised = {tensor.name for tensor in editor.model.proto.graph.initializer}
    found = {}
    for value in editor.model.proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in initialised and dims:
            found[value.name] = tuple(int(dim.dim_value) for dim in dims)
    return found


def _cost_shapes(editor: GraphEditor, given: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Concrete shapes where an input leaves any axis open: batch 1 and a nominal size; {} if none does."""
    shapes = {}
    for name, dims in _declared(editor).items():
        wanted = tuple(given.get(name, dims))
        if any(d <= 0 for d in wanted):
            size = NOMINAL_SIZES.get(len(wanted), 1)
            wanted = tuple(d if d > 0 else (1 if axis == 0 else size) for axis, d in enumerate(wanted))
        shapes[name] = wanted
    return shapes if shapes != _declared(editor) else {}


def _matches(site: Site | Source, globs: Iterable[str]) -> bool:
    names = (site.node, f"{site.scope}/{site.node}" if site.scope else site.node)
    return any(matches_glob(name, glob) for glob in globs for name in names)


def _check_globs(
    editor: GraphEditor,
    located: list[Located],
    sources: list[Source],
    only: Iterable[str],
    skip: Iterable[str],
    recipe: Recipe,
) -> None:
    """Refuse a glob that names no node at all; one whose nodes are no sites (any more) is fine."""
    everything: list[Site | Source] = [*(place.site for place in located), *sources]
    options = [("--only", only), ("--skip", skip), ("recipe site", [o.match for o in recipe.sites])]
    for option, globs in options:
        for glob in globs:
            if not any(_matches(site, [glob]) for site in everything) and not any(
                matches_glob(name, glob) for name in node_names(editor).values()
            ):
                names = ", ".join(site.node for site in everything[:4]) or "none"
                raise UsageError(f"{option} {glob!r} matches no node", f"the model's sites are {names} ...")


def _parse(
    table: Mapping[str, Any],
) -> tuple[Recipe, dict[str, tuple[int, ...]], dict[tuple[str, str], Choice]]:
    if not isinstance(table, dict) or table.get("format") != FORMAT or not isinstance(table.get("sites"), list):
        raise UsageError(f"plan: not a plan of format {FORMAT}", "make one with --dry-run --json FILE")
    recipe_table, shape_table = table.get("recipe", {}), table.get("input_shapes", {})
    if not isinstance(recipe_table, dict):
        raise UsageError("plan: recipe is not a table", "make a new plan with --dry-run --json FILE")
    recipe = recipe_from_dict(recipe_table, str(recipe_table.get("name", "plan")))
    shapes = _parse_shapes(shape_table)
    entries = {}
    for entry in table["sites"]:
        if not isinstance(entry, dict) or "node" not in entry:
            raise UsageError('plan: a site has no "node"')
        node = str(entry["node"])
        _check_entry(node, entry)
        choice = Choice(**{name: entry[name] for name in EDITABLE if name in entry})
        if choice.action == "keep":
            choice = keep(str(entry.get("reason") or "kept by the plan"), choice)
        entries[str(entry.get("scope", "")), node] = choice
    return recipe, shapes, entries


def _parse_shapes(table: Any) -> dict[str, tuple[int, ...]]:
    lists = isinstance(table, dict) and all(isinstance(dims, list) for dims in table.values())
    if not lists or not all(type(d) is int and d > 0 for dims in table.values() for d in dims):
        raise UsageError("plan: input_shapes is not a table of sizes", 'write it like {"data": [1, 3, 224, 224]}')
    return {str(name): tuple(dims) for name, dims in table.items()}


_ALLOWED: dict[str, tuple[Any, ...]] = {
    "action": ("blur", "keep", A_TROUS),
    "placement": PLACEMENTS,
    "filter": tuple(range(1, LARGEST_FILTER + 1)),
    "pad": PADS,
    "pad_rule": ("centred", "symmetric"),
    "after": ("activation", "conv"),
    "every_axis": (True, False),
    "second_phase": (True, False),
}


REPORTED = (
    "scope", "node", "op", "kernel", "strides", "dilations", "channels", "input_size", "output_size", "stride_so_far",
    "macs", "smallest_map", "proven", "reason", "notes", "measured",
)  # fmt: skip


def _check_entry(node: str, entry: Mapping[str, Any]) -> None:
    unknown = sorted(set(entry) - {*EDITABLE, *REPORTED})
    if unknown:
        raise UsageError(f"plan: {node}: unknown key {unknown[0]!r}", f"editable are {', '.join(EDITABLE)}")
    if "action" not in entry:
        raise UsageError(f'plan: {node}: no "action"', 'write "blur", "keep" or "a trous"')
    for name, allowed in _ALLOWED.items():
        if name in entry and (type(entry[name]) is not type(allowed[0]) or entry[name] not in allowed):
            choices = ", ".join(map(str, allowed))
            raise UsageError(f"plan: {node}: {name} = {entry[name]!r} is not one of {choices}")
    if "strength" in entry:
        check_strength(f"plan: {node}", entry["strength"])
    for name in ("max_window", "keep_stride"):
        if name in entry and (type(entry[name]) is not int or entry[name] < 0):
            raise UsageError(f"plan: {node}: {name} = {entry[name]!r} is not a whole number")
