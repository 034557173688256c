"""The bar on stderr: where stderr is a terminal, and gone when the work ends."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from aarewrite import progress


class Stderr(io.StringIO):
    """Stderr that is a terminal or is none."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Stderr:
    """A terminal of 60 columns whose clock advances by a minute at every look."""
    stderr = Stderr(True)
    minutes = iter(range(0, 6000, 60))
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stderr))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(minutes))))
    monkeypatch.setenv("COLUMNS", "60")
    return stderr


def drawn(screen: Stderr) -> list[str]:
    return [line.rstrip() for line in screen.getvalue().split("\r")[1:]]


def test_bar_count_and_what_is_left(screen: Stderr) -> None:
    with progress.progress_bar("shifting", 4, True) as advance:
        advance(1)
        advance(1)
        advance(2, title="done")
    assert drawn(screen) == [
        f"shifting  [{'':24}] 0/4  -:--",
        f"shifting  [{'#' * 6:24}] 1/4  6:00",
        f"shifting  [{'#' * 12:24}] 2/4  3:00",
        f"done  [{'#' * 24}] 4/4  0:00",
        "",
        "",
    ]


def test_a_total_that_is_not_known_or_known_later(screen: Stderr) -> None:
    def interrupted() -> None:
        with progress.progress_bar("searching " * 9, None, True) as advance:
            advance(3)
            advance(1, title="repaired", total=8)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert drawn(screen)[0] == ("searching " * 9)[:59]
    assert drawn(screen)[2].startswith("repaired  [############  ")
    assert screen.getvalue().endswith("\r" + " " * 59 + "\r")


def test_no_terminal_or_not_wanted_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal, wanted in ((False, True), (True, False)):
        stderr = Stderr(terminal)
        monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stderr))
        with progress.progress_bar("shifting", 4, wanted) as advance:
            advance(1, title="x", total=3)
        assert stderr.getvalue() == ""
