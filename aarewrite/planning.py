"""Plan: a decision per site and the stages, as a value that can be printed, saved as JSON and edited."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from aarewrite.errors import UsageError
from aarewrite.notebook import Record, Tabular
from aarewrite.options import Json, read
from aarewrite.passes import DEFAULT, SITE_PASSES, STAGE_PASSES
from aarewrite.passes.contract import Frames, Match, SitePass, StagePass
from aarewrite.passes.low_passes import check_filter
from aarewrite.recipe import Recipe, recipe_from_dict
from aarewrite.sites.costs import Cost
from aarewrite.sites.site import Site, Source
from aarewrite.version import __version__

FORMAT = 2
ACTIONS = ("blur", "keep")
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class PlannedSite:
    """A site, what is to be done with it, and what that costs."""

    site: Site  # where and what
    do: SitePass  # what is done, or would be if the plan were edited to blur it after all
    reason: str = ""  # why it is kept, "" when it is not
    match: Match | None = None  # the geometry; None where the site is kept
    macs: tuple[int, int] | None = None  # multiply-accumulates before and after at `Plan.cost_shapes`, where known
    map_name: str = ""  # the tensor that is anti-aliased; it keeps its name

    @property
    def action(self) -> str:
        """ "blur" or "keep"."""
        return "blur" if self.match else "keep"

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about this rewrite."""
        return self.match.notes if self.match else ()

    def to_dict(self) -> Json:
        """Plain values for JSON: where and what it is, then what is done and its options."""
        site, window = self.site, self.site.window
        return {
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
            "macs": {"before": self.macs[0], "after": self.macs[1]} if self.macs else None,
            "smallest_map": self.match.smallest_map if self.match else None,
            "proven": bool(self.match and self.match.proven),
            "reason": self.reason,
            "notes": list(self.notes),
            "action": self.action,
            "placement": self.do.name,
        } | dataclasses.asdict(self.do)


REPORTED = (
    "scope", "node", "op", "kernel", "strides", "dilations", "channels", "input_size", "output_size", "stride_so_far",
    "macs", "smallest_map", "proven", "reason", "notes", "measured",
)  # fmt: skip


@dataclass(frozen=True)
class Plan(Tabular):
    """Every site of a model with its decision, and every other aliasing source with its reason."""

    recipe: Recipe  # the one it was made with
    sites: tuple[PlannedSite, ...]  # in graph order
    sources: tuple[Source, ...]  # what else samples, or is a blur already
    stages: tuple[StagePass, ...] = ()  # what is done to several sites at once, in the order of the registry
    input_shapes: Shapes = field(default_factory=dict)  # that the user gave for inputs that the model leaves open
    cost_shapes: Shapes = field(default_factory=dict)  # of the inputs, at which the costs hold
    costs: tuple[Cost, Cost] = (Cost(), Cost())  # of the whole model before the rewrite, and of the rewritten one
    tidied: int = 0  # how often blurs that are in the model already are folded or take a plainer form
    warnings: tuple[str, ...] = ()  # what concerns several sites, e.g. branches moved half a pixel apart

    @property
    def rewrites(self) -> tuple[PlannedSite, ...]:
        """The sites that get a blur."""
        return tuple(planned for planned in self.sites if planned.match)

    @property
    def changes(self) -> bool:
        """Whether anything is to be changed."""
        return bool(self.rewrites or self.stages or self.tidied)

    @property
    def frames(self) -> Frames:
        """What lies around what the original's inputs would be given, where a stage changes or settles a size."""
        return {name: frame for stage in self.stages for name, frame in stage.frames.items()}

    @property
    def more_outputs(self) -> int:
        """How many outputs the stages add behind the model's."""
        return sum(stage.more_outputs for stage in self.stages)

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates of the whole model before the rewrite; None where unknown."""
        return self.costs[0].macs

    @property
    def macs_after(self) -> int | None:
        """The same, counted on the rewritten model."""
        return self.costs[1].macs

    @property
    def cost(self) -> float | None:
        """Multiply-accumulates relative to the original's; None where unknown."""
        return self.macs_after / self.macs if self.macs and self.macs_after is not None else None

    def stages_at(self, planned: PlannedSite) -> list[StagePass]:
        """The stages that begin at a site."""
        return [s for s in self.stages if s.at_sites and not planned.site.scope and planned.site.node in s.sites]

    def says(self, planned: PlannedSite) -> str:
        """What is done with a site, in words, or why not."""
        stages = self.stages_at(planned)
        if taken := [stage for stage in stages if stage.takes_sites]:
            return taken[0].says(planned.site)
        form = f"kept: {planned.reason}" if planned.match is None else planned.do.says(planned.site, planned.match)
        return "; ".join((form, *planned.notes, *(stage.says(planned.site) for stage in stages)))

    def records(self) -> list[Record]:
        """Its sites, a row each."""
        return [
            {
                "scope": one.site.scope, "node": one.site.node, "op": one.site.op, "action": one.action,
                "says": self.says(one), "macs": one.macs and one.macs[0], "macs_after": one.macs and one.macs[1],
            }
            for one in self.sites
        ]  # fmt: skip

    def caption(self) -> str:
        """How many sites are rewritten, and the cost."""
        cost = "" if self.cost is None else f", {self.cost:.2f}x the multiply-accumulates"
        return f"recipe {self.recipe.name}: {len(self.rewrites)} of {len(self.sites)} sites{cost}"

    def to_dict(self) -> Json:
        """Plain values for JSON; `aarewrite.rewrite(model, plan=values)` reads them back."""
        before, after = map(dataclasses.asdict, self.costs)
        return {
            "format": FORMAT,
            "aarewrite": __version__,
            "recipe": self.recipe.to_dict(),
            "input_shapes": {name: list(shape) for name, shape in self.input_shapes.items()},
            "cost_shapes": {name: list(shape) for name, shape in self.cost_shapes.items()},
            **{what: {"before": before[what], "after": after[what]} for what in before},
            "tidied": self.tidied,
            "warnings": list(self.warnings),
            "stages": [{"do": stage.name} | json.loads(json.dumps(dataclasses.asdict(stage))) for stage in self.stages],
            "sites": [planned.to_dict() for planned in self.sites],
            "other_sources": [dataclasses.asdict(source) for source in self.sources],
        }

    def draft(self) -> Draft:
        """Its editable part."""
        sites = {(one.site.scope, one.site.node): (one.do, one.reason) for one in self.sites}
        return Draft(self.recipe, self.input_shapes, sites, self.stages)

    def to_json(self) -> str:
        """The plan as JSON text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"


# ---- reading a plan ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draft:
    """A plan's editable part, as read from JSON and not yet held against a model. Fields as in `Plan`."""

    recipe: Recipe
    input_shapes: Shapes
    sites: dict[tuple[str, str], tuple[SitePass, str]]  # (scope, node) -> what is done, and why not, "" where it is
    stages: tuple[StagePass, ...]


