"""`aarewrite.calibrate`: rewrite a trained model, repair its weights on data, and judge it on data held out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
import onnx

from aarewrite.calibration.budget import relative_budget, rewrite_within
from aarewrite.calibration.choices import PlanVariants
from aarewrite.calibration.judge import Drift, Verdict, answer, compare, drift
from aarewrite.calibration.latency import latency_ratio
from aarewrite.calibration.layers import LayerRepair
from aarewrite.calibration.plain_views import DEAR, plain_views
from aarewrite.calibration.problem import RepairOptions
from aarewrite.calibration.repair import DEFAULTS, Progress, repair
from aarewrite.calibration.search import SearchOptions, SearchResult, Trial, search
from aarewrite.data.canvases import Canvases, from_setup
from aarewrite.data.setup import open_setup
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model.model_file import load
from aarewrite.notebook import Record, Tabular, estimate, figures
from aarewrite.options import Json
from aarewrite.passes.low_passes import FILTERS
from aarewrite.planning import Plan
from aarewrite.progress import progress_bar
from aarewrite.recipe import Recipe, load_recipe
from aarewrite.rewriting.pipeline import ModelSource, Options, Result
from aarewrite.verification.plausible import preprocessing_doubt

STRENGTH = 0.5  # of the blur, by default: full strength costs trained weights more than repair gives back
PAIRS = 5  # of crops of each sample held out
SEARCHED = (3, 5)  # filters that the search offers where none is asked for


@dataclass(frozen=True)
class Calibration:
    """A calibrated model and the evidence for it."""

    model: onnx.ModelProto  # the repaired model
    layers: tuple[LayerRepair, ...]  # what was done to each layer behind a blur
    fitted: int  # number of samples calibrated on
    judged: int  # and held out
    verdict: Verdict | None  # of a classifier, on the samples held out
    drift: Drift | None  # of any other model, on the samples held out
    # Where it costs as much as a second run: its changes from two plain views of the original, by the views' moves
    beside: tuple[tuple[str, Verdict], ...] = ()


@dataclass(frozen=True)
class Calibrated(Tabular):
    """What `calibrate` returns."""

    outcome: Calibration  # the repaired model, what was done to each layer, and the judgement on samples held out
    rewritten: Result  # plan and proof of the rewrite before the repair
    data: str  # what it was calibrated on, one line
    preprocess: str  # what was applied to it, one line
    # What the search for a plan tried, in order: the trade-off curve. Empty when the plan was given.
    trials: tuple[Trial, ...] = ()
    chosen: tuple[tuple[str, str], ...] = ()  # site and label of what the search chose
    latency: float | None = None  # measured latency relative to the original's, None where it is not limited
    # Why the result should not be used, one line each; empty when it is better within its limits
    failures: tuple[str, ...] = ()

    def records(self) -> list[Record]:
        """The judgement's figures, a row each, then those of every layer and of what the search tried."""
        layers: list[Record] = [row for one in self.outcome.layers for row in figures(one)]
        tried: list[Record] = [
            {"tried": ", ".join(": ".join(pair) for pair in trial.chosen), **row}
            for trial in self.trials
            for row in figures(trial)
        ]
        return self.headlines() + layers + tried

    def headlines(self) -> list[Record]:
        """The judgement on samples held out, what is beside it, and the cost."""
        verdict, drift = self.outcome.verdict, self.outcome.drift
        judged: list[tuple[Record, Verdict]] = [({}, verdict)] if verdict else []
        judged += [({"against": f"two views, {moves}"}, against) for moves, against in self.outcome.beside]
        found: list[Record] = [
            {**of, "before": one.before, "after": one.after, **estimate(one, one.name)}
            for of, against in judged
            for one in against.measures
        ]
        if verdict:
            found.append({"measure": "agreement", "value": verdict.agreement})
        if drift:
            moved: Record = {"before": drift.before, "after": drift.after, "value": drift.after - drift.before}
            found += [{"measure": "drift"} | moved, {"measure": "apart", "value": drift.apart}]
        costs = (("cost", self.cost), ("latency", self.latency))
        return found + [{"measure": name, "value": ratio} for name, ratio in costs if ratio is not None]

    def caption(self) -> str:
        """What was repaired and judged on what, and what speaks against the result."""
        outcome = self.outcome
        repaired = f"{sum(layer.repaired for layer in outcome.layers)} of {len(outcome.layers)} layers repaired"
        on = f"on {outcome.fitted} samples of {self.data}, judged on {outcome.judged} held out"
        return "; ".join((f"{repaired} {on}", *self.failures))

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
        return self.rewritten.plan.cost

    @property
    def report(self) -> Json:
        """Plan, proof and calibration as plain values, as `--json` writes them; `rewrite(plan=...)` reads them."""
        table = self.rewritten.report
        for entry in table["sites"]:
            entry["measured"] = [_effect(t) for t in self.trials if [site for site, _ in t.chosen] == [entry["node"]]]
        return table | {"calibration": self.to_dict()}

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON: judgement, layers, trials."""
        outcome = self.outcome
        verdict, drift = outcome.verdict, outcome.drift
        return {
            "better": self.better,
            "failures": list(self.failures),
            "data": self.data,
            "preprocess": self.preprocess,
            "fitted": outcome.fitted,
            "held_out": outcome.judged,
            "cost": self.cost,
            "latency": self.latency,
            "verdict": verdict and dataclasses.asdict(verdict) | {"judgement": verdict.judgement},
            "plain_views": [
                {"moves": moves, "judgement": against.judgement} | dataclasses.asdict(against)
                for moves, against in outcome.beside
            ],
            "drift": {"before": drift.before, "after": drift.after, "apart": drift.apart} if drift else None,
            "chosen": [list(pair) for pair in self.chosen],
            "trials": [_finite(trial) for trial in self.trials],
            "layers": [_finite(layer) for layer in outcome.layers],
        }


def calibrate(
    model: ModelSource,
    data: str | Path,
    *,
    recipe: str | Path | Recipe = "calibrated",
    strength: float | str | None = None,
    minutes: float | None = None,
    budget: str | float | None = None,
    max_disagreement: float | None = None,
    crops: int = 1,
    limit: int | None = None,
    seed: int = 0,
    hold_out: float = 1 / 3,
    labels: str | Path | None = None,
    preprocess: str | None = None,
    progress: bool = False,
    plan: Plan | Mapping[str, object] | None = None,
    verify: bool = True,
    **options: Unpack[Options],
) -> Calibrated:
    """Anti-alias trained weights without training.

    Args:
        model: Path or ModelProto; never changed.
        data: Folder of images or an .npz, as for `aarewrite.verify`, but no synthetic noise; no labels are needed.
        recipe: What is done, as for `aarewrite.rewrite`.
        strength: 0..1, how much of the blur is mixed with the identity; "auto" searches strength, filter, placement
            and a last stage a trous per site. None: the recipe's where it is a file or `Recipe`, else 0.5.
        minutes: Time that the search may take; what it found by then is taken. None: until all is tried.
        budget: Largest cost: "1.15x" of the original's multiply-accumulates and of its latency as measured here, or
            "120MMAC" in all.
        max_disagreement: Largest share of crops with another class than the original's, 0..1.
        crops: Random crops of each sample to fit on.
        limit: Use only the first so many samples.
        seed: Of every random choice.
        hold_out: Share of the samples that nothing is fitted to or chosen by.
        labels: CSV of labels; the judgement then has accuracies.
        preprocess: Preset or TOML file, as for `aarewrite.verify`.
        progress: Show progress on stderr when it is a terminal.
        plan, verify, options: As for `aarewrite.rewrite`.

    Raises:
        UsageError: The request or the data are wrong.
        CannotHandle: The model cannot be rewritten or repaired; or the search finds nothing within the limits.
        CheckFailed: The rewrite's proof failed, or its cost is over the budget.
    """
    if plan is not None and strength is not None:
        raise UsageError("--plan and --strength exclude each other", "edit the strengths in the plan file instead")
    original = load(model).self_contained()
    taps = options.get("filter")
    asked = _with_strength(load_recipe(recipe).with_options(filter=taps), recipe, strength)
    setup = open_setup(original, data, preprocess=preprocess, labels=labels, limit=limit, seed=seed).readable()
    if setup.data.kind == "synthetic":
        raise UsageError(
            "--calibrate synthetic: noise fits weights to noise, and looks better by it",
            "give photographs, or whatever the model sees",
        )
    doubt = preprocessing_doubt(setup)
    canvases = from_setup(setup)
    limit_cost = relative_budget(budget, original, options.get("input_shapes"))
    timed = limit_cost is not None and not str(budget).endswith(("MAC", "MACs"))
    latency_of = (lambda one: latency_ratio(original, one, canvases)) if timed else None
    settings = RepairOptions(crops=crops, seed=seed)
    found = SearchResult({}, ())
    if strength == "auto":
        filters = SEARCHED if asked.filter == SEARCHED[0] and taps is None else ()
        variants = PlanVariants(original, asked, filters=filters, latency=latency_of, options=options)
        fitted = [int(i) for i in canvases.split(hold_out, seed)[0]]
        limits = SearchOptions(
            budget=SearchOptions.budget if limit_cost is None else limit_cost,
            max_disagreement=SearchOptions.max_disagreement if max_disagreement is None else max_disagreement,
        )
        with progress_bar("searching a plan", None, progress) as advance:

            def tried(trial: Trial, alone: int) -> None:
                advance(1, title=f"tried {', '.join(site for site, _ in trial.chosen)}", total=alone)

            found = search(original, variants, canvases, fitted, limits, settings, minutes=minutes, progress=tried)
        if not found.chosen:
            raise CannotHandle(
                f"no choice at any site is better within the limits ({_nearest(found.trials)})",
                "allow more with --max-disagreement or --budget, or give more images",
            )
        plan = variants.plan(found.chosen)
    rewritten = rewrite_within(original, asked, options, limit_cost, plan, verify)
    if not rewritten.changed:
        raise UsageError(
            "nothing to calibrate: no site is rewritten", "see aarewrite inspect, or choose another recipe"
        )
    if rewritten.plan.frames:
        reason = f"the plan changes what the model sees of {next(iter(rewritten.plan.frames))}"
        raise UsageError(reason, "calibrate without that, and rewrite the result with it")
    with progress_bar("repairing", None, progress) as advance:

        def shown(layer: LayerRepair, done: int, total: int) -> None:
            advance(1, title=f"repaired {layer.name}", total=total)

        latency = latency_of(rewritten.model) if latency_of else None
        dear = max(latency or 1.0, rewritten.plan.cost or 1.0) >= DEAR
        beside = plain_views(original, options.get("input_shapes")) if dear else {}
        outcome = repair_and_judge(
            original, rewritten.model, canvases, settings, hold_out=hold_out, beside=beside, progress=shown
        )
    chosen = tuple((site, choice.label) for site, choice in found.chosen.items())
    failures = (*([doubt] if doubt else []), *_failures(outcome, max_disagreement, limit_cost, latency))
    data, preprocessing = setup.data.description, setup.recipe.describe()
    return Calibrated(outcome, rewritten, data, preprocessing, found.trials, chosen, latency, failures)


def repair_and_judge(
    original: onnx.ModelProto,
    rewritten: onnx.ModelProto,
    canvases: Canvases,
    options: RepairOptions = DEFAULTS,
    *,
    hold_out: float = 1 / 3,
    beside: Mapping[str, onnx.ModelProto] | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Repair a rewritten model on part of the samples, judge it against the original on the rest.

    Args:
        original, rewritten, options, progress: As for `repair`; the options' seed is that of the split and crops, too.
        canvases: The data, unlabelled or labelled.
        hold_out: Share of the samples that nothing is fitted to.
        beside: Further models by name, which a classifier is judged against on the same samples.

    Raises:
        UsageError: The data do not fit.
        CannotHandle: As `repair`.
    """
    seed, threads = options.seed, options.threads
    fitted, judged = ([int(i) for i in part] for part in canvases.split(hold_out, seed))
    batches = canvases.batches(fitted, crops=options.crops, seed=seed)
    model, layers = repair(original, rewritten, batches, options, progress=progress)
    verdict, moved, others = None, None, dict(beside or {})
    found: tuple[tuple[str, Verdict], ...] = ()
    try:
        models = (original, model, *others.values())
        before, after, *more = answer(models, canvases, judged, pairs=PAIRS, seed=seed, threads=threads)
        verdict = compare(before, after, seed=seed)
        found = tuple((name, compare(one, after, seed=seed)) for name, one in zip(others, more, strict=True))
    except CannotHandle:  # maps: no classes to compare
        moved = drift(original, model, canvases, judged, threads=threads)
    return Calibration(model, tuple(layers), len(fitted), len(judged), verdict, moved, found)


