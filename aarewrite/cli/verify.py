"""The command `aarewrite verify`: parse, call, print, write, exit status; nothing else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from aarewrite.errors import AarewriteError, UsageError

if TYPE_CHECKING:
    from aarewrite.verification.result import VerifyReport


def verify_command(
    model: Annotated[str, typer.Argument(help="The model to measure.", metavar="MODEL.onnx")],
    against: Annotated[
        str | None, typer.Option(help="Another model, or an .npz of saved outputs, to compare with.")
    ] = None,
    data: Annotated[str, typer.Option(help="Folder of images, .npy/.npz of samples, or synthetic[:N].")] = "synthetic",
    labels: Annotated[str | None, typer.Option(help="CSV with the columns file and class_index (and name).")] = None,
    preprocess: Annotated[
        str | None, typer.Option(help="imagenet, caffe, raw255, unit, pm1, none, or a .toml file.")
    ] = None,
    provider: Annotated[str, typer.Option(help="cpu, cuda or all.")] = "cpu",
    protocol: Annotated[str, typer.Option(help="Any of crop,circular,fractional.")] = "crop",
    max_shift: Annotated[int | None, typer.Option(help="Largest shift of the agreement over distance, px.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Measure every downsampling layer.")] = False,
    heat_map: Annotated[str | None, typer.Option(help="Layer whose heat map over shifts is drawn.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use only the first N samples.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.", min=0)] = 0,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.")] = None,
    json: Annotated[str | None, typer.Option("--json", help="Write everything as JSON; - is stdout.")] = None,
    min_consistency: Annotated[float | None, typer.Option(help="Exit 1 below this consistency (0..1).")] = None,
    max_diff: Annotated[float | None, typer.Option(help="Exit 1 above this absolute difference.")] = None,
    task: Annotated[str | None, typer.Option(help="classify, dense, metric or vector; inferred by default.")] = None,
    size: Annotated[str | None, typer.Option(help="Input size where the model leaves it open: 224 or 240x320.")] = None,
    batch: Annotated[int | None, typer.Option(help="Views a run.", min=1)] = None,
    batch_offsets: Annotated[
        int, typer.Option(help="Images that share one pair of offsets; 256 is the paper's code.")
    ] = 1,
    pairs: Annotated[int, typer.Option(help="Pairs of views an image for the consistency; the paper has 1.")] = 1,
) -> None:
    """Measure how shift-invariant a model is, and how its numbers compare with another's."""
    try:
        from aarewrite.verification.run import verify

        result = verify(
            model,
            data,
            against=against,
            labels=labels,
            preprocess=preprocess,
            provider=provider,
            protocols=tuple(name.strip() for name in protocol.split(",") if name.strip()),
            max_shift=max_shift,
            layers=layers,
            heat_map=heat_map,
            limit=limit,
            seed=seed,
            task=task,
            size=_size(size),
            batch=batch,
            batch_offsets=batch_offsets,
            pairs=pairs,
            min_consistency=min_consistency,
            max_diff=max_diff,
            progress=True,
        )
        show(result, report=report, json=json)
        result.raise_for_failures()
    except AarewriteError as error:
        _stop(str(error), error.exit_status)
    except KeyboardInterrupt:
        _stop("interrupted, nothing was written", 130)


def show(result: VerifyReport, *, report: Path | None = None, json: str | None = None, quiet: bool = False) -> None:
    """Print a report on stdout and write the files asked for.

    Args:
        result: What to show.
        report: HTML page to write.
        json: JSON file to write; `-` prints it on stdout in place of the table.
        quiet: Print no table.

    Raises:
        UsageError: A file cannot be written.
    """
    if report is not None:
        from aarewrite.show.page import render_html

        write_text(report, render_html(result))
    if json == "-":
        sys.stdout.write(result.to_json())
        return
    if json is not None:
        write_text(Path(json), result.to_json())
    if not quiet:
        from rich.console import Console

        from aarewrite.show.verification_table import print_report

        # A pipe or file has no width: do not cut its lines at 80 columns.
        console = Console() if sys.stdout.isatty() else Console(width=240)
        print_report(result, console)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        UsageError: The folder does not exist or is not writable.
    """
    from aarewrite.model.model_file import atomic_file

    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _size(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts: list[Any] = text.lower().split("x")
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"--size {text}: not a size", "write 224 or 240x320")
    return tuple(int(part) for part in parts)


def _stop(message: str, status: int) -> NoReturn:
    typer.echo(f"aarewrite: {message}", err=True)
    raise typer.Exit(status)
