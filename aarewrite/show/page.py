"""The HTML page: what changed, told to someone who has never heard of aliasing, with every number below."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from aarewrite.show import charts as svg
from aarewrite.show.png import data_uri
from aarewrite.verification.classify import SHOWN_FLIPS, Classification, Flip
from aarewrite.verification.result import VerifyReport
from aarewrite.verification.statistics import Mean, Proportion

PROTOCOL_WORDS = {
    "crop": "the camera moves: new content enters at one border and leaves at the other",
    "circular": "what leaves at one border enters at the opposite one, by whole pixels",
    "fractional": "as circular, by fractions of a pixel",
}


def render_html(report: VerifyReport) -> str:
    """Return a self-contained page: no script, no network, pictures inside."""
    sections = (
        _summary(report),
        _explanation(report),
        _distance(report),
        _maps(report),
        _metrics(report),
        _flips(report),
        _layers(report),
        _circular(report),
        _parity(report),
        _plan(report),
        _trials(report),
        _numbers(report),
        _method(report),
    )
    against = f' held against <b class="before">{escape(report.against)}</b>' if report.against else ""
    page = Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=escape(f"{report.model}: does it survive a shift?"),
        heading="Does the answer change when the picture moves by a pixel?"
        if report.task == "classify"
        else "What happens to the output when the input moves?",
        models=f'<b class="after">{escape(report.model)}</b>{against}, measured on {escape(report.data)}',
        body="\n".join(section for section in sections if section),
    )


def _summary(report: VerifyReport) -> str:
    parts = [f'<p class="fail"><b>Failed:</b> {escape(reason)}</p>' for reason in report.failures]
    results = _of_protocol(report, report.protocols[0]) if report.classification else []
    if results:
        first = results[0]
        parts.append(
            f"<p>Each of {first.n} pictures was shown to the model twice, moved by a few pixels between the two "
            "looks. Nothing that matters to a person changed, so the answer should not change either. "
            f"{_verdict(results)}</p>"
        )
        parts.append('<div class="cards">')
        parts.append(_card("same answer both times", [r.consistency for r in results], "consistency"))
        parts.append(
            _card(f"changed by a move of {first.worst_radius:g} px", [r.worst_case for r in results], "worst case")
        )
        if first.top1:
            parts.append(_card("right answer", [r.top1 for r in results if r.top1], "top-1 accuracy"))
        parts.append("</div>")
        parts.append(_accuracy_note(results))
        if report.flip_counts:
            parts.append(_waffle(report))
    elif report.maps:
        parts.append(
            "<p>The input was moved by a few pixels and the output moved back by as much. A model that treats every "
            "position alike gives the same output; the error is what is left over.</p>"
        )
        rows = [
            [r.model, r.output, r.protocol, _mean(r.relative_error), _percent_mean(r.pixel_agreement)]
            for r in report.maps
        ]
        parts.append(_table(["model", "output", "protocol", "relative error", "pixels with the same class"], rows))
    parts += [f'<p class="note">{escape(note)}</p>' for note in report.notes]
    return f"<section><h2>In short</h2>{''.join(parts)}</section>"


def _verdict(results: Sequence[Classification]) -> str:
    flips = [r.n - r.consistency.successes for r in results]
    if len(results) == 1:
        return f"The answer changed for <b>{flips[0]} of {results[0].n}</b> pictures."
    after, before = flips
    trend = "fewer" if after < before else "more" if after > before else "as many as before"
    return (
        f'The answer changed for <b class="before">{before}</b> pictures with {escape(results[1].model)}, for '
        f'<b class="after">{after}</b> with {escape(results[0].model)}: {trend}.'
    )


def _accuracy_note(results: Sequence[Classification]) -> str:
    if len(results) != 2 or not results[0].top1 or not results[1].top1:
        return ""
    change = results[0].top1.value - results[1].top1.value
    if change >= -0.005:
        return ""
    return (
        f'<p class="note">{escape(results[0].model)} is right less often than {escape(results[1].model)} '
        f"({100 * change:+.1f} points). Steady and right are two different things: weights that were never trained "
        "with blur lose accuracy when blurred; training or calibrating them further is what brings it back.</p>"
    )


def _card(title: str, values: Sequence[Proportion], term: str) -> str:
    numbers = []
    for k, value in reversed(list(enumerate(values))):  # against first: before, then after
        kind = "after" if k == 0 else "before"
        numbers.append(
            f'<div><b class="{kind}">{_percent(value.value)}</b>'
            f'<span class="small">{100 * value.low:.0f} to {100 * value.high:.0f}%</span></div>'
        )
    return (
        f'<div class="card">{escape(title)}<div class="pair">{"".join(numbers)}</div>'
        f'<span class="small">{escape(term)}, 95&nbsp;% interval, n&nbsp;=&nbsp;{values[0].n}</span></div>'
    )


def _waffle(report: VerifyReport) -> str:
    counts, before, after = report.flip_counts, report.against or "", report.model
    if counts is None:
        return ""
    groups = (
        ("steady in both", "#b9c7cf", counts.both_steady),
        (f"changed only in {before}", svg.BEFORE, counts.only_against_flips),
        (f"changed only in {after}", svg.AFTER, counts.only_model_flips),
        ("changed in both", "#5a4a42", counts.both_flip),
    )
    key = " ".join(f'<em><span style="background:{c}"></span>{escape(label)}: {n}</em>' for label, c, n in groups)
    return f'<p>One square a picture:</p>{svg.waffle(groups)}<p class="key small">{key}</p>'


def _explanation(report: VerifyReport) -> str:
    return (
        "<section><h2>Why one pixel can matter</h2><p>A network shrinks its picture several times on the way to an "
        "answer, mostly by <b>keeping every second pixel</b>. Fine detail then depends on where it happens to lie: "
        "the stripes below turn all dark, and all bright when they move by one pixel. This is <b>aliasing</b>. "
        "Blurring a little before throwing pixels away keeps the average, wherever the detail lies.</p>"
        f"{svg.aliasing_sketch()}</section>"
    )


def _distance(report: VerifyReport) -> str:
    if not report.classification:
        return ""
    charts = []
    for protocol in report.protocols:
        series = []
        for k, result in enumerate(_of_protocol(report, protocol)):
            distances = sorted({a.distance for a in result.agreement})
            points = [(0.0, 1.0, 1.0, 1.0)]
            for distance in distances:
                shares = [a.share for a in result.agreement if a.distance == distance]
                # Directions share their images, so the interval is that of one direction, not of their sum.
                value, low, high = (sum(getattr(s, f) for s in shares) / len(shares) for f in ("value", "low", "high"))
                points.append((distance, value, low, high))
            series.append(svg.Series(result.model, _colour(k), points))
        lowest = min(point[2] for line in series for point in line.points)
        floor = math.floor(lowest * 10) / 10
        chart = svg.line_chart(series, "pixels moved", "pictures that keep their answer", (floor, 1.0), _percent)
        charts.append(f'<p class="small"><b>{protocol}</b>: {PROTOCOL_WORDS[protocol]}</p>{chart}')
    return (
        "<section><h2>How far can it move?</h2><p>Of all pictures, the share whose answer is the one given at the "
        "centre, averaged over the directions. The higher and flatter the line, the steadier the model. Shaded: "
        f"95&nbsp;% interval.</p>{''.join(charts)}</section>"
    )


def _maps(report: VerifyReport) -> str:
    charts = []
    keys = dict.fromkeys((r.protocol, r.output) for r in report.maps)
    for protocol, output in keys:
        results = [r for r in report.maps if (r.protocol, r.output) == (protocol, output)]
        series = []
        for result in results:
            distances = sorted({p.distance for p in result.points})
            points = []
            for distance in distances:
                means = [p.relative_error for p in result.points if p.distance == distance]
                value, low, high = (sum(getattr(m, f) for m in means) / len(means) for f in ("value", "low", "high"))
                points.append((distance, value, max(0.0, low), high))
            series.append(svg.Series(result.model, _colour(int(result.model != report.model)), points))
        top = max((point[3] for line in series for point in line.points), default=1.0) or 1.0
        chart = svg.line_chart(series, "pixels moved", "relative error", (0.0, top * 1.05), lambda v: f"{v:.2g}")
        words = PROTOCOL_WORDS[protocol]
        charts.append(f'<p class="small"><b>{escape(output)}, {protocol}</b>: {words}</p>{chart}')
    if not charts:
        return ""
    return (
        "<section><h2>Error over distance</h2><p>What is left when the moved output is compared with the unmoved one, "
        f"relative to its size: 0 is perfect. Lower is steadier.</p>{''.join(charts)}</section>"
    )


def _metrics(report: VerifyReport) -> str:
    if not report.metrics:
        return ""
    rows = [
        [r.model, f"{p.direction} {p.distance:g} px", _share(p.share), _mean(p.drift)]
        for r in report.metrics
        for p in r.points
    ]
    head = ["model", "shift of one image", "ranks that flip", "relative change of the metric"]
    return f"<section><h2>Does the metric keep its ranking?</h2>{_table(head, rows)}</section>"


def _flips(report: VerifyReport) -> str:
    if not report.flips:
        return ""
    models = _models(report)
    titles: dict[tuple[bool, ...], str] = {(True,): "Changes its answer"}
    if len(models) == 2:
        after, before = models
        titles = {
            (False, True): f"Changes with {before}, steady with {after}",
            (True, False): f"Steady with {before}, changes with {after}",
            (True, True): "Changes with both",
        }
    parts = []
    for pattern, title in titles.items():
        cards = [_flip(flip, report) for flip in report.flips if tuple(a != b for a, b in flip.classes) == pattern]
        if cards:
            parts.append(f'<h3>{escape(title)}</h3><div class="flips">{"".join(cards)}</div>')
    return (
        "<section><h2>Pictures whose answer changes</h2><p>The two crops of each pair show the same scene, one moved "
        f"against the other. At most {SHOWN_FLIPS} pairs a kind; classes are named where the labels name them.</p>"
        f"{''.join(parts)}</section>"
    )


def _flip(flip: Flip, report: VerifyReport) -> str:
    (first, second) = flip.offsets
    move = ", ".join(
        f"{abs(b - a):g} px {word}" for a, b, word in zip(first, second, _move_words(len(first)), strict=True) if a != b
    )
    pictures = "".join(
        f'<figure><img src="{data_uri(p)}" alt="crop of {escape(flip.name)}"></figure>' for p in flip.pictures
    )
    lines = []
    for k, (model, (a, b)) in reversed(list(enumerate(zip(_models(report), flip.classes, strict=True)))):
        kind = "after" if k == 0 else "before"
        answer = f"“{_class(a, report)}” both times ✓" if a == b else f"“{_class(a, report)}” → “{_class(b, report)}” ✗"
        lines.append(f'<div class="says"><b class="{kind}">{escape(model)}</b>: {answer}</div>')
    caption = f'<div class="small">{escape(flip.name)}: moved {move or "by nothing"}</div>'
    return f'<div class="flip">{pictures}{caption}{"".join(lines)}</div>'


def _move_words(rank: int) -> list[str]:
    return {1: ["in time"], 2: ["vertically", "sideways"]}.get(rank, [""] * rank)


def _layers(report: VerifyReport) -> str:
    measured = [result for result in report.layers if result.layers]
    if not measured:
        return ""
    series, ticks = [], {}
    for result in measured:
        points = [(0.0, 0.0, 0.0, 0.0)]
        ticks[0.0] = "input"
        for k, layer in enumerate(result.layers, start=1):
            e = layer.error
            points.append((float(k), e.value, max(0.0, e.low), e.high))
            ticks[float(k)] = "÷" + "x".join(map(str, sorted(set(layer.stride))))
        series.append(svg.Series(result.model, _colour(_models(report).index(result.model)), points))
    top = max(point[3] for line in series for point in line.points) * 1.05 or 1.0
    chart = svg.line_chart(
        series,
        "layers that shrink the picture, input to output",
        "error when moved",
        (0.0, top),
        lambda v: f"{v:.2f}",
        ticks,
    )
    heats = [result.heat_map for result in reversed(measured) if result.heat_map]
    largest = max((e for heat in heats for row in heat.errors for e in row), default=0.0)
    maps = "".join(
        f'<div><p class="small"><b>{escape(h.model)}</b>, {escape(h.node)} (÷{max(h.stride)})</p>'
        f"{svg.heat_map(h.errors, h.shifts[0] if len(h.shifts) == 2 else (0,), h.shifts[-1], largest)}</div>"
        for h in heats
    )
    rows = [
        [
            str(k),
            layer.node,
            layer.op,
            "x".join(map(str, layer.stride)),
            f"{layer.error.value:.3f}",
            f"{layer.added:+.3f}",
        ]
        for k, layer in enumerate(measured[-1].ranking, start=1)
    ]
    head = ["", "layer", "operator", "stride so far", "error", "added here"]
    return (
        "<section><h2>Where inside does it happen?</h2><p>When the picture moves, what a layer sees should simply move "
        "along. The error says how much of it changes instead; 0 is perfect. Where the line climbs, damage is done.</p>"
        f"{chart}<p>One layer and every move of the picture: dark means that it changed much. A pattern that "
        "repeats with the layer's stride is the signature of aliasing; the slow growth with distance comes from the "
        f'border.</p><div class="side">{maps}</div>'
        f"<p>Layers of {escape(measured[-1].model)}, the one that adds most error first:</p>{_table(head, rows)}"
        f'<p class="small">{escape(measured[0].description)}</p></section>'
    )


def _circular(report: VerifyReport) -> str:
    if not report.circular:
        return ""
    parts = []
    for claim in report.circular:
        if claim.exact_possible:
            parts.append(f"<p><b>{escape(claim.model)}</b>: nothing in the graph breaks circular shifts.</p>")
            continue
        rows = [[v.node, v.op, v.reason] for v in claim.violations[:40]]
        parts.append(
            f"<p><b>{escape(claim.model)}</b>: {len(claim.violations)} places keep circular shifts from being exact, "
            f"so its circular figures include their effect.</p>{_table(['node', 'operator', 'why'], rows)}"
        )
    return f"<section><h2>What circular shifts would need</h2>{''.join(parts)}</section>"


def _parity(report: VerifyReport) -> str:
    if not report.parity:
        return ""
    parts = []
    for parity in report.parity:
        rows = [
            [
                o.name,
                f"{o.dtype} {'x'.join(map(str, o.shape))}",
                f"{o.max_abs:.3g}",
                f"{o.max_rel:.3g}",
                str(list(o.where)),
                f"{o.tolerance:.3g}",
                "equal" if o.passed else ("differs: fails" if parity.required else "differs"),
            ]
            for o in parity.outputs
        ]
        head = ["output", "type", "largest difference", "relative", "where", "tolerance", "verdict"]
        meant = (
            "" if parity.required else " The two are not required to agree: an anti-aliased model is meant to differ."
        )
        bad = "".join(f'<p class="fail">{escape(reason)}</p>' for reason in parity.mismatches)
        parts.append(
            f"<p><b>{escape(parity.first)}</b> with <b>{escape(parity.second)}</b>, on {escape(parity.inputs)}."
            f"{meant}</p>{bad}{_table(head, rows)}"
        )
    for place in report.placement:
        where = ", ".join(f"{n} nodes on {provider}" for provider, n in place.counts.items())
        fallen = (
            f" Fell back to the CPU: {escape(', '.join(place.fallen_back))}."
            if place.provider == "cuda" and place.fallen_back
            else ""
        )
        parts.append(
            f"<p>{escape(place.model)} asked for {place.provider.upper()}: {escape(where)}; "
            f"{place.milliseconds:.2f} ms a run.{fallen}</p>"
        )
    return f"<section><h2>Do the numbers agree?</h2>{''.join(parts)}</section>"


def _plan(report: VerifyReport) -> str:
    if not report.plan:
        return ""
    head = list(dict.fromkeys(key for row in report.plan for key in row))
    rows = [[str(row.get(key, "")) for key in head] for row in report.plan]
    return f'<section><h2>What was changed in the network</h2><div class="scroll">{_table(head, rows)}</div></section>'


def _trials(report: VerifyReport) -> str:
    measured = [trial for trial in report.trials if trial["noise"] is not None]
    if not measured:
        return ""
    dots = [(t["cost"], t["noise"], svg.AFTER if t["accepted"] else "#8a949b", _tried(t)) for t in measured]
    head = ["what was tried", "cost", "crop noise", "other class than before", "outcome"]
    rows = [
        [_tried(t), f"{t['cost']:.2f}x", f"{t['noise']:.3f}", _percent(t["disagreement"]), str(t["reason"])]
        for t in measured
    ]
    return (
        "<section><h2>What was tried before choosing this</h2><p>Each dot is a way of rewriting the network, with "
        "repaired weights: to the right it costs more (multiply-accumulates, or time where that was limited), "
        "further down its answers scatter less when the picture moves "
        "(1: as much as before). Filled in colour: a step that was worth going on from.</p>"
        f"{svg.scatter(dots, 'cost relative to before', 'crop noise')}"
        f'<div class="scroll">{_table(head, rows)}</div></section>'
    )


def _tried(trial: Mapping[str, Any]) -> str:
    return "; ".join(f"{site}: {label}" for site, label in trial["chosen"])


def _numbers(report: VerifyReport) -> str:
    if not report.classification:
        return ""
    rows = []
    for r in report.classification:
        accuracy = [_share(value) if value else "" for value in (r.top1, r.top5, r.same_as_against)]
        drift = f"{r.drift_mean.value:.4f} / {r.drift_max.largest:.3f}"
        shares = [_share(r.consistency), _share(r.worst_case), _mean(r.flip_rate)]
        rows.append([r.model, r.protocol, *shares, drift, *accuracy, str(r.n)])
    kinds = {r.outputs for r in report.classification}
    head = ["model", "protocol", "consistency", "worst case", "flips a frame", f"drift of {'/'.join(sorted(kinds))}"]
    head += ["top-1", "top-5", "same class as the other", "n"]
    return (
        f'<section><h2>All figures</h2><div class="scroll">{_table(head, rows)}</div>'
        '<p class="small">Shares with 95&nbsp;% Wilson intervals. Worst case: pictures some small move upsets. '
        "Flips a frame: answer changes per pixel of a pan. Drift: mean and largest change of an output, relative to "
        "the range of outputs.</p></section>"
    )


def _method(report: VerifyReport) -> str:
    entries = [
        ("Data", report.data),
        ("Preprocessing", report.preprocess),
        ("Input", report.input),
        ("Crops", report.geometry),
        ("Task", f"{report.task} ({report.task_why})"),
        ("Seed", str(report.seed)),
        ("Provider", report.provider),
        ("Versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())),
    ]
    body = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in entries)
    return f"<section><h2>How this was measured</h2><dl>{body}</dl></section>"


def _of_protocol(report: VerifyReport, protocol: str) -> list[Classification]:
    return [result for result in report.classification if result.protocol == protocol]


def _models(report: VerifyReport) -> list[str]:
    results: Iterable[Any] = (*report.classification, *report.maps, *report.layers)
    return list(dict.fromkeys(result.model for result in results))


def _class(index: int, report: VerifyReport) -> str:
    return escape(report.class_names.get(index, f"class {index}"))


def _colour(k: int) -> str:
    return svg.AFTER if k == 0 else svg.BEFORE


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%".replace(".0%", "%") if math.isfinite(value) else "–"


def _share(value: Proportion) -> str:
    return f"{_percent(value.value)} ({_percent(value.low)} to {_percent(value.high)})"


def _mean(value: Mean) -> str:
    return f"{value.value:.4f} ({value.low:.4f} to {value.high:.4f})"


def _percent_mean(value: Mean | None) -> str:
    return "" if value is None else f"{_percent(value.value)} ({_percent(value.low)} to {_percent(value.high)})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(text)}</th>" for text in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{titles}</tr>{body}</table>"
