"""The command `aarewrite bench`."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from aarewrite.cli import options
from aarewrite.outputs import STDOUT, text_output


def bench(
    model: Annotated[Path, Argument(metavar="MODEL.onnx", help="The model to time.")],
    against: Annotated[
        Path | None, Option(metavar="ORIGINAL.onnx", help="Time this one in the same rounds, and say what is added.")
    ] = None,
    threads: Annotated[int, Option(help="Of one operator.", min=0, show_default="as many as cores")] = 0,
    provider: Annotated[str, Option(help="cpu or cuda.")] = "cpu",
    rounds: Annotated[int | None, Option(help="How many.", min=2, show_default="what takes 10 s, 11 to 300")] = None,
    input: options.InputShapes = None,
    json: options.Json = None,
    quiet: options.Quiet = False,
    isolate: options.Isolate = False,
) -> None:
    """Time a model on random input, beside another in interleaved rounds, and say which operators take the time."""
    from aarewrite.model.model_file import load
    from aarewrite.show.bench_table import print_bench
    from aarewrite.timing.bench import bench as measure

    models = [("the input itself", load(model))]
    if against is not None:
        models.append(("the model of --against", load(against)))
    options.check_files(models, {}, [("--json", json)])
    first, *rest = (loaded for _, loaded in models)
    found = measure(
        first, *rest, threads=threads, provider=provider, rounds=rounds, input_shapes=options.parse_inputs(input)
    )
    if not quiet and json != STDOUT:
        print_bench(found)
    with text_output(json, json_text.dumps(found.to_dict(), indent=2) + "\n"):
        pass
