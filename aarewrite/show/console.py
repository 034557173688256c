"""The terminal: prose and tables that fit its width, and numbers as every table writes them.

Where stdout is no terminal nothing is shortened or wrapped to a width: every row of a table is one line.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Collection, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

LONGEST_NAME = 44
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
            max(cell_len(text) for text in (title, *(row[i].plain for row in cells))) for i, title in enumerate(head)
        ]
        can_shrink = [title in names for title in head]
        shown = list(range(len(head)))

        def excess(shortest: int) -> int:
            least = [min(widths[i], shortest) if can_shrink[i] else widths[i] for i in shown]
            return sum(least) + len(GAP) * (len(shown) - 1) - self.limit

        aside: list[int] = []
        if below is not None and excess(sys.maxsize) > 0:
            aside = [head.index(below)]
            shown.remove(aside[0])
        stacked = heads if excess(sys.maxsize) > 0 else 0
        del shown[:stacked]
        for title in drop:
            if excess(SHORTEST_NAME) > 0 and head.index(title) in shown:
                shown.remove(head.index(title))
        for i in shown:
            if can_shrink[i]:
                widths[i] = max(min(widths[i], LEAST), widths[i] - max(0, excess(sys.maxsize)))

        def joined(row: Sequence[Text], style: str = "") -> Text:
            line = Text(style=style)
            for i in shown:
                cell = row[i] if len(row[i]) <= widths[i] else Text(shorten(row[i].plain, widths[i]), row[i].style)
                space = " " * (widths[i] - cell_len(cell.plain))
                line.append_text(Text.assemble(*((space, cell) if flush[i] else (cell, space)), GAP))
            line.rstrip()
            return line

        said: list[str] = []
        self.put(joined([Text(title) for title in head], "bold"))
        for row in cells:
            if stacked and said != (said := [cell.plain for cell in row[:stacked]]):
                self.say(", ".join(f"{title} {value}" for title, value in zip(head, said, strict=False)), hang=2)
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
            names = [shorten(row[0], room) for row in chosen]
            lines = [(title, *(row[i] for row in chosen)) for i, title in enumerate(titles) if i]
            self.table((titles[0], *names), lines)

    def _wrapped(self, text: str, hang: int) -> list[str]:
        if cell_len(text) <= self.limit:
            return [text]
        for word in text.split():
            if len(word) > self.limit - hang:
                text = text.replace(word, shorten(word, self.limit - hang))
        return textwrap.wrap(
            text, self.limit, subsequent_indent=" " * hang, break_long_words=False, break_on_hyphens=False
        )


def shorten(name: str, width: int) -> str:
    """A name that fits: where it is longer its middle is left out, by whole parts of a path if that is enough."""
    if len(name) <= width:
        return name
    *front, last = name.split("/")
    for count in range(len(front) - 1, 1, -1):
        shorter = "/".join((*front[:count], "...", last))
        if width * 2 // 3 < len(shorter) <= width:
            return shorter
    left = (width - 3) // 2
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
