"""The command `aarewrite distill`."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

import typer
from typer import Context, Option

from aarewrite.cli import options
from aarewrite.errors import CheckFailed
from aarewrite.outputs import STDOUT, text_output
from aarewrite.texts import printable


def distill(
    ctx: Context,
    model: options.ModelFile,
    data: Annotated[str, Option(metavar="DATA", help="Folder of images, unlabelled; hundreds of them.")],
    output: Annotated[
        Path | None, Option("-o", "--output", metavar="OUT.onnx", help="Default: MODEL.distilled.onnx beside it.")
    ] = None,
    teacher: Annotated[
        Path | None,
        Option(metavar="ORIGINAL.onnx", help="Whose answers are averaged. [default: the model's own before]"),
    ] = None,
    minutes: Annotated[float, Option(help="Time to fit in.", min=0.01)] = 30.0,
    device: Annotated[str, Option(metavar="cpu|cuda", help="Where PyTorch computes.")] = "cpu",
    labels: options.Labels = None,
    preprocess: options.Preprocess = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    hold_out: Annotated[float, Option(help="Share of samples to judge by.")] = 0.2,
    force: Annotated[bool, Option("--force", help="Write a result that is not better.")] = False,
    json: options.Json = None,
    quiet: options.Quiet = False,
    isolate: options.Isolate = False,
) -> None:
    """Fit a classifier's weights to what it says on average over a camera's views: the graph stays, it costs nothing
    at run time. Needs PyTorch: pip install 'aarewrite[distill]'."""
    from aarewrite.calibration.distill import distill as distilled
    from aarewrite.model import model_file

    options.refuse_idle(ctx, {}, {})
    loaded = model_file.load(model)
    models = [("the input itself", loaded)]
    original = None if teacher is None else model_file.load(teacher)
    if original is not None:
        models.append(("the model of --teacher", original))
    target = output or model.with_suffix(".distilled.onnx")
    resume = target.with_suffix(".distill.pt") if str(target) != STDOUT else None
    reads = {"--data": data, "--labels": labels, "--preprocess": preprocess}
    writes = [("-o", target), ("--json", json), ("the state of the fit", resume), *options.data_files(loaded, target)]
    options.check_files(models, reads, writes)
    try:
        found = distilled(
            loaded, data, teacher=original, minutes=minutes, device=device, labels=labels, preprocess=preprocess,
            limit=limit, seed=seed, hold_out=hold_out, force=force, resume=resume, progress=not quiet,
        )  # fmt: skip
    except KeyboardInterrupt:
        if resume is not None and resume.exists():
            kept = printable(str(resume))
            typer.echo(f"note: {kept} holds how far it was; the same command goes on from there", err=True)
        raise
    show = not quiet and STDOUT not in (json, str(target))
    if show:
        from aarewrite.show.calibration_table import print_distilled

        print_distilled(found)
    with text_output(json, json_text.dumps(found.to_dict(), indent=2) + "\n"):
        if found.failures and not force:
            hint = "nothing was written: give more images or --minutes, or --force, which writes it all the same"
            raise CheckFailed("; ".join(found.failures), hint)
        model_file.save(model_file.load(found.model), target)
    if resume is not None:
        resume.unlink(missing_ok=True)
    if show:
        typer.echo(printable(f"wrote {target}"))
