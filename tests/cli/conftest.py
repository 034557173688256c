"""The command line, run in this process."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import NamedTuple
from unittest import mock

import pytest


class Outcome(NamedTuple):
    """What the command did."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def aa() -> Callable[..., Outcome]:
    """Runs the command; any traceback fails the test."""
    from aarewrite.cli.app import main

    def run(*arguments: object) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch("sys.argv", ["aarewrite", *map(str, arguments)]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as stopped,
        ):
            main()
        return Outcome(int(stopped.value.code or 0), out.getvalue(), err.getvalue())

    return run
