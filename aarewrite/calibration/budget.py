"""What a model may cost: budgets read, and the plan that keeps within one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from aarewrite.errors import CheckFailed, UsageError
from aarewrite.planning import Plan
from aarewrite.recipe import Recipe
from aarewrite.rewriting.pipeline import ModelSource, Options, Result, plan, read_plan, rewrite

UNITS = {"k": 1e3, "M": 1e6, "G": 1e9}


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
    given: Plan | Mapping[str, object] | None = None,
    verify: bool = True,
) -> Result:
    """The rewrite by a recipe, where it is within a budget; its cost is counted before anything is built.

    Args:
        original, recipe, options, verify: As for `aarewrite.rewrite`.
        budget: Largest cost in multiply-accumulates relative to the original's; None: any.
        given: A plan to take instead of making one.

    Raises:
        CheckFailed: The plan is over the budget, or its proof failed.
        CannotHandle, UsageError: As `aarewrite.rewrite`.
    """
    planned: Plan
    if given is None:
        planned = plan(original, recipe, **(options or Options()))
    else:
        planned = given if isinstance(given, Plan) else read_plan(original, given)
    if budget is not None and planned.cost is not None and planned.cost > budget:
        raise CheckFailed(
            f"the plan costs {planned.cost:.2f}x, over the budget of {budget:.2f}x",
            "search within it with --strength auto, or use --placement before or --only",
        )
    return rewrite(original, plan=planned, verify=verify)
