"""What the search may do at the sites of a plan: strengths, placements, a last stage a trous."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from aarewrite.calibration.a_trous import a_trous, last_stage
from aarewrite.calibration.layers import label
from aarewrite.calibration.search import Choice
from aarewrite.errors import CannotHandle
from aarewrite.graph import GraphEditor
from aarewrite.model_file import load
from aarewrite.pipeline import plan, rewrite
from aarewrite.planning import replan
from aarewrite.recipe import Recipe


@dataclass(frozen=True)
class Edit:
    """Values to put into a site's entry of the plan; none of them: the stage runs a trous."""

    values: tuple[tuple[str, Any], ...] = ()


class PlanVariants:
    """The variants of a model that a plan can describe, as `search` wants them.

    Strided convs that read the same tensor (a block and its shortcut) are one site: they have to stay aligned.

    Args:
        original: The model.
        recipe: The recipe whose sites, filters and pads are taken; strength and placement are the search's.
        strengths: Of the filter, each tried.
        placements: Of convs' blurs, each tried.
        with_a_trous: Whether the last stage may run a trous.
    """

    def __init__(
        self,
        original: onnx.ModelProto,
        recipe: str | Recipe = "aligned",
        *,
        strengths: Sequence[float] = (1.0, 0.5),
        placements: Sequence[str] = ("after", "before"),
        with_a_trous: bool = True,
    ) -> None:
        self._original, self._recipe = original, recipe
        self._strengths, self._placements = strengths, placements
        self._stage: tuple[str, ...] = last_stage(original) if with_a_trous else ()
        if self._stage:
            try:
                a_trous(original, self._stage)
            except CannotHandle:
                self._stage = ()
        self._table = plan(original, recipe).to_dict()
        reads = {label(node): node.input[0] for node in original.graph.node if node.op_type == "Conv"}
        self._groups: dict[str, list[dict[str, Any]]] = {}
        for entry in self._table["sites"]:
            if entry["action"] == "blur" and not entry["scope"]:
                self._groups.setdefault(reads.get(entry["node"], entry["node"]), []).append(entry)
        # A group goes by the name of its first operator.
        self._groups = {entries[0]["node"]: entries for entries in self._groups.values()}

    def sites(self) -> Sequence[str]:
        """The groups of sites, each by its first operator, in graph order."""
        return list(self._groups)

    def choices(self, site: str) -> Sequence[Choice]:
        """Every placement and strength; a trous for the last stage."""
        entries = self._groups[site]
        conv = entries[0]["op"] == "Conv"
        found = []
        for placement in self._placements if conv else ("after",):
            for strength in self._strengths:
                values = (("placement", placement), ("strength", strength))
                found.append(Choice(f"{placement}, strength {strength:g}", Edit(values)))
        if {entry["node"] for entry in entries} == set(self._stage):
            found.append(Choice("a trous", Edit()))
        return found

    def build(self, chosen: Mapping[str, Choice]) -> onnx.ModelProto:
        """The rewritten model, not repaired and without the identity proof.

        Raises:
            CannotHandle, UsageError: As `aarewrite.rewrite`.
        """
        model, table = self._planned(chosen)
        if not any(entry["action"] == "blur" for entry in table["sites"]):
            return model
        return rewrite(model, plan=table, verify=False).model

    def cost(self, chosen: Mapping[str, Choice]) -> float:
        """Multiply-accumulates relative to the original's; 1 where they are not known."""
        model, table = self._planned(chosen)
        before = self._table["macs"]["before"]
        stage = plan(model, self._recipe).macs
        if not before or not stage:
            return 1.0
        edited = _macs(model, table)
        return float((edited if edited is not None else stage) / before)

    def _planned(self, chosen: Mapping[str, Choice]) -> tuple[onnx.ModelProto, dict[str, Any]]:
        """The model with its last stage a trous if chosen, and its plan with everything else chosen."""
        model = self._original
        if any(isinstance(choice.change, Edit) and not choice.change.values for choice in chosen.values()):
            model = a_trous(model, self._stage)
        table = plan(model, self._recipe).to_dict()
        edits = {
            entry["node"]: (entry, choice.change)
            for site, choice in chosen.items()
            if choice.change.values
            for entry in self._groups[site]
        }
        for entry in table["sites"]:
            if entry["node"] not in edits:
                if entry["action"] == "blur":
                    entry.update(action="keep", reason="left by the search")
                continue
            values = dict(edits[entry["node"]][1].values)
            if entry["placement"] == "input" and values["placement"] == "after":
                del values["placement"]  # a 1x1 shortcut is blurred in front of the conv: the same, and cheaper
            if entry["placement"] == "instead":
                values = {}
            entry.update(values)
        return model, table


def _macs(model: onnx.ModelProto, table: Mapping[str, Any]) -> int | None:
    """Multiply-accumulates of the whole model after a plan given as a table."""
    return replan(GraphEditor(load(model)), table).macs_after
