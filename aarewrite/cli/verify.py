"""The command `aarewrite verify`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from aarewrite.cli import options
from aarewrite.errors import UsageError
from aarewrite.outputs import STDOUT, text_output

if TYPE_CHECKING:
    from aarewrite.verification.result import VerifyReport


class VerifyCommand(options.Command):
    """What means nothing alone."""

    owners: ClassVar[options.Rules] = {"heat_map": ("layers",)}


def verify(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The model to measure.")],
    against: Annotated[
        str | None, typer.Option(help="Another model, or an .npz of saved outputs, to compare with.")
    ] = None,
    data: Annotated[str, typer.Option(help="Folder of images, .npy/.npz of samples, or synthetic[:N].")] = "synthetic",
    labels: options.Labels = None,
    preprocess: options.Preprocess = None,
    provider: options.Provider = "cpu",
    protocol: options.Protocol = "crop",
    max_shift: options.MaxShift = None,
    layers: options.Layers = False,
    heat_map: Annotated[str | None, typer.Option(help="Layer whose heat map over shifts is drawn.")] = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    report: options.Report = None,
    json: options.Json = None,
    min_consistency: options.MinConsistency = None,
    max_diff: options.MaxDiff = None,
    task: Annotated[str | None, typer.Option(help="classify, dense, metric or vector; inferred by default.")] = None,
    size: Annotated[str | None, typer.Option(help="Input size where the model leaves it open: 224 or 240x320.")] = None,
    batch: Annotated[int | None, typer.Option(help="Views a run.", min=1)] = None,
    batch_offsets: Annotated[
        int, typer.Option(help="Images that share one pair of offsets; 256 is the paper's code.")
    ] = 1,
    pairs: Annotated[int, typer.Option(help="Pairs of views an image for the consistency; the paper has 1.")] = 1,
) -> None:
    """Measure how shift-invariant a model is, and how its numbers compare with another's."""
    from aarewrite.model.model_file import load
    from aarewrite.show.verification_table import print_report
    from aarewrite.verification.run import verify as measure

    if size is not None and not options.parse_sizes(size):
        raise UsageError(f"--size {size}: not a size", "write 224 or 240x320")
    if report or json:
        models = [("the input itself", load(model))]
        if against is not None and Path(against).suffix != ".npz":
            models.append(("the model of --against", load(against)))
        reads = {"--data": data, "--against": against, "--labels": labels, "--preprocess": preprocess}
        options.check_files(models, reads, [("--json", json), ("--report", report)])
        del models
    found = measure(
        model, data, against=against, labels=labels, preprocess=preprocess, provider=provider,
        protocols=protocols(protocol), max_shift=max_shift, layers=layers, heat_map=heat_map, limit=limit, seed=seed,
        task=task, size=options.parse_sizes(size) if size else None, batch=batch, batch_offsets=batch_offsets,
        pairs=pairs, min_consistency=min_consistency, max_diff=max_diff, progress=True,
    )  # fmt: skip
    if STDOUT not in (json, str(report)):
        print_report(found)
    with write_page(found, report), text_output(json, found.to_json()):
        pass
    found.raise_for_failures()


def protocols(text: str) -> tuple[str, ...]:
    """The names in `crop,circular`."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def write_page(report: VerifyReport | None, path: Path | None) -> AbstractContextManager[None]:
    """Write the HTML page, if one was asked for, when the block ends well."""
    if path is None or report is None:
        return text_output(None, "")
    from aarewrite.show.page import render_html

    return text_output(path, render_html(report))
