"""The command line: parse, call, print, exit status; nothing else. Heavy imports happen inside the commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import aarewrite
from aarewrite.errors import AarewriteError, UsageError

DEFAULT_COMMAND = "rewrite"
UNTRAINED = (
    "note: weights that were never trained with blur lose accuracy when blurred; "
    "measure the result before you ship it (README: Accuracy)"
)


class _DefaultCommand(TyperGroup):
    """`aarewrite MODEL.onnx` is `aarewrite rewrite MODEL.onnx`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args:
            raise UsageError("no model given", "run aarewrite MODEL.onnx, or aarewrite rewrite --help")
        if args[0] not in (*self.commands, "--help", "--version"):
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_DefaultCommand, add_completion=False, rich_markup_mode=None)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"aarewrite {aarewrite.__version__}")
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


Model = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The model to read.")]
Json = Annotated[str | None, typer.Option("--json", metavar="FILE|-", help="Write plan and proof as JSON.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="NAME:1x3x224x224", help="Shape of an input that the model leaves open."),
]


@app.command()
def rewrite(
    model: Model,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT.onnx", help="Default: MODEL.aa.onnx beside it.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE.toml", help="aligned, zhang2019, zhang2019-resnet, timm, composer or a file."),
    ] = None,
    filter: Annotated[int | None, typer.Option("--filter", metavar="N", help="Taps of the blur, 1..7.")] = None,
    pad: Annotated[str | None, typer.Option(metavar="reflect|edge|zero", help="Padding of the blur.")] = None,
    placement: Annotated[
        str | None, typer.Option(metavar="after|before", help="Blur behind or in front of strided convs.")
    ] = None,
    first_conv: Annotated[
        bool | None, typer.Option("--first-conv/--no-first-conv", help="Blur the first conv too.")
    ] = None,
    max_window: Annotated[
        str | None, typer.Option(metavar="keep|N", help="Largest MaxPool window of the result.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Rewrite only these nodes.")] = None,
    skip: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Leave these nodes.")] = None,
    input: Inputs = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Apply a plan that --json wrote, edited or not.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and write no model.")] = False,
    json_file: Json = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Skip the identity proof.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print no table.")] = False,
) -> None:
    """Rewrite a model into its anti-aliased version and prove that every blur is in its place."""
    recipe_options = {
        "--recipe": recipe, "--filter": filter, "--pad": pad, "--placement": placement,
        "--first-conv": first_conv, "--max-window": max_window, "--only": only, "--skip": skip,
    }  # fmt: skip
    given = [name for name, value in recipe_options.items() if value]
    if plan is not None and given:
        raise UsageError(f"--plan and {given[0]} exclude each other", "edit the plan file instead")
    target = output or model.with_suffix(".aa.onnx")
    if not dry_run and target.exists() and model.exists() and target.samefile(model):
        raise UsageError(f"{target}: is the input itself", "choose another -o")

    from aarewrite import model_file, pipeline, table

    arguments: dict[str, Any] = {
        "recipe": recipe or "aligned", "filter": filter, "pad": pad, "placement": placement,
        "first_conv": first_conv, "max_window": max_window, "only": only or (), "skip": skip or (),
        "input_shapes": _parse_inputs(input or []),
    }  # fmt: skip
    loaded = model_file.load(model)
    show = not quiet and json_file != "-"
    if dry_run and plan is None:
        planned = pipeline.plan(loaded, **arguments)
        if show:
            table.print_plan(planned, done=False)
        _write_json(json_file, planned.to_dict())
        return
    edited = _read_json(plan) if plan is not None else None
    result = pipeline.rewrite(loaded, **arguments, plan=edited, verify=not (no_verify or dry_run))
    if show:
        table.print_plan(result.plan, done=not dry_run)
        table.print_outcome(result)
    report = result.report
    if not dry_run:
        if result.changed:
            model_file.save(result.rewritten, target)
        else:
            model_file.copy_unchanged(loaded, target)
        if show:
            typer.echo(f"wrote {target}" + ("" if result.changed else ", equal to the input: nothing to rewrite"))
        if show and result.changed:
            typer.echo(UNTRAINED, err=True)
    _write_json(json_file, report)


@app.command()
def inspect(model: Model, json_file: Json = None, input: Inputs = None) -> None:
    """List every site and every other aliasing source, with what `aligned` would do or the reason why not."""
    from aarewrite import pipeline, table

    planned = pipeline.plan(model, input_shapes=_parse_inputs(input or []))
    if json_file != "-":
        table.print_plan(planned, done=False)
    _write_json(json_file, planned.to_dict())


def _parse_inputs(texts: list[str]) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for text in texts:
        name, _, dims = text.rpartition(":")
        sizes = dims.lower().split("x")
        if not name or not all(size.isdigit() and int(size) > 0 for size in sizes):
            raise UsageError(f"--input {text!r} is not NAME:SHAPE", "write it like data:1x3x224x224")
        shapes[name] = tuple(int(size) for size in sizes)
    return shapes


def _read_json(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path}: not JSON ({error})", "make a plan with --dry-run --json FILE") from None
    if not isinstance(table, dict):
        raise UsageError(f"{path}: not a plan", "make one with --dry-run --json FILE")
    return table


def _write_json(target: str | None, values: dict[str, Any]) -> None:
    text = json.dumps(values, indent=2) + "\n"
    if target == "-":
        sys.stdout.write(text)
    elif target is not None:
        from aarewrite.model_file import atomic_file

        with atomic_file(Path(target)) as temporary:
            temporary.write_text(text, "utf-8")


def main() -> None:
    """The `aarewrite` command: every error is one line on stderr and an exit status."""
    try:
        status = app(standalone_mode=False)
    except AarewriteError as error:
        _fail(str(error), error.exit_status)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if not hasattr(error, "format_message"):  # a usage error of typer's own parser has it
            raise
        _fail(error.format_message(), 2)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> None:
    print("aarewrite: error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
