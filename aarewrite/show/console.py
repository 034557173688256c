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

from aarewrite.texts import printable

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
        self.print(_shown(text), soft_wrap=True, markup=False)

    def say(self, text: str, lead: str = "", style: str = "", hang: int = 0) -> None:
        """Print prose, wrapped between words; a word longer than the line is shortened in its middle.

        Args:
            text: What is said.
            lead: What stands in front of it, in `style`.
            style: Such as "yellow".
            hang: Columns by which further lines are indented.
        """
        for number, line in enumerate(self._wrapped(lead + printable(text), hang)):
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
        apart: bool = False,
    ) -> None:
        """Print rows, if there are any; where they are wider than the terminal, in this order as far as needed:

        Args:
            titles: Of the columns; one that ends in ">" is set flush right.
            rows: A cell a column.
            names: Columns whose cells may be shortened in their middle.
            drop: Columns that may be left out, the first one first.
            below: A column that may stand below its row instead.
            heads: So many columns at the left may be said once, above the rows that share them.
            apart: Print an empty line first.
        """
        if not rows:
            return
        if apart:
            self.print()
        head = [title.removesuffix(">") for title in titles]
        cells = [[_shown(cell) for cell in row] for row in (head, *rows)]
        widths: list[int] = [max(cell.cell_len for cell in column) for column in zip(*cells, strict=True)]
        shown = list(range(len(head)))

        def excess(longest_name: int = sys.maxsize) -> int:
            least = [min(widths[i], longest_name) if head[i] in names else widths[i] for i in shown]
            return sum(least) + len(GAP) * (len(shown) - 1) - self.limit

        aside = [i for i in shown if head[i] == below and excess() > 0]
        shown = [i for i in shown if i not in aside]
        stacked = heads if excess() > 0 else 0
        del shown[:stacked]
        for title in drop:
            if excess(SHORTEST_NAME) > 0 and head.index(title) in shown:
                shown.remove(head.index(title))
        above = []  # columns of names that cannot be shortened
        for i in [i for i in shown if head[i] in names and excess() > 0]:
            widths[i] = room = max(min(widths[i], LEAST), widths[i] - excess())
            if short := shortened([row[i].plain for row in cells[1:]], room):
                for row, name in zip(cells[1:], short, strict=True):
                    row[i] = Text(name, row[i].style)
            else:
                above.append(i)
                shown.remove(i)

        def put(row: Sequence[Text], style: str = "") -> None:
            for i in above:
                for text in self._wrapped(row[i].plain):
                    self.put(Text(text, style))
            for i in shown:
                row[i].align("right" if titles[i].endswith(">") else "left", widths[i])
            line = Text(GAP if above else "", style).append_text(Text(GAP).join(row[i] for i in shown))
            line.rstrip()
            self.put(line)

        put(cells[0], "bold")
        said: list[str] = []
        for row in cells[1:]:
            if stacked and said != (said := [cell.plain for cell in row[:stacked]]):
                self.say(", ".join(f"{title} {value}" for title, value in zip(head, said, strict=False)), hang=2)
            put(row)
            for i in aside:
                for text in self._wrapped(GAP + row[i].plain, len(GAP)):
                    self.put(Text(text, row[i].style))

    def figures(self, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows of many figures; where they are too wide, a figure a line and as many rows side by side as fit."""
        columns = zip(titles, *rows, strict=True)
        if sum(max(map(cell_len, column)) + len(GAP) for column in columns) - len(GAP) <= self.limit:
            self.table(titles, rows)
            return
        widest = max(cell_len(cell) for row in rows for cell in row[1:])
        rest = self.limit - max(map(cell_len, titles))
        beside = max(1, rest // (widest + len(GAP)))
        for start in range(0, len(rows), beside):
            if start:
                self.print()
            models, *lines = zip(*rows[start : start + beside], strict=True)
            names = shortened(models, max(widest, rest // len(models) - len(GAP))) or models
            self.table((titles[0], *names), [(title, *line) for title, line in zip(titles[1:], lines, strict=True)])

    def _wrapped(self, text: str, hang: int = 0) -> list[str]:
        if cell_len(text) <= self.limit:
            return [text]
        for word in text.split():
            if len(word) > self.limit - hang:
                text = text.replace(word, _by_parts(word, self.limit - hang, late=True))
        return textwrap.wrap(
            text, self.limit, subsequent_indent=" " * hang, break_long_words=False, break_on_hyphens=False
        )


def _shown(cell: Cell) -> Text:
    """A copy of a cell without what a terminal would obey."""
    text = cell.copy() if isinstance(cell, Text) else Text(cell)
    if (plain := printable(text.plain)) != text.plain:
        text.plain = plain
    return text


def shortened(names: Sequence[str], width: int) -> list[str] | None:
    """Names of at most so many characters, their middle left out where they are longer; None where two became one."""
    for short in zip(*(_ways(name, width) for name in names), strict=True):
        if len(set(short)) == len(set(names)):
            return list(short)
    return None


def _ways(name: str, width: int) -> list[str]:
    """How a name may be shortened, what is read best first."""
    lefts = (width - 3) // 2, 2, width - 5
    if len(name) <= width:
        return [name] * (2 + len(lefts))
    return [*(_by_parts(name, width, late) for late in (True, False)), *(_cut(name, width, left) for left in lefts)]


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
    sizes = values if isinstance(values, tuple) else (values,)
    return "x".join("?" if size is None else str(size) for size in sizes)


def si(count: int) -> str:
    """A count with an SI prefix, three significant digits."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.3g}{unit}"
    return str(count)
