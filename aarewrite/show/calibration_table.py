"""A calibration as one reads it in a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from aarewrite.show.console import Terminal

if TYPE_CHECKING:
    from aarewrite.calibration.run import Calibrated


def print_calibrated(calibrated: Calibrated, verbose: bool = False) -> None:
    """Print the judgement on samples held out, the layers if `verbose`, and what speaks against the result."""
    out, outcome = Terminal(), calibrated.outcome
    judge = outcome.verdict
    under = f" by {judge.pairs} pairs of {judge.protocol} views of each" if judge else ""
    out.say(f"calibrated on {outcome.fitted} samples of {calibrated.data}, judged on {outcome.judged} held out{under}")
    out.say(f"preprocess {calibrated.preprocess}")
    for site, label in calibrated.chosen:
        out.say(f"chose {label} at {site}")
    if verbose:
        tried = []
        for trial in calibrated.trials:
            choices = ", ".join(f"{site}: {label}" for site, label in trial.chosen)
            cost = f"{trial.cost:.2f}x" if math.isfinite(trial.cost) else ""  # the choices exclude each other
            measured = math.isfinite(trial.noise)
            effect = (f"{trial.noise:.3f}", f"{trial.disagreement:.1%}") if measured else ("", "")
            tried.append((choices, cost, *effect, trial.reason))
        titles = ("tried", "cost>", "crop noise>", "other class>", "outcome")
        out.table(titles, tried, heads=1, below="outcome")
        layers = [
            (one.name, one.kind, f"{one.before:.4f}", f"{one.after:.4f}", f"{one.alpha:.2g}", one.reason)
            for one in outcome.layers
        ]
        out.table(("layer", "kind", "error before>", "after>", "alpha>", ""), layers, names=("layer",), below="")
    out.say(f"{sum(layer.repaired for layer in outcome.layers)} of {len(outcome.layers)} layers behind a blur repaired")
    verdict, drift = outcome.verdict, outcome.drift
    if verdict is not None:
        measures = [
            (
                one.name, f"{one.before:.2f}", f"{one.after:.2f}", f"{one.change:+.2f}",
                f"{one.low:+.2f} .. {one.high:+.2f}", f"{one.p:.3f}",
            )
            for one in verdict.measures
        ]  # fmt: skip
        held_out = f"{verdict.images} samples held out"
        out.table((held_out, "before>", "after>", "change>", "95 % interval>", "p>"), measures)
        out.say(f"same class as the original: {verdict.agreement:.1%} of crops")
    for moves, against in outcome.beside:
        changes = ", ".join(f"{one.name} {one.says}" for one in (against.consistency, against.one_pixel))
        say = f"against two plain views of the original ({moves}; 2x, no data): {changes} points: {against.judgement}"
        out.say(say + ("" if against.better else f"; --skip '*' --views='{moves}' is the simpler choice"))
    if drift is not None:
        out.say(f"output drift under a shift: {drift.before:.4f} -> {drift.after:.4f}; apart {drift.apart:.4f}")
    costs = {"multiply-accumulates": calibrated.cost, "latency": calibrated.latency}
    if known := ", ".join(f"{name} {value:.2f}x" for name, value in costs.items() if value is not None):
        out.say(known)
    for reason in calibrated.failures:
        out.say(f": {reason}", "failed", "red")
