"""The terminal: prose and tables that fit its width, and numbers as every table writes them.

Where stdout is no terminal nothing is shortened or wrapped to a width: every row of a table is one line.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Collection, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

SHORTEST_NAME = 24  # rather than cut a name further, a table leaves out a column
LEAST = 10  # columns of a name where no column is left to leave out
GAP = "  "
Cell = str | Text


class Terminal(Console):
    """Stdout; NO_COLOR leaves out bold and dim as well."""

    def __init__(self, width: int | None = None, force_terminal: bool | None = None) -> None:
        super().__init__(
            color_system=None if os.environ.get("NO_COLOR") else "auto",
            highlight=False, width=width, force_terminal=force_terminal,
        )  # fmt: skip

    def on_broken_pipe(self) -> None:
        """Whoever reads the table may stop reading; the work goes on."""
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")

    @property
    def limit(self) -> int:
        """Columns of a line."""
        return self.width if self.is_terminal else sys.maxsize

    def put(self, text: Cell) -> None:
        """Print one line as it is."""
        self.print(text, soft_wrap=True, markup=False)

    def say(self, text: str, lead: str = "", style: str = "", hang: int = 0) -> None:
        """Print prose, wrapped between words; a word longer than the line is shortened in its middle.

        Args:
            text: What is said.
            lead: What stands in front of it, in `style`.
            style: Such as "yellow".
            hang: Columns by which further lines are indented.
        """
        for number, line in enumerate(self._wrapped(lead + text, hang)):
            self.put(Text.assemble((lead, style), line[len(lead) :]) if number == 0 else line)

    def table(
        self,
        titles: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        *,
        names: Collection[str] = (),
        drop: Sequence[str] = (),
        below: str | None = None,
        heads: int = 0,
    ) -> None:
        """Print rows; where they are wider than the terminal, in this order as far as needed:

        Args:
            titles: Of the columns; one that ends in ">" is set flush right.
            rows: A cell a column.
            names: Columns whose cells may be shortened in their middle.
            drop: Columns that may be left out, the first one first.
            below: A column that may stand below its row instead.
            heads: So many columns at the left may be said once, above the rows that share them.
        """
        flush = [title.endswith(">") for title in titles]
        head = [title.removesuffix(">") for title in titles]
        cells = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
        widths = [
            max(cell_len(cell) for cell in (title, *(row[i].plain for row in cells))) for i, title in enumerate(head)
        ]
        shown = list(range(len(head)))
        above: list[int] = []
        aside: list[int] = []

        def excess(longest_name: int = sys.maxsize) -> int:
            least = [min(widths[i], longest_name) if head[i] in names else widths[i] for i in shown]
            return sum(least) + len(GAP) * (len(shown) - 1) - self.limit

        if below is not None and excess() > 0:
            aside = [head.index(below)]
            shown.remove(aside[0])
        stacked = heads if excess() > 0 else 0
        del shown[:stacked]
        for title in drop:
            if excess(SHORTEST_NAME) > 0 and head.index(title) in shown:
                shown.remove(head.index(title))
        for i in [i for i in shown if head[i] in names and excess() > 0]:
            room = max(min(widths[i], LEAST), widths[i] - excess())
            if short := shortened([row[i].plain for row in cells], room):
                widths[i] = room
                for row, name in zip(cells, short, strict=True):
                    row[i] = Text(name, row[i].style)
            else:
                above.append(i)
                shown.remove(i)

        def joined(row: Sequence[Text], style: str = "") -> Text:
            line = Text(GAP if above else "", style)
            for i in shown:
                space = " " * (widths[i] - cell_len(row[i].plain))
                line.append_text(Text.assemble(*((space, row[i]) if flush[i] else (row[i], space)), GAP))
            line.rstrip()
            return line

        for i in above:
            self.put(Text(head[i], "bold"))
        self.put(joined([Text(title) for title in head], "bold"))
        said: list[str] = []
        for row in cells:
            if stacked and said != (said := [cell.plain for cell in row[:stacked]]):
                self.say(", ".join(f"{title} {value}" for title, value in zip(head, said, strict=False)), hang=2)
            for i in above:
                self.say(row[i].plain)
            self.put(joined(row))
            for i in aside:
                for text in self._wrapped(GAP + row[i].plain, len(GAP)):
                    self.put(Text(text, row[i].style))

    def figures(self, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows of many figures; where they are too wide, a figure a line and as many rows side by side as fit."""
        widest = max(cell_len(cell) for row in rows for cell in row[1:])
        natural = [max(cell_len(cell) for cell in column) for column in zip(titles, *rows, strict=True)]
        if sum(natural) + len(GAP) * (len(natural) - 1) <= self.limit:
            self.table(titles, rows)
            return
        first = max(cell_len(title) for title in titles)
        beside = max(1, (self.limit - first) // (widest + len(GAP)))
        for start in range(0, len(rows), beside):
            if start:
                self.print()
            chosen = rows[start : start + beside]
            room = max(widest, (self.limit - first) // len(chosen) - len(GAP))
            models = [row[0] for row in chosen]
            names = shortened(models, room) or models
            lines = [(title, *(row[i] for row in chosen)) for i, title in enumerate(titles) if i]
            self.table((titles[0], *names), lines)

    def _wrapped(self, text: str, hang: int) -> list[str]:
        if cell_len(text) <= self.limit:
            return [text]
        for word in text.split():
            if len(word) > self.limit - hang:
                text = text.replace(word, _by_parts(word, self.limit - hang, late=True))
        return textwrap.wrap(
            text, self.limit, subsequent_indent=" " * hang, break_long_words=False, break_on_hyphens=False
        )


def shortened(names: Sequence[str], width: int) -> list[str] | None:
    """Names of at most so many characters, their middle left out where they are longer; None where two became one."""
    ways: tuple[Callable[[str], str], ...] = (
        lambda name: _by_parts(name, width, late=True),
        lambda name: _by_parts(name, width, late=False),
        lambda name: _cut(name, width, (width - 3) // 2),
        lambda name: _cut(name, width, 2),
        lambda name: _cut(name, width, width - 5),
    )
    for way in ways:
        short = [name if len(name) <= width else way(name) for name in names]
        if len(set(short)) == len(set(names)):
            return short
    return None


def _by_parts(name: str, width: int, late: bool) -> str:
    """A path without some of its middle parts, late or early ones; with a part cut where whole ones leave little."""
    parts = name.split("/")
    lead = 1 + name.startswith("/")
    for left_out in range(1, len(parts) - lead):
        first, rest = (parts[: -1 - left_out], parts[-1:]) if late else (parts[:lead], parts[lead + left_out :])
        short = "/".join((*first, "...", *rest))
        if width * 2 // 3 < len(short) <= width:
            return short
    return _cut(name, width, (width - 3) // 2)


def _cut(name: str, width: int, left: int) -> str:
    return f"{name[:left]}...{name[len(name) - (width - 3 - left) :]}"


def product(values: object) -> str:
    """Sizes as in 3x3; what is not known as ?."""
    if not isinstance(values, tuple):
        return "?" if values is None else str(values)
    return "x".join("?" if value is None else str(value) for value in values)


def si(count: int) -> str:
    """A count with an SI prefix, three significant digits."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.3g}{unit}"
    return str(count)
