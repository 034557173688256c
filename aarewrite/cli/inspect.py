"""The command `aarewrite inspect`, and what `rewrite --dry-run` shares with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aarewrite.cli import options
from aarewrite.outputs import STDOUT, text_output

if TYPE_CHECKING:
    from aarewrite.planning import Plan


def inspect(model: options.ModelFile, json_file: options.Json = None, input: options.InputShapes = None) -> None:
    """List every site and every other aliasing source, with what `aligned` would do or the reason why not."""
    from aarewrite.model import model_file
    from aarewrite.rewriting import pipeline

    loaded = model_file.load(model)
    options.check_files([("the input itself", loaded)], {}, [("--json", json_file)])
    plan = pipeline.plan(loaded, input_shapes=options.parse_inputs(input))
    tell_plan(plan, json_file, show=json_file != STDOUT)


def tell_plan(plan: Plan, json_file: str | None, show: bool) -> None:
    """Print a plan that is not carried out, and write it as JSON."""
    from aarewrite.show.plan_table import print_plan

    if show:
        print_plan(plan, done=False)
    with text_output(json_file, json.dumps(plan.to_dict(), indent=2) + "\n"):
        pass
