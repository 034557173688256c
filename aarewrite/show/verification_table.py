"""The report as a table on a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from rich.text import Text

from aarewrite.show.console import Terminal, product
from aarewrite.verification.result import VerifyReport
from aarewrite.verification.statistics import Difference, Mean, Proportion

SHOWN_ODD = 10  # samples that could not be read, or only after something was done

MAP_TITLES = {
    "aligned_error": "aligned error", "scale_change": "scale off by", "agreement": "same class",
    "boundary": "boundary px", "vanished": "vanish", "appeared": "appear", "relative_error": "relative error",
    "psnr": "PSNR dB", "cosine": "cosine",
}  # fmt: skip
MAP_FORMATS = {"relative_error": ".4g", "psnr": ".1f", "cosine": ".5f", "boundary": ".2f"}


def print_report(report: VerifyReport) -> None:
    """Print what was applied, the figures of every protocol, layers, parity, notes and failures."""
    out = Terminal()
    models = Text(report.model, "bold")
    out.put(models + Text.assemble(" against ", (report.against, "bold")) if report.against else models)
    measured = [found[0] for found in (report.camera, report.pairs, report.corruptions) if found]
    facts = (
        ("data", report.data),
        ("preprocess", report.preprocess),
        ("input", f"{report.input}; {report.geometry}"),
        ("task", f"{report.task} ({report.task_why}); seed {report.seed}, {report.provider}"),
        *((first.protocol, first.description) for first in measured),
    )
    for name, fact in facts:
        out.say(fact, f"{name:12}", hang=12)
    for print_table in (
        _camera,
        _pairs,
        _corruptions,
        _classification,
        _detections,
        _embeddings,
        _changes,
        _maps,
        _metrics,
        _layers,
        _parity,
    ):
        print_table(report, out)
    for claim in report.circular:
        if claim.exact_possible:
            out.say(f"circular: nothing in {claim.model} breaks exactness")
            continue
        shown = "; ".join(f"{v.node}: {v.reason}" for v in claim.violations[:3])
        more = f"; and {len(claim.violations) - 3} more (--json lists all)" if len(claim.violations) > 3 else ""
        out.say(f"circular: not exact in {claim.model}: {shown}{more}")
    for place in report.placement:
        where = ", ".join(f"{n} on {provider}" for provider, n in place.counts.items())
        out.say(f"nodes of {place.model} ({place.provider}): {where}, {place.milliseconds:.2f} ms")
    for was_measured, word in ((False, "not read"), (True, "converted")):
        odd = [one for one in report.odd if one.measured == was_measured]
        for one in odd[:SHOWN_ODD]:
            out.say(f" {one.says}" if one.name in one.says else f" {one.name}: {one.says}", word, "yellow")
        if odd[SHOWN_ODD:]:
            out.say(f" and {len(odd) - SHOWN_ODD} more of {len(odd)} (--json lists all)", word, "yellow")
    for note in report.notes:
        out.say(f": {note}", "note", "yellow")
    for reason in report.failures:
        out.say(f": {reason}", "failed", "red")


def _camera(report: VerifyReport, out: Terminal) -> None:
    if not report.camera:
        return
    first = report.camera[0]
    out.print()
    near, far = (_share(row.agreement) for row in (first.near, first.far))
    pairs = f"{near} of near pairs (at most 1 px apart), {far} of far ones"
    says = f"Under a real camera {report.model} gives the same answer to {pairs}"
    if first.near.change and first.far.change:
        moved = f"{first.near.change.says} and {first.far.change.says} points"
        says += f"; against {report.against}: {moved}: {first.judgement}"
    out.say(says)
    titles = ["model", "condition", "near agreement", "far agreement", "top-1", "drift near/far", "worst near/far", "n"]
    rows = []
    for r in report.camera:
        for near_far in r.rows:
            shares = [_share(row.agreement) for row in near_far]
            drifts, worst = ([getattr(row, name).value for row in near_far] for name in ("drift", "worst_case"))
            right = _share(r.top1) if near_far == r.rows[0] else _mean_share([row.top1 for row in near_far])
            rows.append((
                r.model, near_far[0].condition, *shares, right, "/".join(f"{value:.4f}" for value in drifts),
                "/".join(f"{100 * value:.1f}" for value in worst) + " %", str(r.n),
            ))  # fmt: skip
    _without_top1(out, titles, rows)
    changes = [
        (near.condition, *(cell for row in (near, far) for cell in _cells(row.change)))
        for near, far in first.rows
        if near.change
    ]
    out.table(("change, points", "near agreement", "p", "far agreement", "p"), changes, apart=True)
    if first.top1_change:
        out.say(f"top-1 of all views against {report.against}: {' points, p = '.join(_cells(first.top1_change))}")


def _pairs(report: VerifyReport, out: Terminal) -> None:
    titles = ["model", "condition", "agreement", "top-1", "drift", "worst", "n"]
    rows = [
        (r.model, r.found.condition, _share(r.found.agreement), _share(r.found.top1), f"{r.found.drift.value:.4f}",
         f"{100 * r.found.worst_case.value:.1f} %", str(r.n))
        for r in report.pairs
    ]  # fmt: skip
    _without_top1(out, titles, rows)
    if report.pairs and (change := report.pairs[0].found.change):
        out.say(f"agreement of pairs against {report.against}: {' points, p = '.join(_cells(change))}")


def _corruptions(report: VerifyReport, out: Terminal) -> None:
    if not report.corruptions:
        return
    first = report.corruptions[0]
    out.print()
    lost = "wrong" if first.labelled else "another class"
    for r in report.corruptions:
        clean = f" (as they are {100 * (1 - r.clean.value):.1f} %)" if r.clean else ""
        out.say(f"under corruptions {r.model} gives {_share(r.failed)} {lost}{clean}", hang=2)
    if first.change:
        means = ", ".join(
            f"mean {what} {value:.3f}"
            for what, value in (("error", first.mean_failed), ("flip rate", first.mean_flips))
            if value is not None
        )
        change = f"{first.change.name} {first.change.says} points, p = {first.change.p:.2g}"
        out.say(f"relative to {report.against} (1): {means}; {change}", hang=2)
    titles = ["model", "corruption", lost, "kept at 1 to 5, %", "flips/step", "relative", "flips relative"]
    rows = [
        (r.model, k.kind, f"{100 * k.failed.value:.1f} %", " ".join(f"{100 * share.value:.0f}" for share in k.kept),
         f"{k.flips.value:.4f}", *("" if v is None else f"{v:.3f}" for v in (k.relative_failed, k.relative_flips)))
        for r in report.corruptions
        for k in r.kinds
    ]  # fmt: skip
    used = [i for i in range(len(titles)) if i < 5 or any(row[i] for row in rows)]
    cells = [[row[i] for i in used] for row in rows]
    out.table([titles[i] for i in used], cells, heads=1, drop=["flips relative", "flips/step"], apart=True)


def _without_top1(out: Terminal, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of figures, without the column of top-1 where no labels are known."""
    column = titles.index("top-1")
    if not any(row[column] for row in rows):
        titles, rows = [*titles[:column], *titles[column + 1 :]], [[*row[:column], *row[column + 1 :]] for row in rows]
    drop = [title for title in titles if title == "n" or title.startswith(("drift", "worst"))]
    out.table(titles, rows, heads=1, drop=drop, apart=True)


