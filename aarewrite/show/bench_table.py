"""A benchmark as a person reads it in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aarewrite.show.console import Terminal, product

if TYPE_CHECKING:
    from aarewrite.timing.bench import Bench, OperatorTime, Timed
    from aarewrite.timing.rounds import Spread

MOST_NODES = 12
LEAST = 0.01  # of a model's time: what an operator or node must take or add to be shown


def print_bench(found: Bench) -> None:
    """Print the times, their ratio, and the operators and nodes that take or add most."""
    out = Terminal()
    threads = f"{found.threads} thread{'s' * (found.threads > 1)}" if found.threads else "as many threads as cores"
    beside = [found.model] if found.against is None else [found.model, found.against]
    out.say(f"{found.provider}, {threads}, {found.rounds} rounds; medians")
    out.table(("model", "ms a run>", "quartiles>", "input"), [_time_row(one) for one in beside], names=("model",))
    if found.ratio and found.noise and found.against:
        itself = f"{found.against.model} against itself {_spread(found.noise)}"
        out.say(f"ratio {_spread(found.ratio)}, 95 % interval of the median; {itself}")
    whole = found.model.milliseconds.median
    for what, rows in (("operator", found.operators), ("node", found.nodes[:MOST_NODES])):
        shown = [row for row in rows if abs(row.added) >= LEAST * whole]
        out.put("")
        if found.against is None:
            alone = [(row.operator, str(row.nodes[1]), f"{row.milliseconds[1]:.3f}") for row in shown]
            out.table((what, "nodes>", "ms>"), alone, names=(what,))
        else:
            out.table((what, "nodes>", "ms before>", "after>", "added>"), list(map(_added_row, shown)), names=(what,))


def _time_row(timed: Timed) -> tuple[str, ...]:
    spread = timed.milliseconds
    shapes = ", ".join(f"{name} {product(shape)}" for name, shape in timed.input_shapes.items())
    return timed.model, f"{spread.median:.2f}", " .. ".join(f"{edge:.2f}" for edge in spread.quartiles), shapes


def _added_row(row: OperatorTime) -> tuple[str, ...]:
    before, after = row.milliseconds
    counts = " -> ".join(map(str, dict.fromkeys(row.nodes)))
    return row.operator, counts, f"{before:.3f}", f"{after:.3f}", f"{row.added:+.3f}"


def _spread(spread: Spread) -> str:
    low, high = spread.interval
    return f"{spread.median:.3f} [{low:.3f}, {high:.3f}]"