def _nearest(trials: Sequence[Trial]) -> str:
    """What speaks against the trial with the least noise, for the message that there is none to take."""
    measured = [trial for trial in trials if np.isfinite(trial.noise)]
    return min(measured, key=lambda trial: trial.noise).reason if measured else "everything is over the budget"


def _effect(trial: Trial) -> dict[str, object]:
    """One choice at one site alone, as measured."""
    values = _finite(trial)
    return {"choice": trial.chosen[0][1]} | {name: values[name] for name in ("cost", "noise", "disagreement", "reason")}


def _with_strength(chosen: Recipe, given: str | Path | Recipe, strength: float | str | None) -> Recipe:
    if strength == "auto":
        return chosen
    if strength is None:
        own = isinstance(given, Recipe) or Path(str(given)).suffix == ".toml"
        mixed = chosen.filter in FILTERS[chosen.filter].takes_strength
        return chosen if own else chosen.with_options(strength=STRENGTH if mixed else 1.0)
    try:
        return chosen.with_options(strength=float(strength))
    except ValueError:
        raise UsageError(f"--strength {strength!r} is neither auto nor a number", "write 0.5 or auto") from None


def _failures(
    outcome: Calibration, max_disagreement: float | None, budget: float | None, latency: float | None
) -> list[str]:
    found = []
    verdict, drift = outcome.verdict, outcome.drift
    if verdict is not None and not verdict.better:
        changes = ", ".join(f"{one.name} {one.says}" for one in (verdict.consistency, verdict.one_pixel))
        found.append(f"{verdict.judgement} on {verdict.images} samples held out: {changes} points")
    if drift is not None and not drift.after < drift.before:
        found.append(f"not better on samples held out: drift {drift.before:.4f} -> {drift.after:.4f}")
    if verdict is not None and max_disagreement is not None and 1 - verdict.agreement > max_disagreement:
        found.append(f"disagrees with the original on {1 - verdict.agreement:.1%}, over {max_disagreement:.1%}")
    if budget is not None and latency is not None and latency > budget:
        found.append(f"takes {latency:.2f}x the original's time, over the budget of {budget:.2f}x")
    return found


def _finite(made: Trial | LayerRepair) -> dict[str, object]:
    """Its fields for JSON, which has no infinity and no NaN."""
    values = dataclasses.asdict(made).items()
    return {name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in values}
