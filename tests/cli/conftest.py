"""The command line, run in this process."""

from __future__ import annotations

from collections.abc import Callable

import command
import pytest


@pytest.fixture(scope="session")
def aa() -> Callable[..., command.Outcome]:
    """Runs the command; any traceback fails the test."""
    return command.aa