def _classification(report: VerifyReport, out: Terminal) -> None:
    if not report.classification:
        return
    first = report.classification[0]
    titles = {"top1": "top-1", "top5": "top-5", "same_as_against": "same class"}
    extra = {name: title for name, title in titles.items() if getattr(first, name) is not None}
    far = max(a.distance for a in first.agreement)
    columns = (
        "model", "protocol", "consistency", f"agree at {far:g} px", f"worst {first.worst_radius:g} px", "flips/frame",
        "drift mean/max", *extra.values(), "n",
    )  # fmt: skip
    rows = []
    for r in report.classification:
        last = max(a.distance for a in r.agreement)
        agree = fmean(a.share.value for a in r.agreement if a.distance == last)
        rows.append((
            r.model, r.protocol, _share(r.consistency), f"{100 * agree:.1f} %" + f" ({last:g} px)" * (last != far),
            _share(r.worst_case), f"{r.flip_rate.value:.4f}", f"{r.drift_mean.value:.4f}/{r.drift_max.largest:.3f}",
            *(_share(getattr(r, name)) for name in extra), str(r.n),
        ))  # fmt: skip
    out.print()
    out.figures(columns, rows)
    for r in report.classification:
        right = f", {r.worst_top1.successes} the right one" if r.worst_top1 else ""
        out.say(f"worst case of {r.model}, {r.protocol}: {r.certificate}{right}", hang=2)
    _confidence(report, out)


