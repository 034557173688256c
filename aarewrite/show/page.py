"""The HTML page: what changed, told to someone who has never heard of aliasing, with every number below.

Markup and words are in page.html; here is what has to be counted, grouped or drawn for them. Import this module only
to write a page: nothing else needs jinja2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from aarewrite.show import charts
from aarewrite.show.png import data_uri
from aarewrite.texts import printable
from aarewrite.verification.classify import SHOWN_FLIPS, Flip
from aarewrite.verification.detect import Box, Frames
from aarewrite.verification.result import VerifyReport
from aarewrite.verification.statistics import Mean, Proportion

PROTOCOL_WORDS = {
    "crop": "the camera moves: new content enters at one border and leaves at the other",
    "circular": "what leaves at one border enters at the opposite one, by whole pixels",
    "fractional": "as circular, by fractions of a pixel",
}
HEADLINES = {"relative_error": "relative error", "aligned_error": "error after scale and shift"}
MAP_TITLES = {
    "aligned_error": "error after scale and shift", "scale_change": "scale off by", "agreement": "same class",
    "boundary": "boundary moves by, px", "vanished": "components that vanish", "appeared": "that appear",
    "relative_error": "relative error",
}  # fmt: skip
MOVES = {1: ("in time",), 2: ("vertically", "sideways")}


def render_html(report: VerifyReport) -> str:
    """Return a self-contained page: no script, no network, pictures inside."""
    protocols = [result.protocol for result in report.classification]
    results = [result for result in report.classification if result.protocol == protocols[0]]
    values = {
        "results": results,
        "flipped": [result.n - result.consistency.successes for result in results],
        "drift_of": "/".join(sorted({result.outputs for result in report.classification})),
        "squares": (squares := _squares(report)),
        "waffle": charts.waffle(squares),
        "sketch": charts.aliasing_sketch(),
        "curves": _curves(report),
        "corruption_rows": [(r, kind) for r in report.corruptions for kind in r.kinds],
        "camera_rows": [(r, near, far) for r in report.camera for near, far in r.rows],
        "metrics": [(result.model, point) for result in report.metrics for point in result.points],
        "map_head": _map_head(report),
        "frames": _frames(report),
        "shown_flips": SHOWN_FLIPS,
        "flip_groups": _flip_groups(report),
        "plan_head": list(dict.fromkeys(key for row in report.plan for key in row)),
        "versions": [f"{name} {version}" for name, version in report.versions.items()],
        **_layers(report),
        **_trials(report),
    }
    return "\n".join(map(printable, _template().render(report=report, **values).split("\n")))


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader(__package__, ""), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined,
    )  # fmt: skip
    environment.filters |= {"percent": _percent, "data_uri": data_uri}
    return environment.get_template("page.html")


def _squares(report: VerifyReport) -> list[tuple[str, str, int]]:
    """How the pictures divide between two models: label, colour and count."""
    counts = report.flip_counts
    if counts is None:
        return []
    return [
        ("steady in both", "#b9c7cf", counts.both_steady),
        (f"changed only in {report.against}", charts.BEFORE, counts.only_against_flips),
        (f"changed only in {report.model}", charts.AFTER, counts.only_model_flips),
        ("changed in both", "#5a4a42", counts.both_flip),
    ]


def _curves(report: VerifyReport) -> list[tuple[str, str, Markup]]:
    """The chart over distance of each protocol (and output): its name, the protocol in words, the drawing."""
    groups: dict[tuple[str, str], list[charts.Series]] = {}
    for r in report.classification:
        # Directions share their images, so the interval is that of one direction, not of their sum.
        line = _series(report, r.model, [(0.0, 1.0, 1.0, 1.0)], ((a.distance, a.share) for a in r.agreement))
        groups.setdefault((r.protocol, r.protocol), []).append(line)
    for d in report.detections:
        line = _series(report, d.model, [], ((p.distance, p.consistency) for p in d.points if p.consistency.n))
        if line.points:
            groups.setdefault((d.protocol, d.protocol), []).append(line)
    for e in report.embeddings:
        line = _series(report, e.model, [(0.0, 0.0, 0.0, 0.0)], ((p.distance, p.drift) for p in e.points))
        groups.setdefault((e.protocol, e.protocol), []).append(line)
    for m in report.maps:
        found = ((p.distance, getattr(p, m.headline)) for p in m.points)
        line = _series(report, m.model, [], ((distance, mean) for distance, mean in found if mean))
        if line.points:
            groups.setdefault((f"{m.output}, {m.protocol}", m.protocol), []).append(line)

    def chart(lines: list[charts.Series]) -> Markup:
        if report.maps and report.maps[0].headline != "agreement":
            return charts.line_chart(
                lines, ("pixels moved", HEADLINES[report.maps[0].headline]), _from_zero(lines), "{:.2g}".format
            )
        if report.embeddings:
            return charts.line_chart(lines, ("pixels moved", "1 - cosine"), _from_zero(lines), "{:.2g}".format)
        floor = math.floor(10 * min(low for line in lines for _, _, low, _ in line.points)) / 10
        kept = "pictures that keep their answer"
        if report.detections or report.maps:
            kept = "boxes that both crops have" if report.detections else "pixels with the same class"
        return charts.line_chart(lines, ("pixels moved", kept), (floor, 1.0), _percent)

    return [(name, PROTOCOL_WORDS[protocol], chart(lines)) for (name, protocol), lines in groups.items()]


def _flip_groups(report: VerifyReport) -> list[tuple[str, list[object]]]:
    """Flips by which models they upset: title, then flip, its move in words and each model's answers."""
    after, before, names = report.model, report.against, report.class_names
    titles = {
        (True,): "Changes its answer",
        (False, True): f"Changes with {before}, steady with {after}",
        (True, False): f"Steady with {before}, changes with {after}",
        (True, True): "Changes with both",
    }

    def told(flip: Flip) -> object:
        words = MOVES.get(len(flip.offsets[0]), ("",) * len(flip.offsets[0]))
        steps = zip(*flip.offsets, words, strict=True)
        answers = [
            (model, a == b, names.get(a, f"class {a}"), names.get(b, f"class {b}"))  # classes may share a name
            for model, (a, b) in zip((after, before), flip.classes, strict=False)
        ]
        return flip, ", ".join(f"{abs(b - a):g} px {word}" for a, b, word in steps if a != b), answers[::-1]

    return [
        (title, [told(flip) for flip in report.flips if tuple(a != b for a, b in flip.classes) == pattern])
        for pattern, title in titles.items()
    ]


