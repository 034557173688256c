"""The command `aarewrite rewrite`, which is the default."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Context, Option

from aarewrite.cli import options
from aarewrite.cli.inspect import tell_plan
from aarewrite.cli.steady import write_steadiest
from aarewrite.errors import CheckFailed, UsageError
from aarewrite.outputs import STDOUT, text_output
from aarewrite.texts import number, printable, read_json

if TYPE_CHECKING:
    from aarewrite.calibration.run import Calibrated
    from aarewrite.rewriting.pipeline import Options

UNTRAINED = (
    "note: weights that were never trained with blur lose accuracy when blurred; "
    "repair them with --calibrate IMAGES, and measure before you ship (README: Accuracy)"
)
RECIPE = (
    "recipe", "filter", "pad", "placement", "first_conv", "max_window", "views", "views_of", "anchor", "anchor_origin",
    "anchor_phases", "target", "only", "skip", "input",
)  # fmt: skip
OF_EITHER = ("labels", "preprocess", "limit", "seed")
OF_VERIFY = ("provider", "protocol", "max_shift", "layers", "decode", "report", "min_consistency", "max_diff")
OF_CALIBRATE = ("strength", "max_disagreement", "crops", "hold_out", "verbose")
OWNERS: options.Rules = (
    {"views_of": ("views",), "anchor_origin": ("anchor",), "anchor_phases": ("anchor",)}
    | dict.fromkeys(OF_EITHER, ("verify", "calibrate", "steady"))
    | dict.fromkeys(("budget", "force"), ("calibrate", "steady"))
    | {"minutes": ("steady", "strength")}
    | dict.fromkeys(OF_VERIFY, ("verify",))
    | dict.fromkeys(OF_CALIBRATE, ("calibrate",))
)
EXCLUDES: options.Rules = {
    "plan": RECIPE,
    "dry_run": ("output", "external_data", "verify", "calibrate"),
    "steady": (*(key for key in RECIPE if key != "input"), "plan", "dry_run", "no_verify", "verify", "calibrate"),
}


def rewrite(
    ctx: Context,
    model: options.ModelFile,
    output: Annotated[
        Path | None, Option("-o", "--output", metavar="OUT.onnx", help="Default: MODEL.aa.onnx beside it.")
    ] = None,
    recipe: Annotated[
        str | None,
        Option(
            metavar="NAME|FILE.toml", help="aligned, calibrated, zhang2019, timm, ... (docs/recipes.md), or a file."
        ),
    ] = None,
    filter: Annotated[str | None, Option(metavar="N|NAME", help="Taps of the blur, 1..7, or a filter's name.")] = None,
    pad: Annotated[str | None, Option(metavar="reflect|edge|zero", help="Padding of the blur.")] = None,
    placement: Annotated[
        str | None, Option(metavar="after|before", help="Blur behind or in front of strided convs.")
    ] = None,
    first_conv: Annotated[bool | None, Option(help="Blur the first conv too.")] = None,
    max_window: Annotated[str | None, Option(metavar="keep|N", help="Largest MaxPool window of the result.")] = None,
    views: Annotated[
        str | None, Option(metavar="2|4|'0,0 1,1'", help="Average the outputs of copies of the image moved by pixels.")
    ] = None,
    views_of: Annotated[str | None, Option(metavar="logits|probabilities", help="What is averaged.")] = None,
    anchor: Annotated[
        str | None, Option(metavar="wide|in-place", help="Choose the grid's phase by the image's content.")
    ] = None,
    anchor_origin: Annotated[bool, Option("--anchor-origin", help="Add the chosen origin as an output.")] = False,
    anchor_phases: Annotated[
        int | None, Option(help="Choose among so many origins along an axis, or more.", show_default="total stride")
    ] = None,
    target: Annotated[
        str | None,
        Option(metavar="RUNTIME", help="The form of blurs: portable, ort-cpu, ort-cuda, tensorrt, openvino, coreml."),
    ] = None,
    only: Annotated[list[str] | None, Option(metavar="GLOB", help="Rewrite only these nodes.")] = None,
    skip: Annotated[list[str] | None, Option(metavar="GLOB", help="Leave these nodes.")] = None,
    input: options.InputShapes = None,
    plan: Annotated[Path | None, Option(metavar="FILE", help="Apply a plan that --json wrote, edited or not.")] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the plan and write no model.")] = False,
    json_file: options.Json = None,
    external_data: Annotated[
        bool, Option("--external-data", help="Keep large weights in a file of their own beside OUT.onnx.")
    ] = False,
    no_verify: Annotated[bool, Option("--no-verify", help="Skip the identity proof.")] = False,
    verify: Annotated[
        str | None, Option(metavar="DATA", help="Then verify before against after; a limit that fails writes nothing.")
    ] = None,
    labels: options.Labels = None,
    preprocess: options.Preprocess = None,
    provider: options.Provider = "cpu",
    protocol: options.Protocol = None,
    max_shift: options.MaxShift = None,
    layers: options.Layers = False,
    decode: options.Decode = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    report: options.Report = None,
    min_consistency: options.MinConsistency = None,
    max_diff: options.MaxDiff = None,
    calibrate: Annotated[
        str | None, Option(metavar="DATA", help="Repair the weights behind the blurs on images, unlabelled.")
    ] = None,
    steady: Annotated[
        str | None, Option(metavar="DATA", help="Choose the steadiest version within --budget by measuring on images.")
    ] = None,
    minutes: Annotated[
        float | None, Option(help="Time to measure in.", min=0.01, show_default="20; search: no limit")
    ] = None,
    strength: Annotated[str | None, Option(metavar="auto|0..1", help="How much blur; auto searches per site.")] = None,
    budget: Annotated[str | None, Option(metavar="1.15x|120MMAC", help="Largest cost of the result.")] = None,
    max_disagreement: Annotated[
        float | None, Option(help="Largest share of other answers than the original's.")
    ] = None,
    crops: Annotated[int, Option(help="Random crops of each sample.", min=1, max=10_000)] = 1,
    hold_out: Annotated[float, Option(help="Share of samples to judge by.", show_default="1/3")] = 1 / 3,
    force: Annotated[bool, Option("--force", help="Write a result that is not better.")] = False,
    verbose: Annotated[bool, Option("--verbose", help="One row per layer.")] = False,
    quiet: options.Quiet = False,
    isolate: options.Isolate = False,
) -> None:
    """Rewrite a model into its anti-aliased version and prove that every blur is in its place."""
    from aarewrite.model import model_file
    from aarewrite.rewriting import pipeline

    options.refuse_idle(ctx, OWNERS, EXCLUDES)
    recipe_name = recipe or ("aligned" if calibrate is None else "calibrated")
    taps = number(filter or "")
    how: Options = {
        "filter": filter if taps is None else taps, "pad": pad, "placement": placement,
        "first_conv": first_conv, "max_window": max_window, "views": views, "views_of": views_of,
        "target": target, "anchor": anchor, "anchor_origin": anchor_origin or None, "anchor_phases": anchor_phases,
        "only": only or [], "skip": skip or [],
        "input_shapes": options.parse_inputs(input),
    }  # fmt: skip
    loaded = model_file.load(model)
    destination = None if dry_run else output or model.with_suffix(".aa.onnx")
    show = not quiet and STDOUT not in (json_file, str(report), str(destination))
    if verbose and not show:
        raise UsageError("--verbose prints nothing here", "leave out -q, or give files in place of -")
    if calibrate is not None and verify is not None and verify.partition(":")[0] == "synthetic":
        raise UsageError("--verify synthetic: noise is no judge of a calibrated model", "give the data it is meant for")
    reads = {
        "--calibrate": calibrate, "--steady": steady, "--verify": verify, "--labels": labels,
        "--preprocess": preprocess, "--recipe": recipe, "--plan": plan,
    }  # fmt: skip
    writes = [("-o", destination), ("--json", json_file), ("--report", report)]
    to_file = destination if steady is not None and str(destination) != STDOUT else None
    resume = to_file.with_suffix(".steady.json") if to_file is not None else None
    writes.append(("what --steady measured", resume))
    options.check_files([("the input itself", loaded)], reads, [*writes, *options.data_files(loaded, destination)])
    if external_data and str(destination) == STDOUT:
        raise UsageError("--external-data with -o -: there is no place beside stdout", "give a file")
    if steady is not None and destination is not None:
        write_steadiest(
            loaded, steady, destination, json_file, resume, budget=budget, minutes=minutes, labels=labels,
            preprocess=preprocess, limit=limit, seed=seed, input_shapes=how["input_shapes"], force=force, show=show,
            external_data=external_data,
        )  # fmt: skip
        return
    edited = None if plan is None else _read_plan(plan)
    if dry_run and edited is None:
        tell_plan(pipeline.plan(loaded, recipe_name, **how), json_file, show)
        return
    calibrated: Calibrated | None = None
    if calibrate is None:
        result = pipeline.rewrite(loaded, recipe_name, **how, plan=edited, verify=not (no_verify or dry_run))
        changed, rewritten, found = result.changed, result.rewritten, result.report
    else:
        from aarewrite.calibration.run import calibrate as calibrate_model

        calibrated = calibrate_model(
            loaded, calibrate, recipe=recipe_name, **how, plan=edited, verify=not no_verify, strength=strength,
            minutes=minutes, budget=budget, max_disagreement=max_disagreement, crops=crops, limit=limit, seed=seed,
            hold_out=hold_out, labels=labels, preprocess=preprocess, progress=not quiet,
        )  # fmt: skip
        result, changed, found = calibrated.rewritten, True, calibrated.report
        rewritten = model_file.load(calibrated.model)
    if show:
        from aarewrite.show.calibration_table import print_calibrated
        from aarewrite.show.plan_table import print_outcome, print_plan

        print_plan(result.plan, done=not dry_run)
        print_outcome(result)
        if calibrated:
            print_calibrated(calibrated, verbose)
    if calibrated and calibrated.failures and not force:
        raise CheckFailed("; ".join(calibrated.failures), "nothing was written; --force writes it all the same")
    page = ""
    if verify is not None:
        from aarewrite.show.plan_table import plan_rows
        from aarewrite.show.verification_table import print_report
        from aarewrite.verification import before_after

        name = "rewritten" if destination is None or str(destination) == STDOUT else destination.name
        measured = before_after(
            loaded.self_contained(), rewritten.self_contained(), verify, names=(name, model.name), labels=labels,
            preprocess=preprocess, provider=provider, protocols=options.parse_names(protocol), max_shift=max_shift,
            layers=layers, decode=decode, limit=limit, seed=seed, min_consistency=min_consistency, max_diff=max_diff,
            plan=plan_rows(result.plan), trials=found["calibration"]["trials"] if calibrated else (),
            progress=not quiet,
        )  # fmt: skip
        found["verification"] = measured.to_dict()
        if show:
            print_report(measured)
        measured.raise_for_failures()
        page = options.html_page(measured, report)
    with text_output(report, page), text_output(json_file, json.dumps(found, indent=2) + "\n"):
        if destination is not None:
            model_file.save(rewritten if changed else loaded, destination, not changed, external_data)
    if show and destination is not None:
        typer.echo(printable(f"wrote {destination}") + ("" if changed else ", equal to the input: nothing to rewrite"))
        if result.plan.rewrites and calibrated is None:
            typer.echo(UNTRAINED, err=True)


def _read_plan(path: Path) -> Mapping[str, object]:
    table = read_json(path, "make a plan with --dry-run --json FILE")
    if not isinstance(table, dict):
        raise UsageError(f"{path}: not a plan", "make one with --dry-run --json FILE")
    return table