def _confidence(report: VerifyReport, out: Terminal) -> None:
    """At the centre crop, so of the first protocol: it is the same under every other."""
    sure = [(r.model, r.confidence) for r in report.classification if r.confidence]
    sure = sure[: 1 + (report.against is not None)]
    titles = ["model", "confidence", "10 25 50 75 90 % below"]
    rows = [[model, f"{c.mean.value:.3f}", " ".join(f"{value:.2f}" for value in c.quantiles)] for model, c in sure]
    if any(c.calibration_error is not None for _, c in sure):
        titles = [*titles, "calibration error"]
        rows = [[*row, f"{c.calibration_error:.4f}"] for row, (_, c) in zip(rows, sure, strict=True)]
    out.table(titles, rows, heads=1, apart=True)
    decided = [(model, c.decisions) for model, c in sure if c.decisions]
    names = {"decided": "decided", "right": "right of these", "steady": "steady", "same_as_against": "as against"}
    shown = [name for name in names if any(getattr(d, name) for _, d in decided)]
    cells = [(f"{model} at {d.threshold:g}", *(_share(getattr(d, name)) for name in shown)) for model, d in decided]
    out.table(["model", *(names[name] for name in shown)], cells, heads=1, apart=True)


def _detections(report: VerifyReport, out: Terminal) -> None:
    """Consistency never without survival: who drops the doubtful detections raises it."""
    rows = []
    for r in report.detections:
        if not r.signal:
            out.say(f"{r.model}: no signal in {r.n} samples: no detection inside what two crops share", hang=2)
            continue
        survives = "itself" if r.model == report.against else _share(r.survival) or "needs --against"
        rows.append((
            r.model, _share(r.consistency), survives, str(r.detections), f"{r.images} of {r.n}",
            f"{r.births}/{r.deaths}", _number(r.instability, ".4f"), _number(r.score_change, ".4f"),
            f"{r.jitter.value:.2f}/{r.largest_jitter:.2f} px" if r.jitter.n else "-",
            f"{100 * r.jitter_of_side.value:.1f} %" if r.jitter.n else "-",
        ))  # fmt: skip
    if rows:
        out.print()
        out.figures(
            (
                "model", "consistency", "survival", "detections", "images", "births/deaths", "1 - IoU", "score change",
                "jitter mean/max", "of the box's side",
            ),
            rows,
        )  # fmt: skip
    titles = ["model", "shift", "consistency", "births", "deaths", "1 - IoU", "score", "jitter px", "keypoints px"]
    points: list[Sequence[str]] = [
        (
            r.model, f"{p.direction} {p.distance:g}", _share(p.consistency), str(p.births), str(p.deaths),
            _number(p.instability, ".4f"), _number(p.score_change, ".4f"), _number(p.jitter, ".2f"),
            _number(p.points_jitter, ".2f"),
        )
        for r in report.detections if r.signal for p in r.points
    ]  # fmt: skip
    if not any(row[-1] for row in points):
        titles, points = titles[:-1], [row[:-1] for row in points]
    out.table(titles, points, heads=1, drop=("score", "deaths", "births"), apart=True)


def _embeddings(report: VerifyReport, out: Terminal) -> None:
    rows = []
    for r in report.embeddings:
        if not r.signal:
            out.say(f"{r.output} of {r.model}: no signal in {r.n} samples: all have the same embedding", hang=2)
            continue
        rows.append((
            r.model, r.protocol, f"{r.drift.value:.4g}", f"{r.apart.value:.4g}", f"{100 * r.drift_of_apart:.1f} %",
            _share(r.neighbour), _share(r.found), str(r.n),
        ))  # fmt: skip
    if rows:
        out.print()
        titles = ("model", "protocol", "drift", "images apart", "drift of apart", "same neighbour", "finds itself", "n")
        out.figures(titles, rows)
    points = [
        (
            r.model, r.protocol, f"{p.direction} {p.distance:g}", f"{p.drift.value:.4g}", _share(p.neighbour),
            _share(p.found),
        )
        for r in report.embeddings if r.signal for p in r.points
    ]  # fmt: skip
    out.table(("model", "protocol", "shift", "drift", "same neighbour", "finds itself"), points, heads=2, apart=True)
    for r in report.embeddings:
        if r.index and r.signal:
            out.say(
                f"index of {report.against}, {r.protocol}: {r.model} finds {_share(r.index.found)} of its images, "
                f"moved {_share(r.index.found_moved)}; same neighbour {_share(r.index.neighbour)}; "
                f"embeddings {r.index.drift.value:.4g} apart",
                hang=2,
            )
        elif r.model == report.model and report.against in {other.model for other in report.embeddings}:
            out.say(f"index of {report.against}: embeddings of another size, it does not serve", hang=2)


