"""The command `aarewrite rewrite`, which is the default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypedDict

import typer

from aarewrite.cli import options
from aarewrite.cli import verify as verify_command
from aarewrite.errors import CheckFailed, UsageError
from aarewrite.outputs import STDOUT, text_output

if TYPE_CHECKING:
    from aarewrite.calibration.run import Calibrated
    from aarewrite.model.model_file import Model
    from aarewrite.rewriting.pipeline import Result

UNTRAINED = (
    "note: weights that were never trained with blur lose accuracy when blurred; "
    "repair them with --calibrate IMAGES, and measure before you ship (README: Accuracy)"
)
RECIPE = ("recipe", "filter", "pad", "placement", "first_conv", "max_window", "only", "skip", "input")
OF_EITHER = ("labels", "preprocess", "limit", "seed")
OF_VERIFY = ("provider", "protocol", "max_shift", "layers", "report", "min_consistency", "max_diff")
OF_CALIBRATE = ("strength", "budget", "max_disagreement", "crops", "hold_out", "force", "verbose")


class RewriteCommand(options.Command):
    """What belongs to --verify and --calibrate, and what a plan or a dry run leaves no use for."""

    owners: ClassVar[options.Rules] = (
        dict.fromkeys(OF_EITHER, ("verify", "calibrate"))
        | dict.fromkeys(OF_VERIFY, ("verify",))
        | dict.fromkeys(OF_CALIBRATE, ("calibrate",))
    )
    excludes: ClassVar[options.Rules] = {"plan": RECIPE, "dry_run": ("output", "verify", "calibrate")}


class RecipeOptions(TypedDict):
    """What is done, as `pipeline.rewrite` and `pipeline.plan` take it."""

    recipe: str
    filter: int | None
    pad: str | None
    placement: str | None
    first_conv: bool | None
    max_window: str | None
    only: list[str]
    skip: list[str]
    input_shapes: dict[str, tuple[int, ...]]


def rewrite(
    model: options.ModelFile,
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
    input: options.InputShapes = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Apply a plan that --json wrote, edited or not.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and write no model.")] = False,
    json_file: options.Json = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Skip the identity proof.")] = False,
    verify: Annotated[
        str | None,
        typer.Option(
            "--verify", metavar="DATA", help="Then verify before against after; a limit that fails writes nothing."
        ),
    ] = None,
    labels: options.Labels = None,
    preprocess: options.Preprocess = None,
    provider: options.Provider = "cpu",
    protocol: options.Protocol = "crop",
    max_shift: options.MaxShift = None,
    layers: options.Layers = False,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    report: options.Report = None,
    min_consistency: options.MinConsistency = None,
    max_diff: options.MaxDiff = None,
    calibrate: Annotated[
        str | None,
        typer.Option("--calibrate", metavar="DATA", help="Repair the weights behind the blurs on images, unlabelled."),
    ] = None,
    strength: Annotated[
        str | None, typer.Option(metavar="auto|0..1", help="How much blur; auto searches per site.")
    ] = None,
    budget: Annotated[str | None, typer.Option(metavar="1.15x|120MMAC", help="Largest cost of the result.")] = None,
    max_disagreement: Annotated[
        float | None, typer.Option(help="Largest share of other answers than the original's.")
    ] = None,
    crops: Annotated[int, typer.Option(help="Random crops of each sample.", min=1)] = 1,
    hold_out: Annotated[float, typer.Option(help="Share of samples to judge by.", show_default="1/3")] = 1 / 3,
    force: Annotated[bool, typer.Option("--force", help="Write a result that is not better.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="One row per layer.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print no table.")] = False,
) -> None:
    """Rewrite a model into its anti-aliased version and prove that every blur is in its place."""
    from aarewrite.model import model_file
    from aarewrite.rewriting import pipeline

    how: RecipeOptions = {
        "recipe": recipe or ("aligned" if calibrate is None else "calibrated"),
        "filter": filter, "pad": pad, "placement": placement, "first_conv": first_conv, "max_window": max_window,
        "only": only or [], "skip": skip or [], "input_shapes": options.parse_inputs(input),
    }  # fmt: skip
    loaded = model_file.load(model)
    target = None if dry_run else output or model.with_suffix(".aa.onnx")
    show = not quiet and STDOUT not in (json_file, str(report), str(target))
    if verbose and not show:
        raise UsageError("--verbose prints nothing here", "leave out -q, or give files in place of -")
    reads = {
        "--calibrate": calibrate, "--verify": verify, "--labels": labels, "--preprocess": preprocess,
        "--recipe": recipe, "--plan": plan,
    }  # fmt: skip
    writes = [("-o", target), ("--json", json_file), ("--report", report)]
    options.check_files([("the input itself", loaded)], reads, [*writes, *_data_files(loaded, target)])
    edited = None if plan is None else _read_plan(plan)
    if dry_run and edited is None:
        _only_plan(loaded, how, json_file, show)
        return
    calibrated: Calibrated | None = None
    if calibrate is None:
        result = pipeline.rewrite(loaded, **how, plan=edited, verify=not (no_verify or dry_run))
        changed, rewritten, found = result.changed, result.rewritten, result.report
    else:
        from aarewrite.calibration.run import calibrate as calibrate_model

        calibrated = calibrate_model(
            loaded, calibrate, **how, plan=edited, verify=not no_verify, strength=strength, budget=budget,
            max_disagreement=max_disagreement, crops=crops, limit=limit, seed=seed, hold_out=hold_out, labels=labels,
            preprocess=preprocess, progress=True,
        )  # fmt: skip
        result, changed, found = calibrated.rewritten, True, calibrated.report
        rewritten = model_file.load(calibrated.model)
    if show:
        _print_done(result, calibrated, done=not dry_run, verbose=verbose)
    if calibrated and calibrated.failures and not force:
        raise CheckFailed(calibrated.failures[0], "nothing was written; --force writes it all the same")
    measured = None
    if verify is not None:
        from aarewrite.show.plan_table import plan_rows
        from aarewrite.show.verification_table import print_report
        from aarewrite.verification import before_after

        measured = before_after(
            loaded.self_contained(), rewritten.self_contained(), verify, names=(_label(target), model.name),
            labels=labels, preprocess=preprocess, provider=provider, protocols=verify_command.protocols(protocol),
            max_shift=max_shift, layers=layers, limit=limit, seed=seed, min_consistency=min_consistency,
            max_diff=max_diff, plan=plan_rows(result.plan), progress=True,
            trials=found["calibration"]["trials"] if calibrated else (),
        )  # fmt: skip
        found["verification"] = measured.to_dict()
        if show:
            print_report(measured)
        measured.raise_for_failures()
    with verify_command.write_page(measured, report), text_output(json_file, _json(found)):
        if target is not None:
            (model_file.save if changed else model_file.copy_unchanged)(rewritten if changed else loaded, target)
    if show and target is not None:
        typer.echo(f"wrote {target}" + ("" if changed else ", equal to the input: nothing to rewrite"))
        if result.plan.rewrites and calibrated is None:
            typer.echo(UNTRAINED, err=True)


def _data_files(model: Model, target: Path | None) -> list[tuple[str, Path]]:
    """The data files that are copied beside the model's target, as further outputs."""
    from aarewrite.model.model_file import data_files_to_bring, external_files

    if target is None:
        return []
    if str(target) == STDOUT and external_files(model.proto):
        raise UsageError("-o -: the model keeps weights in files of their own", "give a file")
    brought = data_files_to_bring(model, target).values()
    return [("-o", path) for path in brought if path.parent.is_dir()]


def _read_plan(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path}: not JSON ({error})", "make a plan with --dry-run --json FILE") from None
    if not isinstance(table, dict):
        raise UsageError(f"{path}: not a plan", "make one with --dry-run --json FILE")
    return table


def _only_plan(model: Model, how: RecipeOptions, json_file: str | None, show: bool) -> None:
    from aarewrite.rewriting import pipeline
    from aarewrite.show.plan_table import print_plan

    plan = pipeline.plan(model, **how)
    if show:
        print_plan(plan, done=False)
    with text_output(json_file, _json(plan.to_dict())):
        pass


def _print_done(result: Result, calibrated: Calibrated | None, done: bool, verbose: bool) -> None:
    from aarewrite.show.calibration_table import print_calibrated
    from aarewrite.show.plan_table import print_outcome, print_plan

    print_plan(result.plan, done)
    print_outcome(result)
    if calibrated is not None:
        print_calibrated(calibrated, verbose)


def _label(target: Path | None) -> str:
    return "rewritten" if target is None or str(target) == STDOUT else target.name


def _json(values: object) -> str:
    return json.dumps(values, indent=2) + "\n"
