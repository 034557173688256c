"""What the search may do at a site: strengths, filters, placements, a last stage a trous, a second phase."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx

from aarewrite.calibration.search import Choice
from aarewrite.errors import UsageError
from aarewrite.model.index import label
from aarewrite.model.model_file import load
from aarewrite.passes.blur_geometry import A_TROUS
from aarewrite.planning import replan
from aarewrite.recipe import Recipe, load_recipe
from aarewrite.rewriting.pipeline import open_graph, plan, rewrite


class PlanVariants:
    """The variants of a model that a plan can describe, as `search` wants them.

    Strided convs that read the same tensor (a block and its shortcut) are one site: they have to stay aligned.

    Args:
        original: The model.
        recipe: The recipe whose sites and pads are taken; strength, filter and placement are the search's.
        strengths: Of the filter, each tried.
        placements: Of convs' blurs, each tried.
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
        placements: Sequence[str] = ("after", "before"),
        filters: Sequence[int] = (),
        latency: Callable[[onnx.ModelProto], float] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._model = load(original)
        blurs = load_recipe(recipe).with_options(last_stage="blur", second_phase=0)
        asked = blurs.with_options(last_stage=A_TROUS)
        planned = plan(self._model, asked, **(options or {}))
        self._strengths, self._placements = strengths, placements
        self._latency = latency
        self._filters = tuple(filters) or (asked.filter,)
        self._stage = planned.a_trous
        self._table = plan(self._model, blurs, **(options or {})).to_dict()
        reads = {label(node): node.input[0] for node in original.graph.node if node.op_type == "Conv"}
        groups: dict[str, list[dict[str, Any]]] = {}
        for entry in self._table["sites"]:
            if entry["action"] == "blur" and not entry["scope"]:
                groups.setdefault(reads.get(entry["node"], entry["node"]), []).append(entry)
        # A group goes by the name of its first operator.
        self._groups = {entries[0]["node"]: entries for entries in groups.values()}

    def sites(self) -> Sequence[str]:
        """The groups of sites, each by its first operator, in graph order."""
        return list(self._groups)

    def choices(self, site: str) -> Sequence[Choice]:
        """Placements, filters and strengths; a trous for the last stage; a second phase where one can be."""
        entries = self._groups[site]
        found = []
        for placement in self._placements if entries[0]["op"] == "Conv" else ("after",):
            for taps in self._filters:
                for strength in self._strengths if taps % 2 and taps == self._filters[0] else (1.0,):
                    change = {"placement": placement, "filter": taps, "strength": strength}
                    found.append(Choice(f"{placement}, f={taps}, strength {strength:g}", change))
        if {entry["node"] for entry in entries} == set(self._stage):
            found.append(Choice(A_TROUS, {"action": A_TROUS}))
        twice = Choice("second phase", {"action": "keep", "second_phase": True})
        try:
            replan(open_graph(self._model), self.table({site: twice}))
        except UsageError:
            return found
        return [*found, twice]

    def build(self, chosen: Mapping[str, Choice]) -> onnx.ModelProto:
        """The rewritten model, not repaired and without the identity proof.

        Raises:
            CannotHandle, UsageError: As `aarewrite.rewrite`; the choices may exclude each other.
        """
        return rewrite(self._model, plan=self.table(chosen), verify=False).model

    def cost(self, chosen: Mapping[str, Choice]) -> float:
        """Multiply-accumulates relative to the original's (1 where unknown), or latency where that is larger.

        Raises:
            UsageError: The choices exclude each other.
        """
        planned = replan(open_graph(self._model), self.table(chosen))
        macs = planned.macs_after / planned.macs if planned.macs and planned.macs_after is not None else 1.0
        return macs if self._latency is None else max(macs, self._latency(self.build(chosen)))

    def table(self, chosen: Mapping[str, Choice]) -> dict[str, Any]:
        """The plan, as values for JSON, with what was chosen; the other sites are left."""
        edits = {entry["node"]: choice.change for site, choice in chosen.items() for entry in self._groups[site]}
        sites = []
        for given in self._table["sites"]:
            entry = dict(given)
            change = dict(edits.get(entry["node"], {}))
            if entry["placement"] == "input" and change.get("placement") == "after":
                del change["placement"]  # a 1x1 shortcut is blurred in front of the conv: the same, and cheaper
            if entry["placement"] == "instead":
                change = {}
            if entry["node"] not in edits and entry["action"] == "blur":
                change = {"action": "keep", "reason": "left by the search"}
            sites.append(entry | change)
        return self._table | {"sites": sites}