def _changes(report: VerifyReport, out: Terminal) -> None:
    for c in report.changes:
        change = f"{c.change:+.2f} points [{c.low:+.2f}, {c.high:+.2f}], p = {c.p:.2g}, n = {c.n}"
        out.say(f"{c.name} against {report.against}: {change}")


def _maps(report: VerifyReport, out: Terminal) -> None:
    """Only the measures that a task has."""
    for r in report.maps:
        if not r.signal:
            why = "constant however moved, or no larger than a shift"
            out.say(f"{r.output} of {r.model}, {r.protocol}: no signal in {r.n} samples: {why}", hang=2)
    measured = [result for result in report.maps if result.signal]
    figures = {name: title for name, title in MAP_TITLES.items() if any(getattr(r.total, name) for r in measured)}
    flicker = any(result.flicker for result in measured)
    titles = ["model", "output", "protocol", "shift", *figures.values(), *["flicker"] * flicker, "n"]
    rows = [
        (
            r.model, r.output, r.protocol, "all" if p is r.total else f"{p.direction} {p.distance:g}",
            *(_number(getattr(p, name), MAP_FORMATS.get(name, ".4f")) for name in figures),
            *[_number(r.flicker if p is r.total else None, ".4f")] * flicker, str(r.images),
        )
        for r in measured for p in (r.total, *r.points)
    ]  # fmt: skip
    out.table(titles, rows, heads=3, drop=("PSNR dB", "n", "relative error"), apart=True)


def _metrics(report: VerifyReport, out: Terminal) -> None:
    titles = ("model", "shift of one image", "ranks that flip", "relative change", "n")
    rows = [
        (r.model, f"{p.direction} {p.distance:g}", _share(p.share), f"{p.drift.value:.4g}", str(r.n))
        for r in report.metrics
        for p in r.points
    ]
    out.table(titles, rows, heads=1, apart=True)


def _layers(report: VerifyReport, out: Terminal) -> None:
    titles = ("model", "rank", "layer", "op", "stride", "error", "added")
    rows = [
        (r.model, str(k), one.node, one.op, product(one.stride), f"{one.error.value:.4f}", f"{one.added:+.4f}")
        for r in report.layers
        for k, one in enumerate(r.ranking, start=1)
    ]
    out.table(titles, rows, heads=1, names=("layer",), apart=True)


def _parity(report: VerifyReport, out: Terminal) -> None:
    """Values alone: what can never be compared is among the failures."""
    titles = ("parity of", "with", "output", "max abs", "max rel", "where", "tolerance", "verdict")
    rows = []
    for parity in report.parity:
        differs = Text("differs", "red") if parity.required else Text("differs (allowed)")
        for o in parity.outputs:
            figures = f"{o.max_abs:.3g}", f"{o.max_rel:.3g}", str(list(o.where)), f"{o.tolerance:.3g}"
            verdict = Text("equal", "green") if o.passed else differs
            rows.append((parity.first, parity.second, o.name, *figures, verdict))
    out.table(titles, rows, heads=2, names=("output",), apart=True)


def _cells(change: Difference | None) -> tuple[str, str]:
    return (change.says, f"{change.p:.2g}") if change else ("", "")


def _mean_share(values: Sequence[Proportion | None]) -> str:
    known = [value.value for value in values if value]
    return f"{100 * fmean(known):.1f} %" if known else ""


def _share(value: Proportion | None) -> str:
    if value is None:
        return ""
    if not math.isfinite(value.value):
        return "-"
    return f"{100 * value.value:.1f} % [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def _number(value: Mean | None, form: str) -> str:
    """The mean; a dash where there was nothing to take it of."""
    return "" if value is None else format(value.value, form) if value.n else "-"
