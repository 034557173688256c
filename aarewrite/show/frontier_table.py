"""The frontier of steadiness over cost as one reads it in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aarewrite.show.console import Terminal

if TYPE_CHECKING:
    from aarewrite.calibration.steady import Row, Steady


def print_steady(found: Steady) -> None:
    """Print every candidate, the choice, and what the images that nothing was chosen by say of it."""
    out = Terminal()
    fitted, compared, confirmed = found.images
    out.say(f"{found.data}: weights repaired on {fitted}, candidates compared on {compared}")
    out.say(f"preprocess {found.preprocess}")
    out.table(
        ("candidate", "MACs>", "time>", "near>", "far>", "top-1>", "found"),
        [_cells(row) for row in found.rows],
        below="found",
    )
    meaning = "of pairs of views under a camera, near (at most 1 px apart) and far"
    out.say(f"changes in points, [95 % interval over images], {meaning}")
    if found.chosen is not None and found.confirmed is not None:
        out.say(f"chose {found.chosen.name}, the steadiest of what is better")
        changes = (("near", found.confirmed.near), ("far", found.confirmed.far), ("top-1", found.confirmed.top1))
        told = [f"{name} {one.before:.1f} -> {one.after:.1f}, {one.says}" for name, one in changes if one is not None]
        out.say(f"on {confirmed} images that it was not chosen by: {'; '.join(told)}")


def _cells(row: Row) -> tuple[str, ...]:
    ratios = ("" if ratio is None else f"{ratio:.2f}x" for ratio in (row.cost, row.latency))
    changes = (row.changes.near, row.changes.far, row.changes.top1) if row.changes else (None,) * 3
    return (row.name, *ratios, *("" if one is None else one.says for one in changes), row.says)
