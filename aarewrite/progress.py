"""A progress bar on stderr for long work; nothing at all where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Advance(Protocol):
    """Advances a bar by so many steps; `title` and `total` change what it says."""

    def __call__(self, steps: int, *, title: str | None = None, total: int | None = None) -> None:
        """Advance."""


@contextmanager
def progress_bar(title: str, total: int | None, wanted: bool) -> Iterator[Advance]:
    """Show a bar while the block runs and yield the function that advances it; a total of None only shows life."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda steps, **said: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)

        def advance(steps: int, *, title: str | None = None, total: int | None = None) -> None:
            said: dict[str, Any] = {"description": title, "total": total}
            bar.update(task, advance=steps, **{name: value for name, value in said.items() if value is not None})

        yield advance