def parse_plan(table: object) -> Draft:
    """Read the values of a plan's JSON; format 1 marked the stages at their sites.

    Raises:
        UsageError: It is no plan, or a value is not allowed; the message names the site.
    """
    if (
        not isinstance(table, Mapping)
        or table.get("format") not in (1, FORMAT)
        or not isinstance(table.get("sites"), list)
    ):
        raise UsageError(f"plan: not a plan of format 1 to {FORMAT}", "make one with --dry-run --json FILE")
    recipe_table = table.get("recipe", {})
    if not isinstance(recipe_table, dict):
        raise UsageError("plan: recipe is not a table", "make a new plan with --dry-run --json FILE")
    recipe = recipe_from_dict(recipe_table, str(recipe_table.get("name", "plan")))
    entries = [dict(entry) if isinstance(entry, Mapping) else {} for entry in table["sites"]]
    if not all("node" in entry for entry in entries):
        raise UsageError('plan: a site has no "node"')
    stages = _marked(entries) if table["format"] == 1 else _parse_stages(table.get("stages", []))
    sites = {(str(entry.get("scope", "")), str(entry["node"])): _parse_site(entry) for entry in entries}
    return Draft(recipe, _parse_shapes(table.get("input_shapes", {})), sites, tuple(stages))


def _parse_site(entry: Json) -> tuple[SitePass, str]:
    where = f"plan: {entry['node']}"
    action, placement = entry.get("action"), entry.get("placement", DEFAULT.name)
    if "action" not in entry:
        raise UsageError(f'{where}: no "action"', f"write one of {', '.join(ACTIONS)}")
    if action not in ACTIONS:
        raise UsageError(f"{where}: action = {action!r} is not one of {', '.join(ACTIONS)}")
    if not isinstance(placement, str) or placement not in SITE_PASSES:
        raise UsageError(f"{where}: placement = {placement!r} is not one of {', '.join(SITE_PASSES)}")
    kind = SITE_PASSES[placement]
    own = {option.name for option in dataclasses.fields(kind)}
    others = {option.name: option.default for each in SITE_PASSES.values() for option in dataclasses.fields(each)}
    # What another placement would read is no mistake as long as it says nothing.
    idle = {name for name, default in others.items() if name not in own and entry.get(name, default) == default}
    values = {name: value for name, value in entry.items() if name not in idle}
    do = read(kind, values, where, also=(*REPORTED, "action", "placement"))
    check_filter(f"{where}: filter", do.filter)
    return do, "" if action == "blur" else str(entry.get("reason") or "kept by the plan")


def _parse_stages(table: object) -> list[StagePass]:
    stages = []
    for entry in table if isinstance(table, list) else [table]:
        if not isinstance(entry, Mapping) or str(entry.get("do")) not in STAGE_PASSES:
            raise UsageError(f'plan: stage {entry!r}: no "do" of {", ".join(STAGE_PASSES)}')
        stages.append(read(STAGE_PASSES[entry["do"]], entry, f"plan: stage {entry['do']!r}", also=("do",)))
    return stages


def _marked(entries: list[Json]) -> list[StagePass]:
    """The stages of format 1, taken out of the entries of their sites."""
    stages = []
    for kind in (kind for kind in STAGE_PASSES.values() if kind.entry[0]):
        key, mark = kind.entry
        marked = [entry for entry in entries if entry.get(key) == mark]
        for entry in entries if key != "action" else []:
            if type(entry.pop(key, mark)) is not type(mark):
                raise UsageError(f"plan: {entry['node']}: {key} is not true or false")
        for entry in marked if key == "action" else []:
            entry["action"] = "keep"
        if marked:
            stages.append(kind(tuple(str(entry["node"]) for entry in marked)))
    return stages


def _parse_shapes(table: object) -> Shapes:
    lists = isinstance(table, dict) and all(isinstance(dims, list) for dims in table.values())
    if (
        not isinstance(table, dict)
        or not lists
        or not all(type(d) is int and d > 0 for dims in table.values() for d in dims)
    ):
        raise UsageError("plan: input_shapes is not a table of sizes", 'write it like {"data": [1, 3, 224, 224]}')
    return {str(name): tuple(dims) for name, dims in table.items()}
