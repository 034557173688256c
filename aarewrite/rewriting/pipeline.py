"""load -> find sites -> plan -> apply -> fold -> prove: the whole way, on values."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn, TypedDict, Unpack

import onnx

from aarewrite import planning
from aarewrite.errors import CheckFailed, UsageError
from aarewrite.model.model_file import Model, load
from aarewrite.notebook import Record, Tabular
from aarewrite.options import Json
from aarewrite.passes.contract import PLACEMENTS
from aarewrite.planning import parse_plan
from aarewrite.recipe import Recipe, load_recipe
from aarewrite.rewriting import not_finite
from aarewrite.rewriting.apply import Plan, applied, open_reading
from aarewrite.rewriting.checks import check, explained
from aarewrite.rewriting.lower import Lowered, lower
from aarewrite.rewriting.planner import make_plan, replan
from aarewrite.rewriting.proof import Claim, Proof, prove
from aarewrite.targets.support import unsupported
from aarewrite.texts import number

MOST_LINES = 8  # on nodes that a target's runtime does not take
ModelSource = str | os.PathLike[str] | onnx.ModelProto | Model


@dataclass
class Result(Tabular):
    """What `rewrite` returns."""

    plan: planning.Plan  # every site with its decision
    rewritten: Model  # with its weights set aside; as loaded where nothing is to be changed
    proof: Proof | None = None  # None where it was not asked for or nothing changed
    warnings: tuple[str, ...] = ()  # what the user should know, e.g. that the original is not valid ONNX
    lowered: tuple[Lowered, ...] = ()  # what form each blur with a Pad has now

    def records(self) -> list[Record]:
        """As `Plan.records`."""
        return self.plan.records()

    def caption(self) -> str:
        """As `Plan.caption`, and whether it was proven."""
        return self.plan.caption() + (", proven" if self.proof else "")

    @property
    def changed(self) -> bool:
        """Whether anything was rewritten, be it the form of a blur."""
        return self.plan.changes or any(one.form for one in self.lowered)

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The complete rewritten ModelProto."""
        return self.rewritten.to_proto()

    @property
    def report(self) -> Json:
        """Plan and proof as plain values, as `--json` writes them."""
        proof = self.proof.to_dict() if self.proof else None
        return self.plan.to_dict() | {
            "changed": self.changed,
            "proof": proof,
            "lowering": [dataclasses.asdict(one) for one in self.lowered],
            "model_warnings": list(self.warnings),
        }


class Options(TypedDict, total=False):
    """What `rewrite` and `plan` may be asked besides the recipe; each is the recipe's where it is not given."""

    filter: int | str | None  # taps per subsampled axis, 1..7, or the name of another filter
    pad: str | None  # "reflect", "edge" or "zero"
    placement: str | None  # "after" or "before" strided convs
    first_conv: bool | None  # whether the first conv is blurred
    max_window: int | str | None  # "keep" or the largest MaxPool window
    views: str | None  # "2", "4" or shifts in pixels, "0,0 1,1": the outputs of moved copies are averaged
    views_of: str | None  # "logits" or "probabilities"
    anchor: str | None  # "wide" or "in-place": the phase of the grid is chosen by the image's content
    anchor_origin: bool | None  # whether the chosen origin is a further output
    anchor_phases: int | None  # among how many origins it is chosen along an axis, at least; 0: the total stride
    target: str | None  # the runtime whose form blurs take, those that are there already too; None: portable, new ones
    only: Iterable[str]  # globs over node names; the other sites are kept
    skip: Iterable[str]  # globs over node names of sites to keep
    input_shapes: Mapping[str, Sequence[int]] | None  # by input name, for sizes that the model leaves open


def rewrite(
    model: ModelSource,
    recipe: str | Path | Recipe = "aligned",
    *,
    plan: planning.Plan | Mapping[str, object] | None = None,
    verify: bool = True,
    **options: Unpack[Options],
) -> Result:
    """Rewrite a model into its anti-aliased version, and prove that every blur is in its place.

    Args:
        model: Path of an .onnx file, or a ModelProto, which is left as it is.
        recipe: "aligned", "zhang2019", "zhang2019-resnet", "timm", "composer", a TOML file, or a `Recipe`.
        plan: A plan to apply instead of making one; recipe and options are then not used.
        verify: Run the identity proof and the rewritten model.
        options: filter, pad, placement, first_conv, max_window, views, views_of, anchor, anchor_origin, anchor_phases,
            target, only, skip and input_shapes, as in `Options`.

    Raises:
        UsageError: An argument is wrong.
        CannotHandle: The model cannot be read, represented or run.
        CheckFailed: The proof failed or the result is not valid.
    """
    loaded = load(model)
    with explained(loaded):
        return _rewritten(loaded, recipe, plan, verify, options)


