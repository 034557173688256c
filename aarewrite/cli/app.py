"""The command line: the commands, exit statuses, errors; nothing else. Heavy imports happen inside the commands."""

from __future__ import annotations

import difflib
import errno
import functools
import io
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.core import TyperGroup

from aarewrite.cli.bench import bench
from aarewrite.cli.inspect import inspect
from aarewrite.cli.merge import merge
from aarewrite.cli.options import say_owners
from aarewrite.cli.rewrite import OWNERS, rewrite
from aarewrite.cli.stream import stream
from aarewrite.cli.verify import OWNERS_OF_VERIFY, verify
from aarewrite.errors import AarewriteError, UsageError
from aarewrite.texts import printable
from aarewrite.version import __version__

INTERRUPTED = 130
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
LONGEST_LINE = 2000  # characters of an error
VALUES = {"--ray": "local"}  # what an option without a value stands for
# And whose options mean nothing alone.
COMMANDS = {"rewrite": OWNERS, "verify": OWNERS_OF_VERIFY, "merge": {}, "inspect": {}, "bench": {}, "stream": {}}

app = typer.Typer(rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})
for command in (rewrite, verify, merge, inspect, bench, stream):
    app.command()(command)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"aarewrite {__version__}")
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Make an ONNX model shift-invariant. `aarewrite MODEL.onnx` is short for `aarewrite rewrite MODEL.onnx`;
    `aarewrite rewrite --help` lists its options.

    Exit status: 0 done, 1 a check failed, 2 usage, 3 the model cannot be handled.
    """


def _run(words: list[str]) -> object:
    """Run the command that the words ask for; `MODEL.onnx ...` is `rewrite MODEL.onnx ...`."""
    if not words:
        raise UsageError("no model given", "run aarewrite MODEL.onnx, or aarewrite rewrite --help")
    if words[0] not in (*COMMANDS, "-h", "--help", "--version"):
        near = difflib.get_close_matches(words[0].lower(), COMMANDS, 1)
        if near and not words[0].lower().endswith(".onnx") and not Path(words[0]).exists():
            raise UsageError(f"no command and no file {words[0]!r}", f"did you mean aarewrite {near[0]}?")
        words = ["rewrite", *words]
    return _parser()(_filled(words), standalone_mode=False)


def _filled(words: list[str]) -> list[str]:
    """Options that may be given without their value, with the value that this stands for."""
    filled = []
    for word, following in zip(words, [*words[1:], "-"], strict=True):
        filled.append(word)
        if word in VALUES and (following.startswith("-") or following.lower().endswith(".onnx")):
            filled.append(VALUES[word])
    return filled


@functools.cache
def _parser() -> TyperGroup:
    """The parser of all commands."""
    group = typer.main.get_group(app)
    for name, owners in COMMANDS.items():
        say_owners(group.commands[name].params, owners)
    return group


def main() -> None:
    """The `aarewrite` command: every error is one line on stderr and an exit status."""
    for closed in [name for name in ("stdout", "stderr") if getattr(sys, name) is None]:
        setattr(
            sys, closed, io.TextIOWrapper(io.FileIO(os.devnull, "w"))
        )  # or the next file that is opened would stand for it
    try:
        status = _run(sys.argv[1:])
        if status == INTERRUPTED:  # typer turns Ctrl-C into this status and says nothing
            raise KeyboardInterrupt
        sys.stdout.flush()
    except AarewriteError as error:
        _fail(str(error), error.exit_status)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        _fail("stdout was closed before everything was printed", 1)
    except MemoryError:
        _fail("it takes more memory than there is; give smaller sizes or fewer samples", 3)
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of typer's own parser
            _fail(error.format_message(), 2)
        if isinstance(error, OSError) and error.errno in FULL and error.filename is None:  # files say their names
            _drop_stdout()
            _fail(f"stdout: cannot be written ({error.strerror}); choose another place", 2)
        logging.getLogger(__name__).debug("internal error", exc_info=True)
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        _fail(f"internal error at {place}: {type(error).__name__}: {error}; please report it with the model", 3)
    sys.exit(status if isinstance(status, int) else 0)


def _drop_stdout() -> None:
    """Lead what is still to be printed nowhere: Python tries again when it ends."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _fail(message: str, status: int) -> NoReturn:
    line = printable(" ".join(message.split()))
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE // 2]} ... {line[-LONGEST_LINE // 2 :]}"
    print(f"aarewrite: error: {line}", file=sys.stderr)
    sys.exit(status)
