"""The command line: the commands, exit statuses, errors; nothing else. Heavy imports happen inside the commands."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from aarewrite.cli.inspect import inspect
from aarewrite.cli.options import Command
from aarewrite.cli.rewrite import RewriteCommand, rewrite
from aarewrite.cli.verify import VerifyCommand, verify
from aarewrite.errors import AarewriteError, UsageError
from aarewrite.version import __version__

DEFAULT_COMMAND = "rewrite"
INTERRUPTED = 130


class _DefaultCommand(TyperGroup):
    """`aarewrite MODEL.onnx` is `aarewrite rewrite MODEL.onnx`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args:
            raise UsageError("no model given", "run aarewrite MODEL.onnx, or aarewrite rewrite --help")
        if args[0] not in (*self.commands, "-h", "--help", "--version"):
            _refuse_mistyped(args[0], list(self.commands))
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


def _refuse_mistyped(word: str, commands: list[str]) -> None:
    near = difflib.get_close_matches(word.lower(), commands, 1)
    if near and not word.lower().endswith(".onnx") and not Path(word).exists():
        raise UsageError(f"no command and no file {word!r}", f"did you mean aarewrite {near[0]}?")


app = typer.Typer(
    cls=_DefaultCommand,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"aarewrite {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Make an ONNX model shift-invariant. `aarewrite MODEL.onnx` is short for `aarewrite rewrite MODEL.onnx`;
    `aarewrite rewrite --help` lists its options.

    Exit status: 0 done, 1 a check failed, 2 usage, 3 the model cannot be handled.
    """


app.command(cls=RewriteCommand)(rewrite)
app.command(cls=VerifyCommand)(verify)
app.command(cls=Command)(inspect)


def main() -> None:
    """The `aarewrite` command: every error is one line on stderr and an exit status."""
    try:
        status = app(standalone_mode=False)
        if status == INTERRUPTED:  # typer turns Ctrl-C into this status and says nothing
            raise KeyboardInterrupt
    except AarewriteError as error:
        _fail(str(error), error.exit_status)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        _fail("stdout was closed before everything was printed", 1)
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of typer's own parser
            _fail(error.format_message(), 2)
        import logging
        import traceback

        logging.getLogger(__name__).debug("internal error", exc_info=True)
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        _fail(f"internal error at {place}: {type(error).__name__}: {error}; please report it with the model", 3)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> None:
    print("aarewrite: error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
