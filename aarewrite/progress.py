"""A progress bar on stderr for long work; nothing at all where stderr is no terminal."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from aarewrite.texts import printable

BAR = 24  # columns
PAUSE = 0.1  # seconds between two drawings


class Bar:
    """A line, drawn over itself; a total of None only shows life."""

    def __init__(self, title: str, total: int | None, shown: bool) -> None:
        self.title, self.total, self.shown, self.done = title, total, shown, 0
        self.began, self.drawn = time.monotonic(), 0.0
        self(0)

    def __call__(self, steps: int, *, title: str | None = None, total: int | None = None) -> None:
        """Advance by so many steps; `title` and `total` change what the line says."""
        self.title, self.total, self.done = title or self.title, total or self.total, self.done + steps
        now = time.monotonic()
        if now - self.drawn >= PAUSE:
            self.drawn = now
            self.draw(self.line(now - self.began))

    def line(self, seconds: float) -> str:
        """Title, bar, steps done, and the minutes and seconds that are left at this pace."""
        if not self.total:
            return f"{self.title}  {self.done or ''}"
        share = min(1.0, self.done / self.total)
        left = "{}:{:02}".format(*divmod(int(seconds * (1 / share - 1)), 60)) if share else "-:--"
        return f"{self.title}  [{'#' * int(BAR * share):{BAR}}] {self.done}/{self.total}  {left}"

    def draw(self, line: str) -> None:
        """Draw over what stands there; an empty line leaves no trace."""
        if self.shown:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + printable(line)[:width].ljust(width), end="" if line else "\r", file=sys.stderr, flush=True)


@contextmanager
def progress_bar(title: str, total: int | None, wanted: bool) -> Iterator[Bar]:
    """Show a bar while the block runs, where stderr is a terminal, and yield it."""
    bar = Bar(title, total, wanted and sys.stderr.isatty())
    try:
        yield bar
    finally:
        bar.draw("")