def _map_head(report: VerifyReport) -> dict[str, str]:
    """The measures of maps that there are, by their fields."""
    return {k: title for k, title in MAP_TITLES.items() if any(getattr(r.total, k) for r in report.maps)}


def _frames(report: VerifyReport) -> list[tuple[str, str, list[tuple[str, list[Markup]]]]]:
    """Images whose detections a move upset: name, the move in words, and of each model both frames, original first."""

    def told(number: int, frames: Frames) -> tuple[str, str, list[tuple[str, list[Markup]]]]:
        names = [name for name in (report.model, report.against) if name][: len(frames.boxes)]
        models = list(zip(names, frames.boxes, strict=True))[::-1]
        pictures = [data_uri(picture) for picture in frames.pictures] or ["", ""]
        drawn = []
        for order, (model, both) in enumerate(models):
            sides = [
                charts.frame(picture, f"frame-{number}-{side}", order == 0, frames.size, map(_looks, boxes))
                for side, (picture, boxes) in enumerate(zip(pictures, both, strict=True))
            ]
            drawn.append((model, sides))
        words = zip(frames.offset, MOVES[2], strict=True)
        return frames.name, ", ".join(f"{step:g} px {word}" for step, word in words if step), drawn

    return [told(number, frames) for number, frames in enumerate(report.frames)]


def _looks(box: Box) -> tuple[tuple[float, ...], str, str]:
    look = {True: "paired", False: "alone", None: "outside"}[box.paired]
    return box.corners, f"class {box.number}, score {box.score:.2f}", look


def _layers(report: VerifyReport) -> dict[str, object]:
    measured = [result for result in report.layers if result.layers]
    if not measured:
        return {"layers": ()}
    series, ticks = [], {0.0: "input"}
    for result in measured:
        ticks |= {float(k): "÷" + "x".join(map(str, sorted(set(e.stride)))) for k, e in enumerate(result.layers, 1)}
        errors = ((float(k), layer.error) for k, layer in enumerate(result.layers, 1))
        series.append(_series(report, result.model, [(0.0, 0.0, 0.0, 0.0)], errors))
    titles = "layers that shrink the picture, input to output", "error when moved"
    heats = [result.heat_map for result in reversed(measured) if result.heat_map]
    largest = max((error for heat in heats for row in heat.errors for error in row), default=0.0)
    return {
        "layers": measured,
        "layer_chart": charts.line_chart(series, titles, _from_zero(series), "{:.2f}".format, ticks),
        "heat_maps": [
            (h, charts.heat_map(h.errors, h.shifts[0] if len(h.shifts) == 2 else (0,), h.shifts[-1], largest))
            for h in heats
        ],
        "ranking": list(enumerate(measured[-1].ranking, start=1)),
    }


def _trials(report: VerifyReport) -> dict[str, object]:
    measured = (trial for trial in report.trials if trial["noise"] is not None)
    trials = [("; ".join(f"{site}: {label}" for site, label in trial["chosen"]), trial) for trial in measured]
    if not trials:
        return {"trials": ()}
    dots = [(t["cost"], t["noise"], charts.AFTER if t["accepted"] else "#8a949b", words) for words, t in trials]
    return {"trials": trials, "trial_chart": charts.scatter(dots, ("cost relative to before", "crop noise"))}


def _series(
    report: VerifyReport, model: str, points: list[charts.Point], found: Iterable[tuple[float, Proportion | Mean]]
) -> charts.Series:
    """A model's line: its first points, then the means of all entries (directions) at each distance."""
    at: dict[float, list[Proportion | Mean]] = {}
    for distance, entry in found:
        at.setdefault(distance, []).append(entry)
    for distance, entries in sorted(at.items()):
        value, low, high = (sum(getattr(e, f) for e in entries) / len(entries) for f in ("value", "low", "high"))
        points.append((distance, value, low, high))
    return charts.Series(model, charts.AFTER if model == report.model else charts.BEFORE, points)


def _from_zero(series: Iterable[charts.Series]) -> tuple[float, float]:
    return 0.0, 1.05 * max(high for line in series for _, _, _, high in line.points) or 1.0


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%".replace(".0%", "%") if math.isfinite(value) else "–"
