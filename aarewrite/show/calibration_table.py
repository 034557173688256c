"""A calibration as one reads it in a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from aarewrite.show.plan_table import console

if TYPE_CHECKING:
    from rich.table import Table

    from aarewrite.calibration.run import Calibrated


def print_calibrated(calibrated: Calibrated, verbose: bool = False) -> None:
    """Print the judgement on samples held out, the layers if `verbose`, and what speaks against the result."""
    from rich.text import Text

    out, outcome = console(), calibrated.outcome
    repaired = sum(layer.repaired for layer in outcome.layers)
    out.print(f"calibrated on {outcome.fitted} samples of {calibrated.data}, judged on {outcome.judged} held out")
    out.print(f"preprocess {calibrated.preprocess}", markup=False)
    for site, label in calibrated.chosen:
        out.print(f"chose {label} at {site}", markup=False)
    if verbose and calibrated.trials:
        table = _table("tried", "cost>", "crop noise>", "other class>", "outcome")
        for trial in calibrated.trials:
            choices = ", ".join(f"{site}: {label}" for site, label in trial.chosen)
            measured = math.isfinite(trial.noise)
            effect = (f"{trial.noise:.3f}", f"{trial.disagreement:.1%}") if measured else ("", "")
            cost = f"{trial.cost:.2f}x" if math.isfinite(trial.cost) else ""  # the choices exclude each other
            table.add_row(Text(choices), cost, *effect, trial.reason)
        out.print(table)
    if verbose:
        table = _table("layer", "kind", "error before>", "after>", "alpha>", "")
        for one in outcome.layers:
            errors = f"{one.before:.4f}", f"{one.after:.4f}"
            table.add_row(Text(one.name), one.kind, *errors, f"{one.alpha:.2g}", one.reason)
        out.print(table)
    out.print(f"{repaired} of {len(outcome.layers)} layers behind a blur repaired")
    verdict, drift = outcome.verdict, outcome.drift
    if verdict is not None:
        table = _table(f"{verdict.images} samples held out", "before>", "after>", "change>", "95 % interval>", "p>")
        for row in (verdict.consistency, verdict.one_pixel, verdict.top1, verdict.centre_top1):
            if row is not None:
                interval = f"{row.low:+.2f} .. {row.high:+.2f}"
                figures = f"{row.before:.2f}", f"{row.after:.2f}", f"{row.change:+.2f}", interval, f"{row.p:.3f}"
                table.add_row(row.name, *figures)
        out.print(table)
        out.print(f"same class as the original: {verdict.agreement:.1%} of crops")
    if drift is not None:
        out.print(f"output drift under a shift: {drift.before:.4f} -> {drift.after:.4f}; apart {drift.apart:.4f}")
    costs = [("multiply-accumulates", calibrated.cost), ("latency", calibrated.latency)]
    known = ", ".join(f"{name} {value:.2f}x" for name, value in costs if value is not None)
    if known:
        out.print(known)


def _table(*columns: str) -> Table:
    """A table without lines; a column whose name ends in ">" is set flush right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column.removesuffix(">"), justify="right" if column.endswith(">") else "left")
    return table
