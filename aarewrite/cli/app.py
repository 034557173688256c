"""The command line: parse, call, print, exit status; nothing else. Heavy imports happen inside the commands."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from aarewrite.cli.verify import verify_command
from aarewrite.errors import AarewriteError, CheckFailed, UsageError
from aarewrite.version import __version__

if TYPE_CHECKING:
    from aarewrite.calibration.run import Calibrated

DEFAULT_COMMAND = "rewrite"
INTERRUPTED = 130
UNTRAINED = (
    "note: weights that were never trained with blur lose accuracy when blurred; "
    "repair them with --calibrate IMAGES, and measure before you ship (README: Accuracy)"
)


class _DefaultCommand(TyperGroup):
    """`aarewrite MODEL.onnx` is `aarewrite rewrite MODEL.onnx`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args:
            raise UsageError("no model given", "run aarewrite MODEL.onnx, or aarewrite rewrite --help")
        if args[0] not in (*self.commands, "-h", "--help", "--version"):
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


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
        typer.Option(
            metavar="NAME|FILE.toml", help="aligned, calibrated, zhang2019, timm, ... (docs/recipes.md), or a file."
        ),
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
    verify: Annotated[
        str | None,
        typer.Option("--verify", metavar="DATA", help="Then verify before against after, as `aarewrite verify`."),
    ] = None,
    labels: Annotated[str | None, typer.Option(help="With --verify or --calibrate: CSV of labels.")] = None,
    preprocess: Annotated[str | None, typer.Option(help="With --verify or --calibrate: preset or TOML file.")] = None,
    provider: Annotated[str, typer.Option(help="With --verify: cpu, cuda or all.")] = "cpu",
    protocol: Annotated[str, typer.Option(help="With --verify: any of crop,circular,fractional.")] = "crop",
    max_shift: Annotated[int | None, typer.Option(help="With --verify: largest shift in px.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="With --verify: measure every layer.")] = False,
    limit: Annotated[int | None, typer.Option(help="With --verify or --calibrate: only the first N samples.")] = None,
    seed: Annotated[int, typer.Option(help="With --verify or --calibrate: seed of every random choice.", min=0)] = 0,
    page: Annotated[Path | None, typer.Option("--report", help="With --verify: write an HTML page.")] = None,
    min_consistency: Annotated[
        float | None, typer.Option(help="With --verify: write nothing below this consistency (0..1).")
    ] = None,
    max_diff: Annotated[
        float | None, typer.Option(help="With --verify: write nothing above this difference of the outputs.")
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option("--calibrate", metavar="DATA", help="Repair the weights behind the blurs on images, unlabelled."),
    ] = None,
    strength: Annotated[
        str | None, typer.Option(metavar="auto|0..1", help="With --calibrate: how much blur; auto searches per site.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="1.15x|120MMAC", help="With --calibrate: largest cost of the result.")
    ] = None,
    max_disagreement: Annotated[
        float | None, typer.Option(help="With --calibrate: largest share of other answers than the original's.")
    ] = None,
    crops: Annotated[int, typer.Option(help="With --calibrate: random crops of each sample.", min=1)] = 1,
    hold_out: Annotated[float, typer.Option(help="With --calibrate: share of samples to judge by.")] = 1 / 3,
    force: Annotated[
        bool, typer.Option("--force", help="With --calibrate: write a result that is not better.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="With --calibrate: one row per layer.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print no table.")] = False,
) -> None:
    """Rewrite a model into its anti-aliased version and prove that every blur is in its place."""
    recipe_options = {
        "--recipe": recipe, "--filter": filter, "--pad": pad, "--placement": placement,
        "--first-conv": first_conv, "--max-window": max_window, "--only": only, "--skip": skip, "--input": input,
    }  # fmt: skip
    if verify is None:
        _refuse("--verify", **{"--report": page, "--min-consistency": min_consistency, "--max-diff": max_diff})
    if calibrate is None:
        _refuse("--calibrate", **{"--strength": strength, "--budget": budget, "--max-disagreement": max_disagreement})
    if verify is None and calibrate is None:
        _refuse("--verify or --calibrate", **{"--labels": labels, "--preprocess": preprocess, "--limit": limit})
    if dry_run and (verify or calibrate):
        raise UsageError("--dry-run runs nothing", "leave out --verify and --calibrate")
    given = [name for name, value in recipe_options.items() if value not in (None, [])]
    if plan is not None and given:
        raise UsageError(f"--plan and {given[0]} exclude each other", "edit the plan file instead")

    from aarewrite.model import model_file
    from aarewrite.rewriting import pipeline
    from aarewrite.show import plan_table as table

    arguments: dict[str, Any] = {
        "recipe": recipe or ("aligned" if calibrate is None else "calibrated"),
        "filter": filter, "pad": pad, "placement": placement, "first_conv": first_conv, "max_window": max_window,
        "only": only or (), "skip": skip or (),
        "input_shapes": _parse_inputs(input or []),
    }  # fmt: skip
    loaded = model_file.load(model)
    target = output or model.with_suffix(".aa.onnx")
    data_files = [loaded.folder / location for location in model_file.external_files(loaded.proto)]
    _check_apart([model, *data_files], **{"-o": None if dry_run else target, "--json": json_file, "--report": page})
    show = not quiet and json_file != "-"
    if dry_run and plan is None:
        planned = pipeline.plan(loaded, **arguments)
        if show:
            table.print_plan(planned, done=False)
        with _json_output(json_file, planned.to_dict()):
            return
    edited = _read_json(plan) if plan is not None else None
    arguments |= {"plan": edited, "verify": not (no_verify or dry_run)}
    calibrated: Calibrated | None = None
    if calibrate is None:
        result = pipeline.rewrite(loaded, **arguments)
        changed, rewritten = result.changed, result.rewritten
    else:
        from aarewrite.calibration.run import calibrate as calibrate_model

        calibrated = calibrate_model(
            loaded, calibrate, **arguments, strength=strength, budget=budget, max_disagreement=max_disagreement,
            crops=crops, limit=limit, seed=seed, hold_out=hold_out, labels=labels, preprocess=preprocess, progress=True,
        )  # fmt: skip
        result, changed, rewritten = calibrated.rewritten, True, model_file.load(calibrated.model)
    if show:
        table.print_plan(result.plan, done=not dry_run)
        table.print_outcome(result)
    report = result.report if calibrated is None else calibrated.report
    if calibrated is not None:
        from aarewrite.show.calibration_table import print_calibrated

        if show:
            print_calibrated(calibrated, verbose)
        if calibrated.failures and not force:
            raise CheckFailed(calibrated.failures[0], "nothing was written; --force writes it all the same")
    if verify is not None:
        from aarewrite.cli.verify import show as show_verification
        from aarewrite.verification import before_after

        names = (target.name, model.name)
        measured = before_after(
            loaded.self_contained(), rewritten.self_contained(), verify, names=names, labels=labels,
            preprocess=preprocess, provider=provider, protocols=tuple(protocol.split(",")), max_shift=max_shift,
            layers=layers, limit=limit, seed=seed, min_consistency=min_consistency, max_diff=max_diff,
            plan=table.plan_rows(result.plan), trials=report["calibration"]["trials"] if calibrated is not None else (),
            progress=True,
        )  # fmt: skip
        show_verification(measured, quiet=not show)
        measured.raise_for_failures()
        show_verification(measured, report=page, quiet=True)
        report["verification"] = measured.to_dict()
    with _json_output(json_file, report):
        if dry_run:
            return
        if changed:
            model_file.save(rewritten, target)
        else:
            model_file.copy_unchanged(loaded, target)
    if show:
        typer.echo(f"wrote {target}" + ("" if changed else ", equal to the input: nothing to rewrite"))
        if result.plan.rewrites and calibrated is None:
            typer.echo(UNTRAINED, err=True)


app.command("verify")(verify_command)


@app.command()
def inspect(model: Model, json_file: Json = None, input: Inputs = None) -> None:
    """List every site and every other aliasing source, with what `aligned` would do or the reason why not."""
    from aarewrite.rewriting import pipeline
    from aarewrite.show import plan_table as table

    planned = pipeline.plan(model, input_shapes=_parse_inputs(input or []))
    if json_file != "-":
        table.print_plan(planned, done=False)
    with _json_output(json_file, planned.to_dict()):
        return


def _parse_inputs(texts: list[str]) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for text in texts:
        name, _, dims = text.rpartition(":")
        sizes = dims.lower().split("x")
        if not name or not all(size.isascii() and size.isdigit() and int(size) > 0 for size in sizes):
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


@contextlib.contextmanager
def _json_output(target: str | None, values: dict[str, Any]) -> Iterator[None]:
    """Write JSON when the block ends well; a place that cannot be written stops it before it begins."""
    text = json.dumps(values, indent=2) + "\n"
    if target is None or target == "-":
        yield
        sys.stdout.write(text if target else "")
        return
    from aarewrite.model.model_file import atomic_file

    with atomic_file(Path(target)) as temporary:
        temporary.write_text(text, "utf-8")
        yield


def _refuse(owner: str, **options: object) -> None:
    """Refuse options that mean nothing without their owner."""
    given = next((name for name, value in options.items() if value is not None), None)
    if given is not None:
        raise UsageError(f"{given} belongs to {owner}", f"add {owner} DATA")


def _check_apart(inputs: list[Path], **outputs: Path | str | None) -> None:
    """Refuse outputs that would overwrite the input or each other."""
    taken = dict.fromkeys((path.resolve() for path in inputs), "the input itself")
    for option, path in outputs.items():
        if path is None or path == "-":
            continue
        place = Path(path).resolve()
        if place in taken:
            raise UsageError(f"{path}: is {taken[place]}", f"choose another {option}")
        taken[place] = f"the file of {option}"


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
