"""What `aarewrite MODEL.onnx --steady DATA` does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from aarewrite.errors import CheckFailed
from aarewrite.outputs import text_output
from aarewrite.texts import printable

if TYPE_CHECKING:
    from aarewrite.model.model_file import Model


def write_steadiest(
    model: Model,
    data: str,
    target: Path,
    json_file: str | None,
    resume: Path | None,
    *,
    budget: str | None,
    minutes: float | None,
    labels: str | None,
    preprocess: str | None,
    limit: int | None,
    seed: int,
    input_shapes: Mapping[str, Sequence[int]] | None,
    force: bool,
    show: bool,
    external_data: bool,
) -> None:
    """Choose by measurement, print the frontier, write the choice; what was measured lies in `resume` meanwhile."""
    from aarewrite.calibration.steady import MINUTES, steady
    from aarewrite.model import model_file

    try:
        found = steady(
            model, data, budget=budget, minutes=minutes or MINUTES, labels=labels, preprocess=preprocess, limit=limit,
            seed=seed, input_shapes=input_shapes, resume=resume, progress=True,
        )  # fmt: skip
    except KeyboardInterrupt:
        if resume is not None and resume.exists():
            kept = printable(str(resume))
            typer.echo(f"note: {kept} holds what was measured; the same command goes on from there", err=True)
        raise
    if show:
        from aarewrite.show.frontier_table import print_steady

        print_steady(found)
    with text_output(json_file, json.dumps(found.to_dict(), indent=2) + "\n"):
        if found.model is None or (found.failures and not force):
            hint = "give more images, a larger --budget or --minutes"
            more = "" if found.model is None else ", or --force, which writes it all the same"
            raise CheckFailed(found.failures[0], f"nothing was written: {hint}{more}")
        model_file.save(model_file.load(found.model), target, outside=external_data)
    if resume is not None:
        resume.unlink(missing_ok=True)
    if show:
        typer.echo(printable(f"wrote {target}"))
