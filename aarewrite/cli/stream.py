"""The command `aarewrite stream`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from aarewrite.cli import options
from aarewrite.errors import UsageError
from aarewrite.outputs import STDOUT, text_output

if TYPE_CHECKING:
    from aarewrite.model.model_file import Model

STREAM = "aarewrite.stream"  # the metadata of a streaming model


def stream(
    model: options.ModelFile,
    step: Annotated[int, Option(help="By how many samples the window moves on.", min=1)],
    axis: Annotated[
        str | None, Option(metavar="NAME|INDEX", help="The axis the stream runs along. [default: the longest of space]")
    ] = None,
    input: options.InputShapes = None,
    output: Annotated[
        Path | None, Option("-o", "--output", metavar="OUT.onnx", help="Default: MODEL.stream.onnx beside it.")
    ] = None,
    form: Annotated[
        str,
        Option(
            metavar="exact|signal",
            help="exact: every window equals the original's. signal: the signal's samples in place of padding.",
        ),
    ] = "exact",
    pack_states: Annotated[bool, Option("--pack-states", help="One state for each element type.")] = False,
    verify: Annotated[
        Path | None, Option(metavar="DATA.npz|WAV", help="Compare on a signal of your own, window by window.")
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the table and write no model.")] = False,
    json_file: options.Json = None,
    quiet: options.Quiet = False,
    isolate: options.Isolate = False,
) -> None:
    """Make a windowed model one that is fed new samples alone and keeps what it already computed, with proof."""
    from aarewrite.model import model_file
    from aarewrite.show.stream_table import print_stream_plan, print_streamed
    from aarewrite.streaming import run

    loaded = model_file.load(model)
    target = None if dry_run else output or model.with_suffix(".stream.onnx")
    writes = [("-o", target), ("--json", json_file), *options.data_files(loaded, target)]
    options.check_files([("the input itself", loaded)], {"--verify": verify}, writes)
    shapes = options.parse_inputs(input)
    show = not quiet and STDOUT not in (json_file, str(target))
    if target is None:
        planned = run.plan_stream(loaded, step, axis=axis, input_shapes=shapes, form=form)
        if show:
            print_stream_plan(planned)
        with text_output(json_file, json.dumps(planned.to_dict(), indent=2) + "\n"):
            pass
        planned.check()
        return
    found = run.stream(loaded, step, axis=axis, input_shapes=shapes, form=form, pack_states=pack_states, verify=verify)
    if show:
        print_stream_plan(found.plan)
        print_streamed(found)
    with text_output(json_file, json.dumps(found.report, indent=2) + "\n"):
        model_file.save(found.streaming, target)
    if show:
        typer.echo(f"wrote {target}")


def verify_stream(
    models: Sequence[Model], data: str | None, seed: int, json_file: str | None, max_diff: float | None, quiet: bool
) -> None:
    """What `aarewrite verify` does with a streaming model: compare it with its original over a long signal."""
    from aarewrite.show.stream_table import print_compared
    from aarewrite.streaming.compare import compare

    if len(models) < 2:
        raise UsageError(
            "a streaming model is verified beside the model it was made from", "add --against ORIGINAL.onnx"
        )
    found = compare(models[0], models[1], data, seed)
    if not quiet and json_file != STDOUT:
        print_compared(found)
    with text_output(json_file, json.dumps(found.to_dict(), indent=2) + "\n"):
        pass
    found.check(max_diff)
