"""Making a plan: what the recipe, the passes and the user's options say of each site, and what it costs in all."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence

from aarewrite.errors import UsageError
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import Model
from aarewrite.model.shapes import Shapes
from aarewrite.passes import DEFAULT, SITE_PASSES, STAGE_PASSES
from aarewrite.passes.contract import Match, SitePass, Skip, StagePass
from aarewrite.planning import Draft, PlannedSite
from aarewrite.recipe import Recipe, SiteOverride, matches_glob
from aarewrite.rewriting.alignment import misaligned
from aarewrite.rewriting.apply import Plan, apply_plan
from aarewrite.sites.costs import cost
from aarewrite.sites.macs import operator_macs
from aarewrite.sites.reading import Reading
from aarewrite.sites.site import ExistingBlur, Located, Site, Source

NOMINAL_SIZES = {4: 224, 3: 1024, 5: 32}  # of symbolic spatial axes, by rank of the input; for costs only
Choice = tuple[SitePass, str]  # what is done with a site, and why not, "" where it is


def make_plan(
    reading: Reading, recipe: Recipe, only: Collection[str] = (), skip: Collection[str] = ()
) -> tuple[Plan, Model]:
    """Decide every site of a model. Its graph is used up: the cost is counted on the rewritten one.

    Args:
        only: Globs over node names; the other sites are kept. Empty: all.
        skip: Globs over node names of sites to keep.

    Returns:
        The plan, and the model rewritten by it (the original where nothing changes).

    Raises:
        UsageError: A glob matches no site, or an input shape does not fit.
    """
    _check_globs(reading, only, skip, recipe)
    taken = {name: why for kind in STAGE_PASSES.values() for name, why in kind.earlier(reading.model).items()}
    choices, left = [], []
    for place in reading.located:
        site = place.site
        do, reason = choose(site, recipe)
        unwanted = "left out by --skip" if _matches(site, skip) else ""
        if only and not _matches(site, only):
            unwanted = "not selected by --only"
        override = recipe.override_for(site.node, site.scope)
        if unwanted or (override is not None and override.action == "keep"):
            left.append(site.node)
        earlier = "" if site.scope else taken.get(site.node, "")
        choices.append((do, earlier or reason or unwanted))
    stages: list[StagePass] = []
    notes = []
    graph = reading
    for kind in STAGE_PASSES.values():
        found = kind.propose(graph, recipe.asked(kind), left)
        if isinstance(found, Skip):
            notes.append(found.reason)
        elif found is not None:
            stages.append(found)
            if kind.takes_sites:  # the next stage sees the graph that this one leaves
                graph, _ = found.apply(graph, False)
    return _assemble(reading, recipe, choices, stages, notes)


def replan(reading: Reading, draft: Draft) -> tuple[Plan, Model]:
    """A plan read back from (edited) JSON values, held against the model it is for. Returns as `make_plan`; a
    `UsageError` names a site that the model does not have, or where something cannot be done."""
    for _, node in [place for place in draft.sites if place not in reading.places]:
        raise UsageError(f"plan: site {node!r} is not in this model", "make a new plan with --dry-run --json")
    kept = DEFAULT(), "not in the plan"
    choices = [draft.sites.get(place, kept) for place in reading.places]
    for place, (do, reason) in zip(reading.located, choices, strict=True):
        why = do.match(place.site)
        if not reason and isinstance(why, Skip):
            raise UsageError(f"plan: {place.site.node}: {why.reason}", 'set its "action" to "keep"')
    stages = []
    graph = reading
    for stage in sorted(draft.stages, key=lambda one: list(STAGE_PASSES).index(one.name)):
        found = stage.fit(graph)
        if isinstance(found, Skip):
            raise UsageError(f"plan: {stage.name}: {found.reason}", "take the stage out of the plan")
        stages.append(found)
        if stage.takes_sites:
            unkept = [node for (scope, node), (_, why) in draft.sites.items() if not (scope or why)]
            if blurred := [node for node in unkept if node in stage.sites]:
                raise UsageError(f"plan: {blurred[0]}: blurred, and part of the stage {stage.name!r}", "choose one")
            graph, _ = found.apply(graph, False)
    return _assemble(reading, draft.recipe, choices, stages, [])


def choose(site: Site, recipe: Recipe) -> Choice:
    """What the recipe does with a site, or why it leaves it.

    1. What cannot be rewritten is left. 2. What is blurred already is left. 3. An override speaks.
    4. The recipe speaks.
    """
    override = recipe.override_for(site.node, site.scope)
    do = next(found for kind in SITE_PASSES.values() if (found := kind.wanted(site, recipe)) is not None)
    if override is not None:
        do = _overridden(site, do, override)
    return do, _reason_to_keep(site, recipe, do, override)


def _overridden(site: Site, do: SitePass, override: SiteOverride) -> SitePass:
    if override.placement is not None:
        do = SITE_PASSES[override.placement].of(do)
    options = {option.name for option in dataclasses.fields(do)} - (set() if site.op == "MaxPool" else {"max_window"})
    given = {name: getattr(override, name, None) for name in options}
    return dataclasses.replace(do, **{name: value for name, value in given.items() if value is not None})


def _reason_to_keep(site: Site, recipe: Recipe, do: SitePass, override: SiteOverride | None) -> str:
    if site.obstacle:
        return site.obstacle
    if site.blurred_after or (site.blurred_before and (site.kind == "conv" or do.in_front)):
        return "a blur is next to it already"
    if override is not None and override.action == "keep":
        return f"the recipe's override for {override.match!r} keeps it"
    forced = override is not None and override.action == "blur"
    if not site.strided and not (recipe.unit_stride_max_pool or forced):
        return "stride 1: nothing is sampled"
    return "" if forced else _left_by_recipe(site, recipe)


def _left_by_recipe(site: Site, recipe: Recipe) -> str:
    if site.kind != "conv":
        kept = getattr(recipe, site.kind) == "keep"
        return f"the recipe keeps {site.kind.replace('_pool', ' pooling')}" if kept else ""
    if site.patch_embedding:
        return "patch embedding (kernel equals stride): dense evaluation costs the stride squared"
    if site.first_conv and not recipe.first_conv:
        return "first conv: left strided by the recipe, use --first-conv to blur it"
    if recipe.conv == "keep":
        return "the recipe keeps strided convs"
    if recipe.min_channels > 1 and (site.input_channels or 0) < recipe.min_channels:
        return f"fewer than {recipe.min_channels} input channels"
    if recipe.shortcut == "keep" and not site.activation and site.ends_in_add:
        return "residual shortcut: the recipe keeps it"
    return ""


# ---- the plan and its cost -----------------------------------------------------------------------------------


def _assemble(
    reading: Reading, recipe: Recipe, choices: Sequence[Choice], stages: Sequence[StagePass], notes: Sequence[str]
) -> tuple[Plan, Model]:
    editor, given = reading.editor, reading.input_shapes
    declared = _declared(reading.model)
    cost_shapes = {name: _concrete(given.get(name, dims)) for name, dims in declared.items()}
    shapes = reading.shapes if cost_shapes == declared else Shapes(editor, cost_shapes)
    taken = {name: stage for stage in stages if stage.takes_sites for name in stage.sites}
    sites, moved = [], {}
    for place, (do, reason) in zip(reading.located, choices, strict=True):
        site = place.site
        if not site.scope and site.node in taken:
            reason = f"{taken[site.node].name}: {taken[site.node].says(site)}"
        found = Skip(reason) if reason else do.match(site)
        match, reason = (None, found.reason) if isinstance(found, Skip) else (found, "")
        sites.append(PlannedSite(site, do, reason, match, _site_macs(shapes, place, do, match), place.region.end.name))
        if match:
            moved[id(place.node)] = place, match
    before = cost(editor, shapes, reading.model)
    if reading.dearer is not None:
        dearer = GraphEditor(reading.dearer)
        before = cost(dearer, Shapes(dearer, cost_shapes), reading.dearer)
    blurred = any(isinstance(source, ExistingBlur) for source in reading.sources)
    tidied = {what: count for what, count in reading.tidied.items() if blurred}
    notes = [*notes, *(f"{count} {what}" for what, count in tidied.items())]
    plan = Plan(
        recipe=recipe,
        sites=tuple(sites),
        sources=tuple(reading.sources),
        stages=tuple(stages),
        input_shapes={name: tuple(shape) for name, shape in given.items()},
        cost_shapes=cost_shapes,
        costs=(before, before),
        tidied=sum(tidied.values()),
        warnings=(*notes, *(note for stage in stages for note in stage.notes(reading)), *misaligned(editor, moved)),
    )
    if not plan.changes:
        return plan, reading.model
    edited, rewritten = apply_plan(plan, reading)
    grown = cost_shapes | {
        name: tuple(size + sum(more) for size, more in zip(cost_shapes[name], frame, strict=True))
        for name, frame in plan.frames.items()
    }
    after = cost(edited, Shapes(edited, grown, rewritten), rewritten)
    return dataclasses.replace(plan, costs=(before, after)), rewritten


def _site_macs(shapes: Shapes, place: Located, do: SitePass, match: Match | None) -> tuple[int, int] | None:
    """Multiply-accumulates of a site before and after; None where a size is unknown."""
    ends, rank = (place.node.inputs[0], place.node.outputs[0]), len(place.site.strides)
    input_size, output_size = (shapes.spatial(place.scope, tensor, rank) for tensor in ends)
    before = operator_macs(place.site, output_size)
    if before is None or None in input_size:
        return None
    return before, do.macs(place.site, match, before, input_size, output_size) if match else before


def _declared(model: Model) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs; 0 or less where an axis is open."""
    initialised = {tensor.name for tensor in model.proto.graph.initializer}
    inputs = [value for value in model.proto.graph.input if value.name not in initialised]
    shapes = {value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in inputs}
    return {name: shape for name, shape in shapes.items() if shape}


