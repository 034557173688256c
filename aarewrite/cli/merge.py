"""The command `aarewrite merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument

from aarewrite.cli import options
from aarewrite.outputs import check_outputs


def merge(
    parts: Annotated[list[Path], Argument(metavar="PART.json...", help="What verify --shard I/N wrote, all N of it.")],
    report: options.Report = None,
    json: options.Json = None,
    quiet: options.Quiet = False,
) -> None:
    """Add up the shares that `aarewrite verify --shard` measured: the report of a single run, bit for bit."""
    from aarewrite.verification.parts import merge as add_up
    from aarewrite.verification.parts import read_part

    check_outputs([("a part", part) for part in parts], [("--json", json), ("--report", report)])
    options.deliver(add_up(map(read_part, parts)), json, report, quiet)
