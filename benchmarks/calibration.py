"""How well calibration does, cross-fitted on real photographs.

    AAREWRITE_SHARED=... python benchmarks/calibration.py [MODEL ...] [--pairs 10] [--camera-pairs 3] [--recipe R] [...]

Each model is calibrated on one half of the photographs and judged on the other, both ways, so every photograph is
judged by a model that never saw it. Models and photographs come from the folder that AAREWRITE_SHARED names
(models/*.onnx, images/imagenet_sample with labels.csv); they are not part of the project.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnx

from aarewrite import Result, rewrite
from aarewrite.calibration.budget import rewrite_within
from aarewrite.calibration.choices import PlanVariants
from aarewrite.calibration.judge import Answers, Verdict, answer, compare
from aarewrite.calibration.latency import latency_ratio
from aarewrite.calibration.repair import RepairOptions, repair
from aarewrite.calibration.search import SearchOptions, search
from aarewrite.data.canvases import Canvases, from_setup
from aarewrite.data.setup import open_setup
from aarewrite.recipe import load_recipe


@dataclass(frozen=True)
class Subject:
    """A model to calibrate: its file in models/, without .onnx, and its preprocessing."""

    file: str
    preprocess: str


SUBJECTS = {
    "squeezenet": Subject("squeezenet1_1_fp32", "caffe"),
    "mobilenet_v2": Subject("mobilenet_v2_tv_fp32", "imagenet"),
    "mobilenet_v1": Subject("mobilenet_v1_075_192_tf_fp32", "pm1"),
    "resnet18": Subject("resnet18_ktb_small_ts_op13", "imagenet"),
    "cifar_resnet20": Subject("cifar10_resnet20_ts_op11", "imagenet"),
}


def photographs(shared: Path, subject: Subject, limit: int | None) -> Canvases:
    """The photographs, or the CIFAR-10 test images, as `aarewrite --calibrate` opens them."""
    folder = shared / "images" / "imagenet_sample"
    small = "cifar" in subject.file
    data = shared / "images" / "cifar10_test_2000.npz" if small else folder
    labels = None if small else folder / "labels.csv"
    model = model_path(shared, subject)
    return from_setup(open_setup(model, data, preprocess=subject.preprocess, labels=labels, limit=limit))


def model_path(shared: Path, subject: Subject) -> Path:
    """Where the model is."""
    return shared / "models" / f"{subject.file}.onnx"


def joined(parts: Sequence[tuple[np.ndarray, Answers]], count: int) -> Answers:
    """Answers of both halves in the order of the photographs."""
    order = np.argsort(np.concatenate([indices for indices, _ in parts]))
    assert len(order) == count

    def together(name: str) -> np.ndarray:
        return np.concatenate([getattr(one, name) for _, one in parts])[order]

    return Answers(*(together(name) for name in ("centre", "pairs", "near", "labels", "seen")))


def measure(
    shared: Path, name: str, pairs: int, seen: int, limit: int | None, crops: int, recipe: str, budget: float | None
) -> dict[str, object]:
    """Calibrate on each half, judge on the other; prints as it goes."""
    subject = SUBJECTS[name]
    canvases = photographs(shared, subject, limit)
    original = onnx.load(model_path(shared, subject))
    options = RepairOptions(crops=crops)
    everything = np.arange(canvases.count)
    parts, seconds = [], []
    for half in (0, 1):
        fitted, judged = everything[half::2], everything[1 - half :: 2]
        begin = time.perf_counter()
        blurred = (
            rewrite_within(original, load_recipe(recipe)).model
            if budget is None
            else searched(original, canvases, fitted, budget).model
        )
        model, layers = repair(original, blurred, canvases.batches(fitted, crops=crops), options)
        seconds.append(time.perf_counter() - begin)
        parts.append((judged, answer([model], canvases, judged, pairs=pairs, seen=seen)[0]))
        print(f"{name}: {len(layers)} layers in {seconds[-1]:.0f} s on {len(fitted)} photographs", flush=True)
    (before,) = answer([original], canvases, everything, pairs=pairs, seen=seen)
    verdict = compare(before, joined(parts, canvases.count))
    show(name, verdict)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"model": name, "seconds": seconds, "peak_gib": peak, "verdict": asdict(verdict)}


def searched(original: onnx.ModelProto, canvases: Canvases, fitted: np.ndarray, budget: float) -> Result:
    """The rewrite that the search chooses on the photographs calibrated on, as `--strength auto` does."""
    variants = PlanVariants(original, options={"first_conv": True})
    found = search(original, variants, canvases, [int(i) for i in fitted], SearchOptions(budget=budget))
    for site, choice in found.chosen.items():
        print(f"  {site}: {choice.label}", flush=True)
    return rewrite(original, plan=variants.plan(found.chosen))


def show(name: str, verdict: Verdict) -> None:
    """One line a measure."""
    print(f"{name}, {verdict.images} photographs, agreement with the original {verdict.agreement:.1%}")
    for one in verdict.measures:
        print(f"  {one.name:22} {one.before:6.2f} -> {one.after:6.2f}  {one.says}  p={one.p:.3f}")
    print(f"  {verdict.judgement}")
    sys.stdout.flush()


def scaling(shared: Path, name: str, sizes: Sequence[int], crops: int, recipe: str) -> None:
    """Time of the repair for several numbers of photographs; the peak is the process's so far."""
    subject = SUBJECTS[name]
    canvases = photographs(shared, subject, max(sizes))
    original = onnx.load(model_path(shared, subject))
    blurred = rewrite_within(original, load_recipe(recipe)).model
    options = RepairOptions(crops=crops)
    for size in sorted(sizes):
        begin = time.process_time(), time.perf_counter()
        repair(original, blurred, canvases.batches(range(size), crops=crops), options)
        cpu, wall = time.process_time() - begin[0], time.perf_counter() - begin[1]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{name}: {size} photographs, {wall:.0f} s wall, {cpu:.0f} s processor, peak {peak:.2f} GiB", flush=True)


