"""The whole way: choose a plan that fits the weights, repair them, judge the result on samples held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx

from aarewrite.calibration.canvases import Canvases
from aarewrite.calibration.judge import Drift, Verdict, answer, compare, drift
from aarewrite.calibration.repair import LayerRepair, RepairOptions, repair
from aarewrite.calibration.search import SearchOptions, Trial, Variants, search
from aarewrite.errors import CannotHandle, UsageError


@dataclass(frozen=True)
class Calibration:
    """A calibrated model and the evidence for it.

    Attributes:
        model: The repaired model.
        layers: What was done to each layer behind a blur.
        chosen: Site and label of what the search chose; empty when the plan was given.
        trials: What the search tried: the trade-off curve.
        fitted, judged: Numbers of samples calibrated on and held out.
        verdict: Of a classifier, on the samples held out.
        drift: Of any other model, on the samples held out.
    """

    model: onnx.ModelProto
    layers: tuple[LayerRepair, ...]
    chosen: tuple[tuple[str, str], ...]
    trials: tuple[Trial, ...]
    fitted: int
    judged: int
    verdict: Verdict | None
    drift: Drift | None

    @property
    def better(self) -> bool:
        """Whether the model is better than the original on samples held out."""
        if self.verdict is not None:
            return self.verdict.better
        return self.drift is not None and self.drift.after < self.drift.before


def calibrate(
    original: onnx.ModelProto,
    canvases: Canvases,
    *,
    rewritten: onnx.ModelProto | None = None,
    variants: Variants | None = None,
    hold_out: float = 1 / 3,
    pairs: int = 5,
    seed: int = 0,
    repair_options: RepairOptions | None = None,
    search_options: SearchOptions | None = None,
    on_trial: Callable[[Trial], None] | None = None,
    on_layer: Callable[[LayerRepair, int, int], None] | None = None,
) -> Calibration:
    """Anti-alias trained weights without training.

    Args:
        original: The model.
        canvases: The data, unlabelled or labelled.
        rewritten: Its rewrite by a given plan; None: search for a plan among `variants`.
        variants: What the search may do.
        hold_out: Share of the samples that nothing is fitted to or chosen by.
        pairs: Pairs of crops per held-out sample.
        seed: Of the split and the crops.
        repair_options, search_options: See there.
        on_trial, on_layer: Called with progress.

    Raises:
        UsageError: Neither a rewrite nor variants, or data that do not fit.
        CannotHandle: As `repair`; or the search found nothing that is better within the limits.
    """
    settings = repair_options or RepairOptions(seed=seed)
    fitted, judged = canvases.split(hold_out, seed)
    trials: tuple[Trial, ...] = ()
    chosen: tuple[tuple[str, str], ...] = ()
    if rewritten is None:
        if variants is None:
            raise UsageError("neither a rewritten model nor variants to search were given")
        found = search(
            original, variants, canvases, [int(i) for i in fitted], search_options, settings, progress=on_trial
        )
        if not found.chosen:
            best = min((trial.disagreement for trial in found.trials), default=float("nan"))
            raise CannotHandle(
                f"no choice at any site is better within the limits (least disagreement {best:.1%})",
                "allow more with --max-disagreement or --budget, or give more images",
            )
        trials = found.trials
        chosen = tuple((site, choice.label) for site, choice in found.chosen.items())
        rewritten = variants.build(found.chosen)
    batches = canvases.batches([int(i) for i in fitted], crops=settings.crops, seed=seed)
    model, layers = repair(original, rewritten, batches, settings, progress=on_layer)
    held = [int(i) for i in judged]
    verdict, moved = None, None
    try:
        before, after = (
            answer(one, canvases, held, pairs=pairs, seed=seed, threads=settings.threads) for one in (original, model)
        )
        verdict = compare(before, after, seed=seed)
    except CannotHandle:  # maps: no classes to compare
        moved = drift(original, model, canvases, held, threads=settings.threads)
    return Calibration(model, tuple(layers), chosen, trials, len(fitted), len(held), verdict, moved)
