"""The command `aarewrite verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Context, Option

from aarewrite.cli import options
from aarewrite.cli.stream import STREAM, verify_stream
from aarewrite.errors import CheckFailed, UsageError
from aarewrite.outputs import STDOUT, text_output

if TYPE_CHECKING:
    from aarewrite.verification.job import Asked

MOST = 10_000  # of what is made several times a sample
OWNERS_OF_VERIFY: options.Rules = {"heat_map": ("layers",)}
EXCLUDES: options.Rules = {"shard": ("report",)}


def verify(
    ctx: Context,
    model: Annotated[Path, Argument(metavar="MODEL.onnx", help="The model to measure.")],
    against: Annotated[str | None, Option(help="Another model, or an .npz of saved outputs, to compare with.")] = None,
    data: Annotated[
        str | None,
        Option(
            help="Images (folder, pattern, list, tar, Parquet, address), .npy/.npz of samples, or synthetic[:N]. "
            "[default: synthetic, or only --pairs]"
        ),
    ] = None,
    own_pairs: Annotated[
        Path | None,
        Option(
            "--pairs",
            metavar="FILE.csv",
            help="Pairs of images of your own: columns file_a, file_b, and optionally class_index and cluster.",
        ),
    ] = None,
    labels: options.Labels = None,
    preprocess: options.Preprocess = None,
    provider: options.Provider = "cpu",
    protocol: options.Protocol = None,
    severity: Annotated[float, Option(help="Multiplies what the camera does, 0 to 4; 0 is crop.")] = 1.0,
    conditions: Annotated[
        str | None, Option(help="The camera's: any of shift,noise,jpeg,scale,rotation,resize,mixed. [default: all]")
    ] = None,
    camera_pairs: Annotated[
        int, Option(help="Pairs of the camera's views near and far, an image and condition.", max=MOST)
    ] = 1,
    max_shift: options.MaxShift = None,
    worst_radius: Annotated[
        int, Option(help="Try every shift up to R px, (2R+1)^2 of them, for the worst case.", metavar="R")
    ] = 1,
    threshold: Annotated[
        float | None, Option(help="Confidence (0..1) from which on a class counts as decided.")
    ] = None,
    corruptions: Annotated[
        str | None, Option(help="Any of the 15 kinds: fog,jpeg,shot-noise,... [default: all]")
    ] = None,
    layers: options.Layers = False,
    heat_map: Annotated[str | None, Option(help="Layer whose heat map over shifts is drawn.")] = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    report: options.Report = None,
    json: options.Json = None,
    min_consistency: options.MinConsistency = None,
    min_near: Annotated[float | None, Option(help="Exit 1 below this near agreement (0..1) under the camera.")] = None,
    max_diff: options.MaxDiff = None,
    quiet: options.Quiet = False,
    task: Annotated[
        str | None,
        Option(help="classify, dense, depth, detect, embed, image, metric, segment or vector; inferred by default."),
    ] = None,
    decode: options.Decode = None,
    margin: Annotated[float, Option(help="Detections count this far inside what two crops share, px.", min=0)] = 0,
    size: Annotated[str | None, Option(help="Input size where the model leaves it open: 224 or 240x320.")] = None,
    batch: Annotated[int | None, Option(help="Views a run.", min=1)] = None,
    batch_offsets: Annotated[int, Option(help="Images that share one pair of offsets; 256 is the paper's code.")] = 1,
    strict: Annotated[
        bool, Option("--strict", help="Stop at a sample that cannot be read as it is, instead of listing it.")
    ] = False,
    shard: Annotated[
        str | None, Option(metavar="I/N", help="Measure one of N shares; --json is then for aarewrite merge.")
    ] = None,
    ray: Annotated[
        str | None,
        Option(
            metavar="[ADDRESS]",
            help="Measure on the workers of a Ray cluster: its address, auto, or none for this machine.",
        ),
    ] = None,
    pairs: Annotated[
        int, Option("--crop-pairs", help="Pairs of views an image for the consistency; the paper has 1.", max=MOST)
    ] = 1,
    isolate: options.Isolate = False,
) -> None:
    """Measure how shift-invariant a model is, and how its numbers compare with another's."""
    from aarewrite.model.model_file import load, recorded
    from aarewrite.verification.job import Asked
    from aarewrite.verification.run import run_job as measure

    options.refuse_idle(ctx, OWNERS_OF_VERIFY, EXCLUDES)
    kinds = options.parse_names(corruptions and corruptions.replace("-", " ").replace("_", " "))
    sizes = None if size is None else options.parse_sizes(size)
    if sizes == ():
        raise UsageError(f"--size {size}: not a size", "write 224 or 240x320")
    if shard is not None and json is None:
        raise UsageError("--shard: what it measures goes to --json", "add --json part.json")
    files = [file for file in (json, report) if file is not None and str(file) != STDOUT]
    resume = Path(f"{files[0]}.resume.jsonl") if files else None
    models = [("the input itself", load(model))]  # says what is wrong with it, before anything runs it
    if against is not None and Path(against).suffix != ".npz":
        models.append(("the model of --against", load(against)))
    reads: dict[str, str | Path | None] = {
        "--data": data, "--pairs": own_pairs, "--against": against, "--labels": labels, "--preprocess": preprocess,
        "--decode": decode,
    }  # fmt: skip
    writes = [("--json", json), ("--report", report), ("what was measured", resume)]
    options.check_files(models, reads, writes)
    if recorded(models[0][1], STREAM):
        options.refuse_others(
            ctx, ("model", "against", "data", "seed", "json", "max_diff", "quiet"), "for a streaming model"
        )
        verify_stream([loaded for _, loaded in models], data, seed, json, max_diff, quiet)
        return
    del models
    asked = Asked(
        model, data, against=against, labels=labels, preprocess=preprocess, provider=provider,
        protocols=options.parse_names(protocol), severity=severity, conditions=options.parse_names(conditions),
        camera_pairs=camera_pairs, own_pairs=own_pairs, max_shift=max_shift, worst_radius=worst_radius,
        threshold=threshold, corruptions=kinds, layers=layers, heat_map=heat_map,
        limit=limit, seed=seed, task=task, decode=decode, margin=margin, size=sizes, batch=batch,
        batch_offsets=batch_offsets, pairs=pairs, min_consistency=min_consistency, min_near=min_near,
        max_diff=max_diff, strict=strict, resume=resume, ray=ray, progress=not quiet,
    )  # fmt: skip
    try:
        if shard is None:
            options.deliver(measure(asked), json, report, quiet)
        else:
            _write_part(asked, shard, str(json), quiet)
    except BaseException as error:
        if resume and resume.exists() and not isinstance(error, CheckFailed):
            typer.echo(f"note: {resume} holds what was measured; the same command goes on from there", err=True)
            resume = None
        raise
    finally:
        if resume:
            resume.unlink(missing_ok=True)


def _write_part(asked: Asked, shard: str, file: str, quiet: bool) -> None:
    from aarewrite.verification.parts import measure_part

    part = measure_part(asked, shard)
    with text_output(file, part.to_json()):
        pass
    if file != STDOUT and not quiet:
        typer.echo(f"wrote {file}: {len(part.found)} samples; add all {part.shards} up with aarewrite merge")
