"""A calibration as one reads it in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aarewrite.table import console

if TYPE_CHECKING:
    from aarewrite.calibration.run import Calibrated


def print_calibrated(calibrated: Calibrated, verbose: bool = False) -> None:
    """Print the judgement on samples held out, the layers if `verbose`, and what speaks against the result."""
    from rich.table import Table

    out, outcome = console(), calibrated.outcome
    repaired = sum(layer.repaired for layer in outcome.layers)
    out.print(f"calibrated on {outcome.fitted} samples of {calibrated.data}, judged on {outcome.judged} held out")
    out.print(f"preprocess {calibrated.preprocess}", markup=False)
    for site, label in calibrated.chosen:
        out.print(f"chose {label} at {site}", markup=False)
    if verbose:
        layers = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in ("layer", "kind", "error before", "after", "alpha", ""):
            layers.add_column(column, justify="right" if column in ("error before", "after", "alpha") else "left")
        for one in outcome.layers:
            layers.add_row(one.name, one.kind, f"{one.before:.4f}", f"{one.after:.4f}", f"{one.alpha:.2g}", one.reason)
        out.print(layers)
    out.print(f"{repaired} of {len(outcome.layers)} layers behind a blur repaired")
    verdict, drift = outcome.verdict, outcome.drift
    if verdict is not None:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in (f"{verdict.images} samples held out", "before", "after", "change", "95 % interval", "p"):
            table.add_column(column, justify="left" if "samples" in column else "right")
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
