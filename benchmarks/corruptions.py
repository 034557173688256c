"""Does blur help against more than shifts? Repaired half blur within 1.05x of the work, and corruptions.

    AAREWRITE_SHARED=... python benchmarks/corruptions.py [squeezenet] [mobilenet_v2] [resnet18] [--judge 100]

Sites are blurred at half strength, the dearest ones left as they are until the multiply-accumulates are within 1.05x;
weights are repaired on some photographs and judged on others. Prints a row a model for docs/verification.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import onnx

import aarewrite
from aarewrite.recipe import Recipe, load_recipe
from aarewrite.verification import VerifyReport, before_after

SHARED = Path(os.environ.get("AAREWRITE_SHARED", "../shared"))
IMAGES = SHARED / "images" / "imagenet_sample"
MODELS = {
    "squeezenet": ("squeezenet1_1_fp32.onnx", "caffe"),
    "mobilenet_v2": ("mobilenet_v2_tv_fp32.onnx", "imagenet"),
    "resnet18": ("resnet18_ktb_small_ts_op13.onnx", "imagenet"),
}
BUDGET = 1.05


def lists(folder: Path, fit: int, judge: int) -> tuple[Path, Path]:
    """Photographs to fit on and others to judge by, with labels, in lists."""
    head, *rows = (IMAGES / "labels.csv").read_text().splitlines()
    order = np.random.default_rng(0).permutation(len(rows))
    paths = folder / "fit.csv", folder / "judge.csv"
    for path, part in zip(paths, (order[:fit], order[fit : fit + judge]), strict=True):
        path.write_text("\n".join([head, *(f"{IMAGES}/{rows[i]}" for i in part)]) + "\n")
    return paths


def within_budget(model: onnx.ModelProto, recipe: Recipe) -> list[str]:
    """The sites to leave as they are."""
    skip: list[str] = []
    while (plan := aarewrite.plan(model, recipe, skip=skip)).cost and plan.cost > BUDGET:
        blurred = [site for site in plan.sites if site.match and site.macs]
        skip.append(max(blurred, key=lambda site: site.macs[1] - site.macs[0]).site.node)
    return skip


def row(key: str, report: VerifyReport, cost: float, left: int) -> str:
    """A row of the table."""
    after, before = report.corruptions
    crop = report.changes[0]
    assert after.change is not None
    assert after.clean is not None
    assert before.clean is not None
    right = " -> ".join(f"{100 * (1 - one.failed.value):.1f}" for one in (before, after))
    clean = " -> ".join(f"{100 * one.clean.value:.1f}" for one in (before, after))
    best = min((k for k in after.kinds if k.relative_failed), key=lambda k: k.relative_failed or 0)
    worst = max((k for k in after.kinds if k.relative_failed), key=lambda k: k.relative_failed or 0)
    said = f"{best.kind} {best.relative_failed:.2f}, {worst.kind} {worst.relative_failed:.2f}"
    return (
        f"| {key} | {cost:.3f}x, {left} sites left | {crop.says} | {clean} | {right} | {after.change.says} | "
        f"{after.mean_failed:.3f} | {after.mean_flips:.3f} | {said} | {after.n} |"
    )


def main() -> None:
    """Repair and judge the models asked for, one after another."""
    parser = argparse.ArgumentParser(description="blur against corruptions")
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--fit", type=int, default=200)
    parser.add_argument("--judge", type=int, default=100)
    options = parser.parse_args()
    for key in options.models:
        file, preprocess = MODELS[key]
        original = onnx.load(SHARED / "models" / file)
        with tempfile.TemporaryDirectory() as folder:
            fit, judge = lists(Path(folder), options.fit, options.judge)
            recipe = load_recipe("aligned").with_options(strength=0.5)
            skip = within_budget(original, recipe)
            made = aarewrite.calibrate(original, fit, recipe=recipe, skip=skip, preprocess=preprocess, hold_out=0.1)
            report = before_after(
                original,
                made.model,
                judge,
                preprocess=preprocess,
                protocols=("corruptions", "crop"),
                max_shift=1,
                pairs=4,
            )  # fmt: skip
        print(row(key, report, made.rewritten.plan.cost or 1.0, len(skip)), flush=True)
        for note in report.notes:
            print("  note:", note, flush=True)


if __name__ == "__main__":
    main()
