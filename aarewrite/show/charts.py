"""Small SVG drawings as text: a line chart, a heat map, a waffle of images, the aliasing sketch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

BEFORE, AFTER = "#c2571a", "#1b6f8a"
INK, GRID = "#334", "#dde"


@dataclass(frozen=True)
class Series:
    """A line: `points` are (x, y, low, high), low and high bounding the shaded interval."""

    label: str
    colour: str
    points: Sequence[tuple[float, float, float, float]]


def line_chart(
    series: Sequence[Series],
    x_title: str,
    y_title: str,
    y_range: tuple[float, float],
    y_format: Callable[[float], str],
    x_labels: dict[float, str] | None = None,
) -> str:
    """Draw lines with shaded intervals, one colour a series, labelled at their right end."""
    width, height, left, right, top, bottom = 640, 280, 62, 174, 28, 46
    xs = sorted({point[0] for line in series for point in line.points})
    x_low, x_high = xs[0], xs[-1] if xs[-1] > xs[0] else xs[0] + 1
    y_low, y_high = y_range

    def at(x: float, y: float) -> tuple[float, float]:
        across = left + (x - x_low) / (x_high - x_low) * (width - left - right)
        y = min(max(y, y_low), y_high)
        return across, height - bottom - (y - y_low) / (y_high - y_low) * (height - top - bottom)

    parts = []
    for k in range(5):
        value = y_low + (y_high - y_low) * k / 4
        _, y = at(x_low, value)
        parts.append(f'<line x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        parts.append(_text(left - 8, y + 4, y_format(value), "end"))
    labels = x_labels or {x: f"{x:g}" for x in xs}
    for x in xs if len(xs) <= 12 else xs[:: -(-len(xs) // 12)]:
        parts.append(_text(at(x, y_low)[0], height - bottom + 18, labels.get(x, "")))
    parts.append(_text((left + width - right) / 2, height - 6, x_title, bold=True))
    parts.append(_text(left - 44, 14, y_title, "start", bold=True))
    ends = _spread([at(*line.points[-1][:2])[1] for line in series])
    for line, end in zip(series, ends, strict=True):
        upper = [at(x, high) for x, _, _, high in line.points]
        lower = [at(x, low) for x, _, low, _ in reversed(line.points)]
        parts.append(f'<polygon points="{_points([*upper, *lower])}" fill="{line.colour}" opacity="0.14"/>')
        middle = [at(x, y) for x, y, _, _ in line.points]
        parts.append(f'<polyline points="{_points(middle)}" fill="none" stroke="{line.colour}" stroke-width="2.5"/>')
        for (x, y), point in zip(middle, line.points, strict=True):
            tip = f"{line.label}, {labels.get(point[0], f'{point[0]:g}')}: {y_format(point[1])}"
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{line.colour}">{_title(tip)}</circle>')
        parts.append(_text(middle[-1][0] + 10, end + 4, _short(line.label, 21), "start", line.colour, bold=True))
    return _svg(width, height, parts, f"{y_title} over {x_title}")


def scatter(dots: Sequence[tuple[float, float, str, str]], x_title: str, y_title: str) -> str:
    """Draw dots (x, y, colour, tip) within the range they take up."""
    width, height, left, right, top, bottom = 640, 280, 62, 24, 28, 46
    ranges = []
    for values in zip(*((x, y) for x, y, _, _ in dots), strict=True):
        margin = 0.05 * (max(values) - min(values)) or 0.05 * abs(values[0]) or 1.0
        ranges.append((min(values) - margin, max(values) + margin))
    (x_low, x_high), (y_low, y_high) = ranges

    def at(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x_low) / (x_high - x_low), (y - y_low) / (y_high - y_low)
        return left + across * (width - left - right), height - bottom - up * (height - top - bottom)

    parts = []
    for k in range(5):
        x_value, y_value = x_low + (x_high - x_low) * k / 4, y_low + (y_high - y_low) * k / 4
        x, y = at(x_value, y_value)
        parts.append(f'<line x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        parts.append(_text(left - 8, y + 4, f"{y_value:.2f}", "end"))
        parts.append(_text(x, height - bottom + 18, f"{x_value:.2f}"))
    parts.append(_text((left + width - right) / 2, height - 6, x_title, bold=True))
    parts.append(_text(left - 44, 14, y_title, "start", bold=True))
    for x_value, y_value, colour, tip in dots:
        x, y = at(x_value, y_value)
        title = _title(f"{tip}: {x_value:.2f}, {y_value:.3f}")
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}" opacity="0.8">{title}</circle>')
    return _svg(width, height, parts, f"{y_title} over {x_title}")


def heat_map(errors: Sequence[Sequence[float]], rows: Sequence[int], columns: Sequence[int], largest: float) -> str:
    """Draw one cell a shift: white is 0, dark red is `largest`."""
    cell = max(14, min(34, 300 // max(len(columns), len(rows))))
    left, top = 44, 24
    width, height = left + cell * len(columns) + 12, top + cell * len(rows) + 40
    parts = []
    for i, line in enumerate(errors):
        for j, error in enumerate(line):
            tip = f"{columns[j]} px right, {rows[i]} px down: {error:.3f}"
            parts.append(
                f'<rect x="{left + j * cell}" y="{top + i * cell}" width="{cell}" height="{cell}" '
                f'fill="{_heat(error / largest if largest else 0)}" stroke="#fff">{_title(tip)}</rect>'
            )
    for i, row in enumerate(rows):
        parts.append(_text(left - 6, top + i * cell + cell / 2 + 4, str(row), "end"))
    for j, column in enumerate(columns):
        parts.append(_text(left + j * cell + cell / 2, top + len(rows) * cell + 16, str(column)))
    parts.append(_text(left + cell * len(columns) / 2, height - 6, "px moved to the side", bold=True))
    parts.append(_text(4, 14, "px moved down" if len(rows) > 1 else "", "start", bold=True))
    return _svg(width, height, parts, "equivariance error for every shift")


def waffle(groups: Sequence[tuple[str, str, int]]) -> str:
    """Draw one square an image, coloured by group: (label, colour, count) each."""
    total = sum(count for _, _, count in groups)
    step = max(1, -(-total // 1000))  # one square may stand for several images
    colours = [(label, colour) for label, colour, count in groups for _ in range(round(count / step))]
    columns, cell = (50, 14) if total > 100 else (25, 18)
    height = -(-len(colours) // columns) * cell + 2
    parts = [
        f'<rect x="{k % columns * cell + 1}" y="{k // columns * cell + 1}" width="{cell - 2}" height="{cell - 2}" '
        f'rx="2" fill="{colour}">{_title(label)}</rect>'
        for k, (label, colour) in enumerate(colours)
    ]
    return _svg(columns * cell + 2, height, parts, "one square an image")


def aliasing_sketch() -> str:
    """Draw what keeping every second pixel does to stripes, and to the same stripes moved by one pixel.

    The values are computed, not painted: subsampling by 2 of 0 1 0 1..., without and with a 1 2 1 blur.
    """
    stripes = [float(k % 2) for k in range(17)]
    columns = (("", stripes), ("moved by one pixel", stripes[1:] + stripes[:1]))
    parts = []
    for c, (note, signal) in enumerate(columns):
        x0, signal = 204 + c * 222, signal[:16]
        blurred = [(signal[k - 1] + 2 * signal[k] + signal[(k + 1) % 16]) / 4 for k in range(16)]
        rows = ((signal, 1), (signal[::2], 2), (blurred[::2], 2))
        parts.append(_text(x0 + 104, 16, "stripes" + (f", {note}" if note else ""), bold=True))
        for r, (values, size) in enumerate(rows):
            for k, value in enumerate(values):
                shade = round(40 + 200 * value)
                parts.append(
                    f'<rect x="{x0 + k * 13 * size}" y="{28 + r * 46}" width="{13 * size - 1}" height="26" '
                    f'fill="rgb({shade},{shade},{shade})"/>'
                )
    names = ("the picture", "keep every second pixel", "blur, keep every second")
    for r, name in enumerate(names):
        parts.append(_text(194, 46 + r * 46, name, "end", (INK, BEFORE, AFTER)[r], bold=True))
    return _svg(640, 160, parts, "stripes before and after subsampling, without and with blur")


def _heat(share: float) -> str:
    """White to dark red through orange."""
    stops = ((255, 255, 255), (253, 190, 120), (214, 80, 50), (110, 10, 30))
    position = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    k = min(int(position), len(stops) - 2)
    mix = [round(a + (b - a) * (position - k)) for a, b in zip(stops[k], stops[k + 1], strict=True)]
    return f"rgb({mix[0]},{mix[1]},{mix[2]})"


def _spread(ends: Sequence[float], gap: float = 16) -> list[float]:
    """Move labels apart that would overlap, keeping their order."""
    order = sorted(range(len(ends)), key=lambda k: ends[k])
    placed = list(ends)
    for above, below in pairwise(order):
        placed[below] = max(placed[below], placed[above] + gap)
    return placed


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>"


def _text(x: float, y: float, text: str, anchor: str = "middle", colour: str = INK, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{weight}>{escape(text)}</text>'


def _svg(width: float, height: float, parts: Sequence[str], label: str) -> str:
    body = "".join(parts)
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="{escape(label)}" '
        f'xmlns="http://www.w3.org/2000/svg">{body}</svg>'
    )