def latency(shared: Path, name: str, recipe: str) -> None:
    """Latency of the rewritten model relative to the original's, one crop at a time; the repair does not change it."""
    subject = SUBJECTS[name]
    canvases = photographs(shared, subject, 2)
    original = onnx.load(model_path(shared, subject))
    rewritten = rewrite_within(original, load_recipe(recipe))
    ratios = [latency_ratio(original, rewritten.model, canvases) for _ in range(5)]
    print(f"{name}: {rewritten.plan.macs_after / rewritten.plan.macs:.2f}x the multiply-accumulates")
    print(f"{name}: {median(ratios):.2f}x the time (five medians, {min(ratios):.2f} to {max(ratios):.2f})", flush=True)


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help=", ".join(SUBJECTS), metavar="MODEL")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--camera-pairs", type=int, default=3)
    parser.add_argument("--crops", type=int, default=1)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--latency", action="store_true", help="only time the rewritten model against the original")
    parser.add_argument("--recipe", default="calibrated", help="what is done, as for aarewrite --recipe")
    parser.add_argument("--search", type=float, metavar="BUDGET", help="search the plan on the photographs fitted to")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--scaling", type=int, nargs="+", help="only time the repair on so many photographs")
    args = parser.parse_args()
    shared = Path(os.environ.get("AAREWRITE_SHARED", "../shared"))
    unknown = set(args.models) - set(SUBJECTS)
    if unknown:
        parser.error(f"no model {sorted(unknown)[0]}; there are {', '.join(SUBJECTS)}")
    if args.latency:
        for name in args.models or SUBJECTS:
            latency(shared, name, args.recipe)
        return
    if args.scaling:
        for name in args.models or SUBJECTS:
            scaling(shared, name, args.scaling, args.crops, args.recipe)
        return
    results = [
        measure(shared, name, args.pairs, args.camera_pairs, args.limit, args.crops, args.recipe, args.search)
        for name in args.models or SUBJECTS
    ]
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
