"""`aarewrite.calibrate`: rewrite a trained model, repair its weights on data, and judge it on data held out."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from aarewrite.calibration.calibrate import Calibration
from aarewrite.calibration.calibrate import calibrate as fit_and_judge
from aarewrite.calibration.choices import PlanVariants
from aarewrite.calibration.latency import latency_ratio
from aarewrite.calibration.repair import RepairOptions
from aarewrite.calibration.search import SearchOptions, SearchResult, Trial, search
from aarewrite.data.canvases import from_setup
from aarewrite.data.setup import open_setup
from aarewrite.errors import CannotHandle, CheckFailed, UsageError
from aarewrite.model.model_file import load
from aarewrite.progress import progress_bar
from aarewrite.recipe import Recipe, load_recipe
from aarewrite.rewriting.pipeline import ModelSource, Result, plan, rewrite

STRENGTH = 0.5  # of the blur, by default: full strength costs trained weights more than repair gives back
PHASE_BUDGET = 2.25  # what a model with a second phase may cost where no budget is given
FILTERS = (3, 5)  # that the search offers


@dataclass(frozen=True)
class Calibrated:
    """What `calibrate` returns.

    Attributes:
        outcome: The repaired model, what was done to each layer, and the judgement on samples held out.
        rewritten: Plan and proof of the rewrite before the repair.
        data: What it was calibrated on, one line.
        preprocess: What was applied to it, one line.
        trials: What the search for a plan tried, in order: the trade-off curve. Empty when the plan was given.
        chosen: Site and label of what the search chose.
        latency: Measured latency relative to the original's, None where it is not limited.
        failures: Why the result should not be used, one line each; empty when it is better within its limits.
    """

    outcome: Calibration
    rewritten: Result
    data: str
    preprocess: str
    trials: tuple[Trial, ...] = ()
    chosen: tuple[tuple[str, str], ...] = ()
    latency: float | None = None
    failures: tuple[str, ...] = ()

    @property
    def model(self) -> onnx.ModelProto:
        """The calibrated ModelProto."""
        return self.outcome.model

    @property
    def better(self) -> bool:
        """Whether it is better than the original on samples held out, within all limits."""
        return not self.failures

    @property
    def cost(self) -> float | None:
        """Multiply-accumulates relative to the original's, None where unknown."""
        return _cost(self.rewritten)

    @property
    def report(self) -> dict[str, Any]:
        """Plan, proof and calibration as plain values, as `--json` writes them; `rewrite(plan=...)` reads them."""
        table = self.rewritten.report
        for entry in table["sites"]:
            entry["measured"] = [_effect(t) for t in self.trials if [site for site, _ in t.chosen] == [entry["node"]]]
        return table | {"calibration": self.to_dict()}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: judgement, layers, trials."""
        outcome = self.outcome
        drift = outcome.drift
        return {
            "better": self.better,
            "failures": list(self.failures),
            "data": self.data,
            "preprocess": self.preprocess,
            "fitted": outcome.fitted,
            "held_out": outcome.judged,
            "cost": self.cost,
            "latency": self.latency,
            "verdict": dataclasses.asdict(outcome.verdict) if outcome.verdict else None,
            "drift": {"before": drift.before, "after": drift.after, "apart": drift.apart} if drift else None,
            "chosen": [list(pair) for pair in self.chosen],
            "trials": [_finite(dataclasses.asdict(trial)) for trial in self.trials],
            "layers": [_finite(dataclasses.asdict(layer)) for layer in outcome.layers],
        }


def calibrate(
    model: ModelSource,
    data: str | Path,
    *,
    recipe: str | Path | Recipe = "calibrated",
    strength: float | str | None = None,
    budget: str | float | None = None,
    max_disagreement: float | None = None,
    crops: int = 1,
    limit: int | None = None,
    seed: int = 0,
    hold_out: float = 1 / 3,
    labels: str | Path | None = None,
    preprocess: str | None = None,
    progress: bool = False,
    **options: Any,
) -> Calibrated:
    """Anti-alias trained weights without training.

    Args:
        model: Path or ModelProto; never changed.
        data: Folder of images or an .npz, as for `aarewrite.verify`; no labels are needed.
        recipe: What is done, as for `aarewrite.rewrite`.
        strength: 0..1, how much of the blur is mixed with the identity; "auto" searches strength, filter, placement, a
            last stage a trous and a second phase per site. None: the recipe's where it is a file or `Recipe`, else 0.5.
        budget: Largest cost: "1.15x" of the original's multiply-accumulates and of its latency as measured here, or
            "120MMAC" in all. A recipe's second phase begins later, or not at all, where it would be over it; without a
            budget it may cost 2.25x.
        max_disagreement: Largest share of crops with another class than the original's, 0..1.
        crops: Random crops of each sample to fit on.
        limit: Use only the first so many samples.
        seed: Of every random choice.
        hold_out: Share of the samples that nothing is fitted to or chosen by.
        labels: CSV of labels; the judgement then has accuracies.
        preprocess: Preset or TOML file, as for `aarewrite.verify`.
        progress: Show progress on stderr when it is a terminal.
        options: Further options of `aarewrite.rewrite`: filter, pad, placement, first_conv, only, skip, plan, ...

    Raises:
        UsageError: The request or the data are wrong.
        CannotHandle: The model cannot be rewritten or repaired; or the search finds nothing within the limits.
        CheckFailed: The rewrite's proof failed, or its cost is over the budget.
    """
    if options.get("plan") is not None and strength is not None:
        raise UsageError("--plan and --strength exclude each other", "edit the strengths in the plan file instead")
    original = load(model).self_contained()
    asked = _with_strength(recipe, strength)
    setup = open_setup(original, data, preprocess=preprocess, labels=labels, limit=limit, seed=seed)
    canvases = from_setup(setup)
    limit_cost = _relative_budget(budget, original, asked)
    timed = limit_cost is not None and not str(budget).endswith(("MAC", "MACs"))
    latency_of = (lambda one: latency_ratio(original, one, canvases)) if timed else None
    settings = RepairOptions(crops=crops, seed=seed)
    found = SearchResult({}, ())
    if strength == "auto":
        verify = options.pop("verify", True)
        variants = PlanVariants(
            original,
            asked,
            filters=FILTERS if asked.filter == FILTERS[0] and options.get("filter") is None else (),
            latency=latency_of,
            options={name: value for name, value in options.items() if name != "plan"},
        )
        fitted = [int(i) for i in canvases.split(hold_out, seed)[0]]
        limits = _limits(limit_cost, max_disagreement)
        with progress_bar("searching a plan", None, progress) as advance:
            found = search(original, variants, canvases, fitted, limits, settings, progress=lambda trial: advance(1))
        if not found.chosen:
            raise CannotHandle(
                f"no choice at any site is better within the limits ({_nearest(found.trials)})",
                "allow more with --max-disagreement or --budget, or give more images",
            )
        rewritten = rewrite(original, plan=variants.table(found.chosen), verify=verify)
    else:
        rewritten = rewrite_within(original, asked, options, limit_cost, latency_of)
    if not rewritten.changed:
        raise UsageError(
            "nothing to calibrate: no site is rewritten", "see aarewrite inspect, or choose another recipe"
        )
    cost = _cost(rewritten)
    if limit_cost is not None and cost is not None and cost > limit_cost:
        raise CheckFailed(
            f"the plan costs {cost:.2f}x, over the budget of {limit_cost:.2f}x",
            "search within it with --strength auto, or use --placement before or --only",
        )
    with progress_bar("repairing", None, progress) as advance:
        outcome = fit_and_judge(
            original,
            rewritten.model,
            canvases,
            hold_out=hold_out,
            seed=seed,
            repair_options=settings,
            on_layer=lambda layer, index, count: advance(1, title=f"repaired {layer.name}", total=count),
        )
    latency = latency_of(outcome.model) if latency_of else None
    return Calibrated(
        outcome,
        rewritten,
        setup.data.description,
        setup.recipe.describe(),
        found.trials,
        tuple((site, choice.label) for site, choice in found.chosen.items()),
        latency,
        tuple(_failures(outcome, max_disagreement, limit_cost, latency)),
    )


def rewrite_within(
    original: onnx.ModelProto,
    recipe: Recipe,
    options: Mapping[str, Any] | None = None,
    budget: float | None = None,
    latency_of: Callable[[onnx.ModelProto], float] | None = None,
) -> Result:
    """The rewrite by a recipe, its second phase begun as late as the budget needs, or left out.

    Args:
        original: The model.
        recipe: What is done.
        options: Further options of `aarewrite.rewrite`.
        budget: Largest cost relative to the original's; None: `PHASE_BUDGET`, for a second phase alone.
        latency_of: Measures a model's latency relative to the original's, where that is limited, too.
    """
    options = options or {}
    given = recipe.second_phase
    if not given or options.get("plan") is not None:
        return rewrite(original, recipe, **options)
    budget = budget or PHASE_BUDGET
    tried = set[tuple[str, ...]]()
    for start in [given * 2**octaves for octaves in range(6)]:
        result = rewrite(original, recipe.with_options(second_phase=start), **options)
        begins, cost = result.plan.second_phase, _cost(result)
        if begins in tried or (tried and not begins):  # the model's last stage, or none that can
            break
        if (cost is None or cost <= budget) and (latency_of is None or latency_of(result.model) <= budget):
            if not tried:
                return result
            note = f"the second phase begins at {begins[0]}: from earlier on it would cost more than {budget:.2f}x"
            return dataclasses.replace(result, warnings=(*result.warnings, note))
        tried.add(begins)
    result = rewrite(original, recipe.with_options(second_phase=0), **options)
    note = f"no second phase: it would cost more than {budget:.2f}x"
    return dataclasses.replace(result, warnings=(*result.warnings, note))


def _limits(budget: float | None, max_disagreement: float | None) -> SearchOptions:
    limits = SearchOptions()
    if budget is not None:
        limits = dataclasses.replace(limits, budget=budget)
    return limits if max_disagreement is None else dataclasses.replace(limits, max_disagreement=max_disagreement)


def _nearest(trials: Sequence[Trial]) -> str:
    """What speaks against the trial with the least noise, for the message that there is none to take."""
    measured = [trial for trial in trials if np.isfinite(trial.noise)]
    return min(measured, key=lambda trial: trial.noise).reason if measured else "everything is over the budget"


def _effect(trial: Trial) -> dict[str, Any]:
    """One choice at one site alone, as measured."""
    values = _finite(dataclasses.asdict(trial))
    return {"choice": trial.chosen[0][1]} | {name: values[name] for name in ("cost", "noise", "disagreement", "reason")}


def _with_strength(recipe: str | Path | Recipe, strength: float | str | None) -> Recipe:
    chosen = load_recipe(recipe)
    if strength == "auto":
        return chosen
    if strength is None:
        own = isinstance(recipe, Recipe) or Path(str(recipe)).suffix == ".toml"
        return chosen if own or chosen.filter % 2 == 0 else chosen.with_options(strength=STRENGTH)
    try:
        return chosen.with_options(strength=float(strength))
    except ValueError:
        raise UsageError(f"--strength {strength!r} is neither auto nor a number", "write 0.5 or auto") from None


def _cost(rewritten: Result) -> float | None:
    plan = rewritten.plan
    return plan.macs_after / plan.macs if plan.macs and plan.macs_after is not None else None


def _relative_budget(budget: str | float | None, original: onnx.ModelProto, recipe: Recipe) -> float | None:
    """The budget relative to the original's cost."""
    if budget is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(x|[kMG]MACs?)?", str(budget).strip())
    if not found:
        raise UsageError(f"--budget {budget!r} is not a cost", "write 1.15x or 120MMAC")
    value, unit = float(found[1]), found[2] or "x"
    if unit == "x":
        return value
    macs = plan(original, recipe).macs
    if not macs:
        raise UsageError("--budget: the model's multiply-accumulates are not known", "write it as a ratio, 1.15x")
    return value * {"k": 1e3, "M": 1e6, "G": 1e9}[unit[0]] / macs


def _failures(
    outcome: Calibration, max_disagreement: float | None, budget: float | None, latency: float | None
) -> list[str]:
    found = []
    verdict, drift = outcome.verdict, outcome.drift
    if verdict is not None and not verdict.better:
        found.append(
            f"not better on {verdict.images} samples held out: consistency {verdict.consistency.change:+.2f}, "
            f"1-px agreement {verdict.one_pixel.change:+.2f} points"
        )
    if drift is not None and not drift.after < drift.before:
        found.append(f"not better on samples held out: drift {drift.before:.4f} -> {drift.after:.4f}")
    if verdict is not None and max_disagreement is not None and 1 - verdict.agreement > max_disagreement:
        found.append(f"disagrees with the original on {1 - verdict.agreement:.1%}, over {max_disagreement:.1%}")
    if budget is not None and latency is not None and latency > budget:
        found.append(f"takes {latency:.2f}x the original's time, over the budget of {budget:.2f}x")
    return found


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no infinity and no NaN."""
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}
