"""Small SVG drawings: a line chart, a scatter of dots, a heat map, a waffle of images, frames with boxes, the
aliasing sketch.

Without a plotting library on purpose: it would have to be installed wherever a model is rewritten, for six drawings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup, escape

BEFORE, AFTER = "#c2571a", "#1b6f8a"
INK, GRID = "#334", "#dde"
HEAT = ((255, 255, 255), (253, 190, 120), (214, 80, 50), (110, 10, 30))  # white to dark red through orange

# Of boxes: colour, width in 1/240 of the picture, dashes
LOOKS = {"paired": ("#16c784", 2.0, "none"), "alone": ("#ff2d55", 3.0, "7 4"), "outside": ("#c8ccd4", 1.0, "2 3")}

Point = tuple[float, float, float, float]
Range = tuple[float, float]
Titles = tuple[str, str]  # of the x and of the y axis
Format = Callable[[float], str]


@dataclass(frozen=True)
class Series:
    """A line: `points` are (x, y, low, high), low and high bounding the shaded interval."""

    label: str
    colour: str
    points: Sequence[Point]


def line_chart(
    series: Sequence[Series], titles: Titles, y_range: Range, y_format: Format, x_labels: dict[float, str] | None = None
) -> Markup:
    """Draw lines with shaded intervals, one colour a series, labelled at their right end."""
    xs = sorted({point[0] for line in series for point in line.points})
    labels = x_labels or {x: f"{x:g}" for x in xs}
    ticks = [(x, labels[x]) for x in xs[:: -(-len(xs) // 12)]]
    at, parts = _frame((xs[0], xs[-1] if xs[-1] > xs[0] else xs[0] + 1), y_range, 466, titles, ticks, y_format)
    ends = _spread([at(*line.points[-1][:2])[1] for line in series])
    names = []  # above all lines, for one may end where another goes on
    for line, end in zip(series, ends, strict=True):
        outline = [at(x, high) for x, _, _, high in line.points] + [at(x, low) for x, _, low, _ in line.points[::-1]]
        middle = [at(x, y) for x, y, _, _ in line.points]
        parts.append(_tag("polygon", points=_points(outline), fill=line.colour, opacity="0.14"))
        parts.append(_tag("polyline", points=_points(middle), fill="none", stroke=line.colour, stroke_width="2.5"))
        for (cx, cy), (x, y, _, _) in zip(middle, line.points, strict=True):
            tip = _tag("title", f"{line.label}, {labels[x]}: {y_format(y)}")
            parts.append(_tag("circle", tip, cx=cx, cy=cy, r="3.5", fill=line.colour))
        label = line.label if len(line.label) <= 21 else line.label[:20] + "…"
        names.append(_text(middle[-1][0] + 10, end + 4, label, "start", line.colour, bold=True))
    halo = _tag("g", Markup("").join(names), paint_order="stroke", stroke="#fff", stroke_width=4)
    return _svg(640, 280, [*parts, halo], f"{titles[1]} over {titles[0]}")


def scatter(dots: Sequence[tuple[float, float, str, str]], titles: Titles) -> Markup:
    """Draw dots (x, y, colour, tip) within the range they take up."""
    ranges = []
    for values in ([dot[0] for dot in dots], [dot[1] for dot in dots]):
        margin = 0.05 * (max(values) - min(values)) or 0.05 * abs(values[0]) or 1.0
        ranges.append((min(values) - margin, max(values) + margin))
    ticks = [(x, f"{x:.2f}") for x in np.linspace(*ranges[0], 5)]
    at, parts = _frame(ranges[0], ranges[1], 616, titles, ticks, "{:.2f}".format)
    for x, y, colour, words in dots:
        (cx, cy), tip = at(x, y), _tag("title", f"{words}: {x:.2f}, {y:.3f}")
        parts.append(_tag("circle", tip, cx=cx, cy=cy, r=5, fill=colour, opacity="0.8"))
    return _svg(640, 280, parts, f"{titles[1]} over {titles[0]}")


def heat_map(errors: Sequence[Sequence[float]], rows: Sequence[int], columns: Sequence[int], largest: float) -> Markup:
    """Draw one cell a shift: white is 0, dark red is `largest`."""
    cell = max(14, min(34, 300 // max(len(columns), len(rows))))
    width, height = 56 + cell * len(columns), 64 + cell * len(rows)
    parts = []
    for i, (row, line) in enumerate(zip(rows, errors, strict=True)):
        parts.append(_text(38, 28 + (i + 0.5) * cell, str(row), "end"))
        for j, (column, error) in enumerate(zip(columns, line, strict=True)):
            tip = f"{column} px right, {row} px down: {error:.3f}"
            colour = _heat(error / largest if largest else 0)
            parts.append(_square(44 + j * cell, 24 + i * cell, cell, tip, colour, stroke="#fff"))
    parts += [_text(44 + (j + 0.5) * cell, height - 24, str(column)) for j, column in enumerate(columns)]
    parts.append(_text(44 + cell * len(columns) / 2, height - 6, "px moved to the side", bold=True))
    parts.append(_text(4, 14, "px moved down" if len(rows) > 1 else "", "start", bold=True))
    return _svg(width, height, parts, "equivariance error for every shift")


def waffle(groups: Sequence[tuple[str, str, int]]) -> Markup:
    """Draw one square an image, coloured by group: (label, colour, count) each."""
    total = sum(count for _, _, count in groups)
    step = max(1, -(-total // 1000))  # one square may stand for several images
    colours = [(label, colour) for label, colour, count in groups for _ in range(round(count / step))]
    columns, cell = (50, 14) if total > 100 else (25, 18)
    parts = [
        _square(k % columns * cell + 1, k // columns * cell + 1, cell - 2, *look, rx=2)
        for k, look in enumerate(colours)
    ]
    return _svg(columns * cell + 2, -(-len(colours) // columns) * cell + 2, parts, "one square an image")


def frame(
    picture: str, name: str, first: bool, size: Sequence[int], boxes: Iterable[tuple[Sequence[float], str, str]]
) -> Markup:
    """Draw a picture of a size (height, width) with boxes: corners (left, top, right, bottom), tip, and one of
    `LOOKS`.

    Args:
        picture: As a data URI; empty: none.
        name: The same for all frames of one picture, of which the `first` holds it.
        first: Whether this is the first one.
        size: In the units of the boxes.
        boxes: What is drawn.
    """
    height, width = size
    image = Markup("")
    if picture and first:
        image = _tag("image", href=picture, id=name, width=width, height=height, preserveAspectRatio="none")
    elif picture:
        image = _tag("use", href=f"#{name}")
    parts = [_tag("rect", width=width, height=height, fill=GRID), image]
    for (left, top, right, bottom), tip, look in boxes:
        place = {"x": left, "y": top, "width": right - left, "height": bottom - top}
        colour, line, dashes = LOOKS[look]
        style: dict[str, float | str] = {
            "fill": "none", "stroke": colour, "stroke_width": line * max(size) / 240, "stroke_dasharray": dashes,
        }  # fmt: skip
        parts.append(_tag("rect", _tag("title", tip), **place, **style))
    return _svg(width, height, parts, "frame with boxes")


def aliasing_sketch() -> Markup:
    """Draw what keeping every second pixel does to stripes, and to the same stripes moved by one pixel.

    The values are computed, not painted: subsampling by 2 of 0 1 0 1..., without and with a 1 2 1 blur.
    """
    parts = []
    for moved, title in enumerate(("stripes", "stripes, moved by one pixel")):
        left = 204 + moved * 222
        signal = [float((k + moved) % 2) for k in range(16)]
        blurred = [(signal[k - 1] + 2 * signal[k] + signal[(k + 1) % 16]) / 4 for k in range(16)]
        parts.append(_text(left + 104, 16, title, bold=True))
        for r, (values, size) in enumerate(((signal, 13), (signal[::2], 26), (blurred[::2], 26))):
            for k, value in enumerate(values):
                shade, x = round(40 + 200 * value), left + k * size
                fill = f"rgb({shade},{shade},{shade})"
                parts.append(_tag("rect", x=x, y=28 + r * 46, width=size - 1, height=26, fill=fill))
    names = (("the picture", INK), ("keep every second pixel", BEFORE), ("blur, keep every second", AFTER))
    parts += [_text(194, 46 + r * 46, name, "end", colour, bold=True) for r, (name, colour) in enumerate(names)]
    return _svg(640, 160, parts, "stripes before and after subsampling, without and with blur")


def _frame(
    x_range: Range, y_range: Range, right: int, titles: Titles, x_ticks: Iterable[tuple[float, str]], y_format: Format
) -> tuple[Callable[[float, float], tuple[float, float]], list[Markup]]:
    """Return what places a point (beyond the range: on the frame, from 62 to `right`), and grid, ticks and titles."""

    def at(x: float, y: float) -> tuple[float, float]:
        return float(np.interp(x, x_range, (62, right))), float(np.interp(y, y_range, (234, 28)))

    parts = [_text(at(x, y_range[0])[0], 252, label) for x, label in x_ticks]
    for value in np.linspace(*y_range, 5).tolist():
        y = at(x_range[0], value)[1]
        parts += [_tag("line", x1=62, x2=right, y1=y, y2=y, stroke=GRID), _text(54, y + 4, y_format(value), "end")]
    parts += [_text((62 + right) / 2, 274, titles[0], bold=True), _text(18, 14, titles[1], "start", bold=True)]
    return at, parts


def _heat(share: float) -> str:
    position = share * (len(HEAT) - 1)
    red, green, blue = (round(np.interp(position, range(len(HEAT)), channel)) for channel in zip(*HEAT, strict=True))
    return f"rgb({red},{green},{blue})"


def _spread(ends: Sequence[float], gap: float = 16) -> list[float]:
    """Move labels apart that would overlap, keeping their order."""
    placed = list(ends)
    for above, below in pairwise(sorted(range(len(ends)), key=lambda k: ends[k])):
        placed[below] = max(placed[below], placed[above] + gap)
    return placed


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _square(x: float, y: float, size: int, tip: str, colour: str, **look: str | int) -> Markup:
    return _tag("rect", _tag("title", tip), x=x, y=y, width=size, height=size, fill=colour, **look)


def _text(x: float, y: float, text: str, anchor: str = "middle", colour: str = INK, bold: bool = False) -> Markup:
    weight = {"font_weight": 600} if bold else {}
    return _tag("text", text, x=x, y=y, text_anchor=anchor, fill=colour, **weight)


def _svg(width: int, height: int, parts: Iterable[Markup], label: str) -> Markup:
    body = Markup("").join(parts)
    return _tag("svg", body, viewBox=f"0 0 {width} {height}", width=width, role="img", aria_label=label)


def _tag(name: str, content: str = "", **attributes: float | str) -> Markup:
    """Return an element; content and attributes that are not Markup are escaped, `_` in names stands for `-`."""
    given = (
        Markup(' {}="{}"').format(key.replace("_", "-"), f"{value:.1f}" if isinstance(value, float) else value)
        for key, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), Markup("").join(given), escape(content))
