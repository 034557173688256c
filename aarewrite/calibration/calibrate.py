"""Repair a rewritten model on part of the samples, judge it against the original on the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx

from aarewrite.calibration.judge import Drift, Verdict, answer, compare, drift
from aarewrite.calibration.repair import LayerRepair, RepairOptions, repair
from aarewrite.data.canvases import Canvases
from aarewrite.errors import CannotHandle


@dataclass(frozen=True)
class Calibration:
    """A calibrated model and the evidence for it.

    Attributes:
        model: The repaired model.
        layers: What was done to each layer behind a blur.
        fitted, judged: Numbers of samples calibrated on and held out.
        verdict: Of a classifier, on the samples held out.
        drift: Of any other model, on the samples held out.
    """

    model: onnx.ModelProto
    layers: tuple[LayerRepair, ...]
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
    rewritten: onnx.ModelProto,
    canvases: Canvases,
    *,
    hold_out: float = 1 / 3,
    pairs: int = 5,
    seed: int = 0,
    repair_options: RepairOptions | None = None,
    on_layer: Callable[[LayerRepair, int, int], None] | None = None,
) -> Calibration:
    """Anti-alias trained weights without training.

    Args:
        original: The model.
        rewritten: Its rewrite.
        canvases: The data, unlabelled or labelled.
        hold_out: Share of the samples that nothing is fitted to.
        pairs: Pairs of crops per held-out sample.
        seed: Of the split and the crops.
        repair_options: How weights are repaired.
        on_layer: Called with progress.

    Raises:
        UsageError: The data do not fit.
        CannotHandle: As `repair`.
    """
    settings = repair_options or RepairOptions(seed=seed)
    fitted, judged = ([int(i) for i in part] for part in canvases.split(hold_out, seed))
    batches = canvases.batches(fitted, crops=settings.crops, seed=seed)
    model, layers = repair(original, rewritten, batches, settings, progress=on_layer)
    verdict, moved = None, None
    try:
        before, after = (
            answer(one, canvases, judged, pairs=pairs, seed=seed, threads=settings.threads) for one in (original, model)
        )
        verdict = compare(before, after, seed=seed)
    except CannotHandle:  # maps: no classes to compare
        moved = drift(original, model, canvases, judged, threads=settings.threads)
    return Calibration(model, tuple(layers), len(fitted), len(judged), verdict, moved)
