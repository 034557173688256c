"""What the search may do at a site: what the passes offer, with every filter and strength, and what stages offer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import onnx

from aarewrite.calibration.search import Choice
from aarewrite.model.index import label
from aarewrite.model.model_file import Model, load
from aarewrite.passes import DEFAULT, SITE_PASSES, STAGE_PASSES
from aarewrite.passes.contract import SitePass, Skip, StagePass
from aarewrite.passes.low_passes import FILTERS
from aarewrite.planning import PlannedSite
from aarewrite.recipe import Recipe, load_recipe
from aarewrite.rewriting.apply import Plan, open_reading
from aarewrite.rewriting.pipeline import Options, plan
from aarewrite.rewriting.planner import replan


@dataclasses.dataclass(frozen=True)
class Change:
    """What a choice does at each site of its group: a site pass with a filter and a strength, or a stage."""

    kind: type[SitePass] | type[StagePass]
    filter: int | str = 1
    strength: float = 1.0

    def at(self, planned: PlannedSite) -> SitePass | None:
        """The pass in place of the planned one; None: nothing but the stage."""
        if not issubclass(self.kind, SitePass):
            return None
        own = self.kind is DEFAULT and planned.site.kind not in planned.do.offered  # the recipe knows better
        do = planned.do if own else self.kind.of(planned.do)
        return dataclasses.replace(do, filter=self.filter, strength=self.strength)


class PlanVariants:
    """The variants of a model that a plan can describe, as `search` wants them.

    Strided convs that read the same tensor (a block and its shortcut) are one site: they have to stay aligned.

    Args:
        original: The model.
        recipe: The recipe whose sites and pads are taken; strength, filter and placement are the search's.
        strengths: Of the filter, each tried.
        filters: Taps, each tried, those behind the first at full strength only; (): the recipe's.
        latency: Measures a model's latency relative to the original's, where that is limited, too.
        options: Further options of `aarewrite.plan`: only, skip, first_conv, input_shapes, ...
    """

    def __init__(
        self,
        original: onnx.ModelProto,
        recipe: str | Recipe = "aligned",
        *,
        strengths: Sequence[float] = (1.0, 0.5),
        filters: Sequence[int | str] = (),
        latency: Callable[[onnx.ModelProto], float] | None = None,
        options: Options | None = None,
    ) -> None:
        self._model = load(original)
        searched = [kind for kind in STAGE_PASSES.values() if kind.at_sites]
        keys = {entry.name: entry.default for kind in searched for entry in dataclasses.fields(kind.Options)}
        asked = load_recipe(recipe).with_options(strength=1.0, **keys)
        self._strengths, self._latency = strengths, latency
        self._filters = tuple(filters) or (asked.filter,)
        self._plan = plan(self._model, asked, **(options or Options()))
        reads = {label(node): node.input[0] for node in original.graph.node if node.op_type == "Conv"}
        groups: dict[str, list[PlannedSite]] = {}
        for planned in self._plan.rewrites:
            if not planned.site.scope:
                groups.setdefault(reads.get(planned.site.node, planned.site.node), []).append(planned)
        # A group goes by the name of its first operator.
        self._groups = {group[0].site.node: group for group in groups.values()}

    def sites(self) -> Sequence[str]:
        """The groups of sites, each by its first operator, in graph order."""
        return list(self._groups)

    def choices(self, site: str) -> Sequence[Choice]:
        """What each site pass offers, with every filter and strength, and each stage that can begin there."""
        group = self._groups[site]
        found = []
        for kind in reversed(SITE_PASSES.values()):
            for taps in self._filters if group[0].site.kind in kind.offered else ():
                mixed = taps in FILTERS[taps].takes_strength and taps == self._filters[0]
                for strength in self._strengths if mixed else (1.0,):
                    found.append(Choice(f"{kind.name}, f={taps}, strength {strength:g}", Change(kind, taps, strength)))
        names = tuple(planned.site.node for planned in group)
        reading = open_reading(self._model, self._plan.input_shapes)
        possible = [kind for kind in STAGE_PASSES.values() if not isinstance(kind(names).fit(reading), Skip)]
        return [*found, *(Choice(kind.name, Change(kind)) for kind in possible)]

    def build(self, chosen: Mapping[str, Choice]) -> tuple[onnx.ModelProto, float]:
        """The rewritten model, neither repaired nor proven, and its cost relative to the original's: its
        multiply-accumulates (1 where unknown), or its latency where that is larger.

        Raises:
            UsageError: The choices exclude each other.
        """
        planned, rewritten = self._planned(chosen)
        model, cost = rewritten.to_proto(), planned.cost or 1.0
        return model, cost if self._latency is None else max(cost, self._latency(model))

    def plan(self, chosen: Mapping[str, Choice]) -> Plan:
        """The plan with what was chosen; the other sites are left.

        Raises:
            UsageError: The choices exclude each other.
        """
        return self._planned(chosen)[0]

    def _planned(self, chosen: Mapping[str, Choice]) -> tuple[Plan, Model]:
        draft = self._plan.draft()
        sites = {place: (do, reason or "left by the search") for place, (do, reason) in draft.sites.items()}
        stages: dict[type[StagePass], tuple[str, ...]] = {}
        for site, choice in chosen.items():
            change = choice.change
            assert isinstance(change, Change), "a choice of other variants"
            for planned in self._groups[site]:
                if (do := change.at(planned)) is not None:
                    sites["", planned.site.node] = do, ""
            if issubclass(change.kind, StagePass):
                names = (planned.site.node for planned in self._groups[site])
                stages[change.kind] = (*stages.get(change.kind, ()), *names)
        elsewhere = (stage for stage in draft.stages if not stage.at_sites)
        chosen_stages = (kind(names) for kind, names in stages.items())
        edited = dataclasses.replace(draft, sites=sites, stages=(*chosen_stages, *elsewhere))
        return replan(open_reading(self._model, draft.input_shapes), edited)
