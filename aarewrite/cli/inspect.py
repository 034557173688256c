"""The command `aarewrite inspect`, and what `rewrite --dry-run` shares with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

from typer import Option

from aarewrite.cli import options
from aarewrite.outputs import STDOUT, text_output

if TYPE_CHECKING:
    from aarewrite.planning import Plan


def inspect(
    model: options.ModelFile,
    json_file: options.Json = None,
    input: options.InputShapes = None,
    target: Annotated[
        str | None,
        Option(metavar="RUNTIME", help="List what it does not take of the model, too: portable, ort-cpu, ..."),
    ] = None,
    isolate: options.Isolate = False,
    quiet: options.Quiet = False,
) -> None:
    """List every site and every other aliasing source, with what `aligned` would do or the reason why not."""
    from aarewrite.model import model_file
    from aarewrite.model.shapes import with_input_shapes
    from aarewrite.rewriting import pipeline
    from aarewrite.targets.support import unsupported

    loaded = model_file.load(model)
    options.check_files([("the input itself", loaded)], {}, [("--json", json_file)])
    shapes = options.parse_inputs(input)
    lacking = None if target is None else unsupported(with_input_shapes(loaded, shapes), target)
    tell_plan(pipeline.plan(loaded, input_shapes=shapes), json_file, not quiet and json_file != STDOUT, lacking)


def tell_plan(plan: Plan, json_file: str | None, show: bool, lacking: list[str] | None = None) -> None:
    """Print a plan that is not carried out, and write it as JSON; and what a runtime lacks, where one is asked for."""
    from aarewrite.show.plan_table import print_lacking, print_plan

    if show:
        print_plan(plan, done=False)
        if lacking is not None:
            print_lacking(lacking)
    table = plan.to_dict() if lacking is None else plan.to_dict() | {"unsupported": lacking}
    with text_output(json_file, json.dumps(table, indent=2) + "\n"):
        pass
