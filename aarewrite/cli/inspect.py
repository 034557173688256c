"""The command `aarewrite inspect`."""

from __future__ import annotations

import json

from aarewrite.cli.options import InputShapes, Json, ModelFile, check_files, parse_inputs
from aarewrite.outputs import STDOUT, text_output


def inspect(model: ModelFile, json_file: Json = None, input: InputShapes = None) -> None:
    """List every site and every other aliasing source, with what `aligned` would do or the reason why not."""
    from aarewrite.model import model_file
    from aarewrite.rewriting import pipeline
    from aarewrite.show.plan_table import print_plan

    loaded = model_file.load(model)
    check_files([("the input itself", loaded)], {}, [("--json", json_file)])
    plan = pipeline.plan(loaded, input_shapes=parse_inputs(input))
    if json_file != STDOUT:
        print_plan(plan, done=False)
    with text_output(json_file, json.dumps(plan.to_dict(), indent=2) + "\n"):
        pass