def _concrete(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape with batch 1 and a nominal size where an axis is open."""
    nominal = (1, *[NOMINAL_SIZES.get(len(shape), 1)] * (len(shape) - 1))
    return tuple(given if given > 0 else size for given, size in zip(shape, nominal, strict=True))


def _matches(site: Site | Source, globs: Iterable[str]) -> bool:
    names = (site.node, f"{site.scope}/{site.node}" if site.scope else site.node)
    return any(matches_glob(name, glob) for glob in globs for name in names)


def _check_globs(reading: Reading, only: Iterable[str], skip: Iterable[str], recipe: Recipe) -> None:
    """Refuse a glob that names no node at all; one whose nodes are no sites (any more) is fine."""
    everything: list[Site | Source] = [*(place.site for place in reading.located), *reading.sources]
    asked = [*(("--only", glob) for glob in only), *(("--skip", glob) for glob in skip)]
    for option, glob in (*asked, *(("recipe site", override.match) for override in recipe.sites)):
        named = any(matches_glob(name, glob) for name in reading.names.values())
        if not named and not any(_matches(site, [glob]) for site in everything):
            names = ", ".join(site.node for site in everything[:4]) or "none"
            raise UsageError(f"{option} {glob!r} matches no node", f"the model's sites are {names} ...")
