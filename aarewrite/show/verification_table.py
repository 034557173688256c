"""The report as a table on a terminal."""

from __future__ import annotations

import math

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aarewrite.verification.result import VerifyReport
from aarewrite.verification.statistics import Mean, Proportion


def print_report(report: VerifyReport, console: Console) -> None:
    """Print what was applied, the figures of every protocol, layers, parity, notes and failures."""
    lines = [
        f"[bold]{escape(report.model)}[/]" + (f" against [bold]{escape(report.against)}[/]" if report.against else ""),
        f"data        {escape(report.data)}",
        f"preprocess  {escape(report.preprocess)}",
        f"input       {escape(report.input)}; {escape(report.geometry)}",
        f"task        {report.task} ({escape(report.task_why)}); seed {report.seed}, {report.provider}",
    ]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    for table in (_classification(report), _maps(report), _metrics(report), _layers(report), _parity(report)):
        if table is not None:
            console.print()
            console.print(table)
    for c in report.changes:
        change = f"{c.change:+.2f} points [{c.low:+.2f}, {c.high:+.2f}], p = {c.p:.2g}, n = {c.n}"
        console.print(escape(f"{c.name} against {report.against}: {change}"), highlight=False, soft_wrap=True)
    for claim in report.circular:
        if claim.exact_possible:
            console.print(f"circular: nothing in {escape(claim.model)} breaks exactness", soft_wrap=True)
            continue
        shown = "; ".join(f"{v.node}: {v.reason}" for v in claim.violations[:3])
        more = f"; and {len(claim.violations) - 3} more (--json lists all)" if len(claim.violations) > 3 else ""
        console.print(
            f"circular: not exact in {escape(claim.model)}: {escape(shown)}{more}", highlight=False, soft_wrap=True
        )
    for place in report.placement:
        where = ", ".join(f"{n} on {provider}" for provider, n in place.counts.items())
        console.print(
            f"nodes of {escape(place.model)} ({place.provider}): {where}, {place.milliseconds:.2f} ms", soft_wrap=True
        )
    for note in report.notes:
        console.print(f"[yellow]note[/]: {escape(note)}", highlight=False, soft_wrap=True)
    for reason in report.failures:
        console.print(f"[red]failed[/]: {escape(reason)}", highlight=False, soft_wrap=True)


def _classification(report: VerifyReport) -> Table | None:
    if not report.classification:
        return None
    first = report.classification[0]
    extra = [name for name in ("top1", "top5", "same_as_against") if getattr(first, name) is not None]
    titles = {"top1": "top-1", "top5": "top-5", "same_as_against": "same class"}
    far = max(a.distance for a in first.agreement)
    columns = [
        "model",
        "protocol",
        "consistency",
        f"agree at {far:g} px",
        f"worst {first.worst_radius:g} px",
        "flips/frame",
    ]
    table = _table(*columns, "drift mean/max", *(titles[name] for name in extra), "n")
    for r in report.classification:
        last = max(a.distance for a in r.agreement)
        shares = [a.share for a in r.agreement if a.distance == last]
        agree = f"{100 * sum(s.value for s in shares) / len(shares):.1f} %" + ("" if last == far else f" ({last:g} px)")
        values = [_share(getattr(r, name)) for name in extra]
        table.add_row(
            escape(r.model),
            r.protocol,
            _share(r.consistency),
            agree,
            _share(r.worst_case),
            f"{r.flip_rate.value:.4f}",
            f"{r.drift_mean.value:.4f}/{r.drift_max.largest:.3f}",
            *values,
            str(r.n),
        )
    return table


def _maps(report: VerifyReport) -> Table | None:
    if not report.maps:
        return None
    table = _table("model", "output", "protocol", "shift", "relative error", "PSNR dB", "same class", "cosine", "n")
    for r in report.maps:
        for p in r.points:
            table.add_row(
                escape(r.model),
                escape(r.output),
                r.protocol,
                f"{p.direction} {p.distance:g}",
                f"{p.relative_error.value:.4g}",
                _number(p.psnr, ".1f"),
                _number(p.agreement, ".4f"),
                _number(p.cosine, ".5f"),
                str(r.n),
            )
    return table


def _metrics(report: VerifyReport) -> Table | None:
    if not report.metrics:
        return None
    table = _table("model", "shift of one image", "ranks that flip", "relative change", "n")
    for r in report.metrics:
        for p in r.points:
            table.add_row(
                escape(r.model), f"{p.direction} {p.distance:g}", _share(p.share), f"{p.drift.value:.4g}", str(r.n)
            )
    return table


def _layers(report: VerifyReport) -> Table | None:
    if not report.layers:
        return None
    table = _table("model", "rank", "layer", "op", "stride", "error", "added")
    for result in report.layers:
        for k, layer in enumerate(result.ranking, start=1):
            stride = "x".join(map(str, layer.stride))
            table.add_row(
                escape(result.model),
                str(k),
                escape(layer.node),
                layer.op,
                stride,
                f"{layer.error.value:.4f}",
                f"{layer.added:+.4f}",
            )
    return table


def _parity(report: VerifyReport) -> Table | None:
    if not report.parity:
        return None
    table = _table("parity of", "with", "output", "max abs", "max rel", "where", "tolerance", "verdict")
    for parity in report.parity:
        for o in parity.outputs:
            verdict = "[green]equal[/]" if o.passed else ("[red]differs[/]" if parity.required else "differs (allowed)")
            table.add_row(
                escape(parity.first),
                escape(parity.second),
                escape(o.name),
                f"{o.max_abs:.3g}",
                f"{o.max_rel:.3g}",
                escape(str(list(o.where))),
                f"{o.tolerance:.3g}",
                verdict,
            )
        for reason in parity.mismatches:
            table.add_row(escape(parity.first), escape(parity.second), escape(reason), "", "", "", "", "[red]fails[/]")
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def _share(value: Proportion) -> str:
    if not math.isfinite(value.value):
        return "-"
    return f"{100 * value.value:.1f} % [{100 * value.low:.1f}, {100 * value.high:.1f}]".replace("[", "\\[")


def _number(value: Mean | None, form: str) -> str:
    return "" if value is None else format(value.value, form)
