"""What blurs cost in the form that they take by default: against the plain form, as exporters write it, and zero pads.

    python benchmarks/forms.py MODEL.onnx... [--threads 1 2] [--strength 0.5] [--rounds N]

Original, Pad and Conv, the portable form and zero pads (which change values at the border: the least that any blurring
convolution costs) run in interleaved rounds; the figures are medians of ratios of single rounds. Open sizes are 224
wide; models that nothing is to be done with, and those of other inputs, are named and left out.
"""

from __future__ import annotations

import argparse
from collections import Counter
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import onnx

import aarewrite
from aarewrite.errors import AarewriteError
from aarewrite.model.runtime import dtype_of, first_line, plain_session
from aarewrite.recipe import Recipe, load_recipe
from aarewrite.timing.rounds import STOP_SPINNING, Spread, interleaved, ratios

PLAIN = "openvino"  # the target whose blurs stay Pad and Conv
NOMINAL = 224


def main() -> None:
    """Time the forms of every model, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=41)
    asked = parser.parse_args()
    recipe = load_recipe("aligned").with_options(strength=asked.strength)
    print("| model | threads | Pad and Conv | portable | zero pads | portable of Pad and Conv | forms |")
    print("|---|---|---|---|---|---|---|")
    for path in asked.models:
        try:
            measure(path, recipe, asked.threads, asked.rounds)
        except AarewriteError as error:
            print(f"| {path.stem} | left out: {error.message} |")
        except Exception as error:  # ONNX Runtime raises a dozen private types
            print(f"| {path.stem} | left out: it does not run at nominal sizes ({first_line(error)}) |")


def measure(path: Path, recipe: Recipe, threads: list[int], rounds: int) -> None:
    """Print a model's rows."""
    portable = aarewrite.rewrite(str(path), recipe)
    if not portable.lowered:
        print(f"| {path.stem} | left out: no blur with a Pad |")
        return
    models = [
        onnx.load(path),
        aarewrite.rewrite(str(path), recipe, target=PLAIN, verify=False).model,
        portable.model,
        aarewrite.rewrite(str(path), recipe, pad="zero", verify=False).model,
    ]
    forms = Counter(one.form or "Pad and Conv" for one in portable.lowered)
    for count in threads:
        sessions = [plain_session(model, count, STOP_SPINNING) for model in models]
        rng = np.random.default_rng(0)
        feed = {}
        for port in sessions[0].get_inputs():
            dims = [
                d if isinstance(d, int) and d > 0 else (NOMINAL if axis else 1) for axis, d in enumerate(port.shape)
            ]
            feed[port.name] = (rng.random(dims) * 255).astype(dtype_of(port))
        before, *after = interleaved([partial(session.run, None, feed) for session in sessions], rounds)
        found = [median(ratios(seconds, before)) for seconds in after]
        form = Spread.of(ratios(after[1], after[0]))
        told = ", ".join(f"{number} {name}" for name, number in forms.items())
        low, high = form.interval
        print(
            f"| {path.stem} | {count} | {' | '.join(f'{ratio:.3f}' for ratio in found)} "
            f"| {form.median:.3f} [{low:.3f}, {high:.3f}] | {told} |"
        )


if __name__ == "__main__":
    main()
