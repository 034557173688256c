"""What a model may cost: budgets read, and the plan that keeps within one."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import onnx

from aarewrite.errors import CheckFailed, UsageError
from aarewrite.passes import STAGE_PASSES
from aarewrite.planning import Plan
from aarewrite.recipe import Recipe
from aarewrite.rewriting.pipeline import ModelSource, Options, Result, plan, read_plan, rewrite

STAGE_BUDGET = 2.25  # what a stage that can be cheaper may make a model cost where no budget is given
UNITS = {"k": 1e3, "M": 1e6, "G": 1e9}

Latency = Callable[[onnx.ModelProto], float]  # a model's latency relative to the original's


def relative_budget(
    budget: str | float | None, original: ModelSource, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> float | None:
    """The budget, "1.15x" or "120MMAC", relative to the original's cost at the sizes given.

    Raises:
        UsageError: It is neither, or the model's multiply-accumulates are not known.
    """
    if budget is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(x|[kMG]MACs?)?", str(budget).strip())
    if not found:
        raise UsageError(f"--budget {budget!r} is not a cost", "write 1.15x or 120MMAC")
    value, unit = float(found[1]), found[2] or "x"
    if unit == "x":
        return value
    macs = plan(original, input_shapes=input_shapes).macs
    if not macs:
        raise UsageError("--budget: the model's multiply-accumulates are not known", "write it as a ratio, 1.15x")
    return value * UNITS[unit[0]] / macs


def rewrite_within(
    original: ModelSource,
    recipe: Recipe,
    options: Options | None = None,
    budget: float | None = None,
    latency_of: Latency | None = None,
    given: Plan | Mapping[str, object] | None = None,
    verify: bool = True,
) -> Result:
    """The rewrite by a recipe, a stage that can be cheaper made as cheap as the budget needs, or left out; proven once.

    Args:
        original, recipe, options, verify: As for `aarewrite.rewrite`.
        budget: Largest cost relative to the original's; None: `STAGE_BUDGET`, for such a stage alone.
        latency_of: Measures a model's latency, where that is limited, too.
        given: A plan to take instead of making one.

    Raises:
        CheckFailed: The plan is over the budget given, or its proof failed.
        CannotHandle, UsageError: As `aarewrite.rewrite`.
    """
    if given is None:
        planned, note = plan_within(original, recipe, options or Options(), budget, latency_of)
    else:
        planned, note = given if isinstance(given, Plan) else read_plan(original, given), ""
    if budget is not None and planned.cost is not None and planned.cost > budget:
        raise CheckFailed(
            f"the plan costs {planned.cost:.2f}x, over the budget of {budget:.2f}x",
            "search within it with --strength auto, or use --placement before or --only",
        )
    result = rewrite(original, plan=planned, verify=verify)
    return dataclasses.replace(result, warnings=(*result.warnings, note)) if note else result


def plan_within(
    original: ModelSource,
    recipe: Recipe,
    options: Options,
    budget: float | None = None,
    latency_of: Latency | None = None,
) -> tuple[Plan, str]:
    """The plan for `rewrite_within`, and a note on the stage that was made cheaper. A model is built only where
    its latency is to be measured, and proven nowhere: costs are counted on plans. Arguments as there."""
    dear = [kind for kind in STAGE_PASSES.values() if kind.cheaper(recipe.asked(kind))]
    if not dear:
        return plan(original, recipe, **options), ""
    kind, budget = dear[0], budget or STAGE_BUDGET
    *later, without = kind.cheaper(recipe.asked(kind))
    tried = set[tuple[str, ...]]()
    for change in [{}, *later]:
        found = plan(original, recipe.with_options(**change), **options)
        begins = next((stage.sites for stage in found.stages if type(stage) is kind), ())
        if begins in tried or (tried and not begins):  # the model's last stage, or none that can
            break
        cheap = found.cost is None or found.cost <= budget
        if cheap and (latency_of is None or latency_of(rewrite(original, plan=found, verify=False).model) <= budget):
            late = f"the {kind.name} begins at {begins[0]}: from earlier on" if tried else ""
            return found, f"{late} it would cost more than {budget:.2f}x" if late else ""
        tried.add(begins)
    left_out = plan(original, recipe.with_options(**without), **options)
    return left_out, f"no {kind.name}: it would cost more than {budget:.2f}x"