def _rewritten(
    loaded: Model,
    recipe: str | Path | Recipe,
    plan: planning.Plan | Mapping[str, object] | None,
    verify: bool,
    options: Options,
) -> Result:
    if isinstance(plan, planning.Plan):
        planned, rewritten = plan, applied(plan, loaded)
    else:
        planned, rewritten = _planned(loaded, recipe, plan, options)
    rewritten, forms = lower(rewritten, loaded, planned.recipe.target, verify)
    if not (planned.changes or any(one.form for one in forms)):
        return Result(planned, loaded, lowered=forms)
    warnings = check(loaded, rewritten, planned.frames, planned.more_outputs)
    proof = None
    if verify and planned.changes:
        twin = applied(planned, loaded, twin=True)
        claimed = claim(planned)
        proof = prove(loaded, twin, rewritten, claimed)
        if not proof.passed:
            _explain(proof, loaded, claimed)
    target = planned.recipe.target
    lacking = unsupported(rewritten.readable, target) if target else []
    warnings += tuple(f"{target}: {line}" for line in lacking[:MOST_LINES])
    if len(lacking) > MOST_LINES:
        warnings += (f"{target}: and {len(lacking) - MOST_LINES} nodes more that it does not take",)
    return Result(planned, rewritten, proof, warnings, forms)


def _explain(proof: Proof, original: Model, claimed: Claim) -> NoReturn:
    """Raise what a failed proof says: of the model where its own maps are not finite, else of the rewrite."""
    name = next((c.tensor for c in proof.comparisons if c.problem), "")
    if name and not_finite.in_original(original, claimed, name):
        keep = "keep the sites that lead to it with --skip"
        raise CheckFailed(
            f"identity proof: tensor {name!r} holds NaN or infinity in the original itself, which a blur would spread",
            f"nothing was written; {not_finite.weights_to_check(original) or keep}",
        )
    raise CheckFailed(proof.failure, "nothing was written; please report the model's construct")


def plan(model: ModelSource, recipe: str | Path | Recipe = "aligned", **options: Unpack[Options]) -> Plan:
    """What `rewrite` would do with a model, as a value to print, save, edit and apply. Arguments as there."""
    loaded = load(model)
    with explained(loaded):
        return _planned(loaded, recipe, None, options)[0]


def read_plan(model: ModelSource, table: Mapping[str, object]) -> Plan:
    """A plan read back from its values (of `Plan.to_dict`, edited or not), held against the model it is for. Errors
    as of `parse_plan` and `replan`."""
    loaded = load(model)
    with explained(loaded):
        return _planned(loaded, "aligned", table, {})[0]


def _planned(
    model: Model, recipe: str | Path | Recipe, table: Mapping[str, object] | None, options: Options
) -> tuple[Plan, Model]:
    """The plan, and the model rewritten by it."""
    if unknown := sorted(options.keys() - Options.__optional_keys__):
        raise UsageError(f"unknown option {unknown[0]!r}", f"known are {', '.join(sorted(Options.__optional_keys__))}")
    if table is not None:
        draft = parse_plan(table)
        return replan(open_reading(model, draft.input_shapes), draft)
    asked = recipe_options(load_recipe(recipe), options)
    reading = open_reading(model, options.get("input_shapes"))
    return make_plan(reading, asked, _globs(options.get("only", ())), _globs(options.get("skip", ())))


def _globs(given: Iterable[str]) -> tuple[str, ...]:
    """Globs; a single text is one, and not its letters."""
    return (given,) if isinstance(given, str) else tuple(given)


def claim(planned: planning.Plan) -> Claim:
    """What the proof is to show of a plan."""
    rewrites = planned.rewrites
    return Claim(
        input_shapes=planned.input_shapes,
        watched=tuple(p.map_name for p in rewrites if not p.site.scope and p.map_name),
        unproven=tuple(p.site.node for p in rewrites if p.match and not p.match.proven),
        in_branches=any(p.site.scope for p in rewrites),
        frames=planned.frames,
    )


def recipe_options(recipe: Recipe, options: Options) -> Recipe:
    """A recipe with the options in place of its own values."""
    placement, window = options.get("placement"), options.get("max_window")
    if placement is not None and placement not in PLACEMENTS:
        raise UsageError(f"placement {placement!r} is not one of {', '.join(PLACEMENTS)}")
    if window is not None and window != "keep" and not number(str(window)):
        raise UsageError(f"max_window {window!r} is neither keep nor a window size")
    return recipe.with_options(
        filter=options.get("filter"),
        pad=options.get("pad"),
        conv=placement,
        first_conv=options.get("first_conv"),
        max_window=None if window is None else 0 if window == "keep" else int(window),
        views=options.get("views"),
        views_of=options.get("views_of"),
        anchor=options.get("anchor"),
        anchor_origin=options.get("anchor_origin"),
        anchor_phases=options.get("anchor_phases"),
        target=options.get("target"),
    )
