"""The frontier of steadiness under a camera over cost, for real models on photographs that nothing was fitted to.

    pip install -e '.[bench]' && python benchmarks/frontier.py --folder FOLDER [--models squeezenet ...]
    python benchmarks/frontier.py --folder FOLDER --table
    python benchmarks/frontier.py --folder FOLDER --times

Every candidate of `--steady` and the opt-in ones. Photographs are split into two halves: what is repaired is fitted to
some of one half and judged on the other, then the other way round, so that all of them are judged once. Every figure
is a paired change from the untouched model on the same views, with its 95 % interval over photographs. Sizes that a
model leaves open are fixed, as for deployment: half a blur has a form without Pad only where they are known. What was
measured lies in FOLDER and is not measured again; `--table` prints Markdown, and times every model anew (interleaved,
medians): run it on an idle machine. `--times` times the candidates with the weights as they were, and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx

from aarewrite.calibration.exposures import Exposures, Steadiness
from aarewrite.calibration.frontier import Built, Candidate, build, candidates
from aarewrite.calibration.latency import latency_ratio
from aarewrite.calibration.problem import RepairOptions
from aarewrite.calibration.steady import LEAST_TOP1
from aarewrite.data.canvases import from_setup
from aarewrite.data.setup import Setup, open_setup
from aarewrite.data.views import draw_pairs
from aarewrite.verification.classify import top_classes
from aarewrite.verification.statistics import BETTER, Difference, difference, judgement

SHARED = Path(os.environ.get("AAREWRITE_SHARED", Path(__file__).parent.parent.parent / "shared"))
UNTOUCHED = Candidate("untouched", {})
PLAIN = ("two views, (0,0) (1,1)", "two views, (-5,-5) (6,6)")
BUDGETS = (1.0, 1.05, 1.15, 1.5, 2.0, 2.5)  # of measured time
SEED = 0
PAIRS = 3
FITTED = 120  # photographs that a repair is fitted to, of one half


@dataclass(frozen=True)
class Subject:
    """A model and how its images are prepared."""

    file: str
    preprocess: str
    size: tuple[int, int]
    title: str


SUBJECTS = {
    "squeezenet": Subject("squeezenet1_1_fp32.onnx", "caffe", (224, 224), "SqueezeNet 1.1"),
    "mobilenet_v2": Subject("mobilenet_v2_tv_fp32.onnx", "imagenet", (224, 224), "MobileNetV2"),
    "resnet18": Subject("resnet18_ktb_small_ts_op13.onnx", "imagenet", (224, 224), "ResNet-18"),
    "mobilenet_v1": Subject("mobilenet_v1_075_192_tf_fp32.onnx", "pm1", (192, 192), "MobileNetV1 0.75"),
    "cifar_resnet20": Subject("cifar10_resnet20_ts_op11.onnx", "imagenet", (32, 32), "CIFAR ResNet-20"),
}


def opened(subject: Subject, folder: Path) -> Setup:
    """The model with its photographs, labelled."""
    path = SHARED / "models" / subject.file
    if subject.size == (32, 32):
        data = np.load(SHARED / "images" / "cifar10_test_2000.npz")
        np.savez(folder / "cifar500.npz", x=data["x"][:500], labels=data["y"][:500])
        return open_setup(path, folder / "cifar500.npz", preprocess=subject.preprocess, seed=SEED)
    images = SHARED / "images" / "imagenet_sample"
    size = subject.size
    return open_setup(path, images, labels=images / "labels.csv", preprocess=subject.preprocess, size=size, seed=SEED)


def fixed(subject: Subject) -> onnx.ModelProto:
    """The model with its sizes written down, as it is deployed: forms of a blur that need to know them can be taken."""
    model = onnx.load(SHARED / "models" / subject.file)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for axis, size in enumerate(subject.size, start=1 if dims[3].dim_value == 3 else 2):
        dims[axis].dim_value = size
    return model


def crops(setup: Setup, model: onnx.ModelProto, indices: list[int], pairs: int) -> np.ndarray:
    """Consistency of whole-pixel crops, one value an image: the paper's protocol."""
    canvases, found = from_setup(setup), []
    runner = setup.models[0].twin(model, "cpu")
    for i in indices:
        geometry, canvas = canvases.centred(canvases.load(i))
        drawn = draw_pairs(SEED, i, geometry, pairs)
        views = [canvases.crop(canvas, np.add(geometry.base, one).tolist()) for pair in drawn for one in pair]
        classes = top_classes(runner.run(runner.feed([np.stack(views)]))[runner.output_names[0]]).reshape(-1, 2)
        found.append(float((classes[:, 0] == classes[:, 1]).mean()))
    return np.array(found)


def measure(key: str, folder: Path, names: list[str], pairs: int) -> None:
    """Measure every candidate of one model that is not in the folder yet."""
    subject = SUBJECTS[key]
    setup = opened(subject, folder)
    original = fixed(subject)
    canvases = from_setup(setup)
    shapes = {canvases.input: (1, *setup.spec.shape(setup.geometry.size, channels=3))}
    order = np.random.default_rng(SEED).permutation(len(setup.data))
    halves = [sorted(map(int, half)) for half in np.array_split(order, 2)]
    views = [Exposures(setup, half, pairs=pairs, seed=SEED) for half in halves]
    print(f"{subject.title}: views rendered", flush=True)
    wanted, alike = [UNTOUCHED, *candidates()], dict[tuple[bytes, bool], str]()
    for candidate in wanted:
        file = stored(folder, key, candidate.name)
        if file.exists() or (names and candidate.name not in (UNTOUCHED.name, *names)):
            continue
        begin, parts, consistent, note, cost = time.perf_counter(), [], [], "", None
        for judged in (1, 0):
            model, saved = original, file.with_suffix(f".{judged}.onnx")
            if candidate.recipe:
                made = build(candidate, original, None, shapes, RepairOptions(seed=SEED))
                if isinstance(made, str):
                    note = made
                    break
                same = alike.setdefault((made.model.graph.SerializeToString(), candidate.repair), candidate.name)
                if same != candidate.name:
                    note = f"the same as {same}"
                    break
                model, cost = made.model, made.cost
                if saved.exists():
                    model = onnx.load(saved)
                elif candidate.repair:
                    fitted = np.random.default_rng(SEED + 1).permutation(halves[1 - judged])[:FITTED].tolist()
                    batches = canvases.batches(fitted, seed=SEED)
                    again = build(candidate, original, batches, shapes, RepairOptions(seed=SEED))
                    assert isinstance(again, Built), again
                    model = again.model
                onnx.save(model, saved)
            parts.append(views[judged].of(model))
            consistent.append(crops(setup, model, halves[judged], pairs))
        result = {"name": candidate.name, "note": note, "cost": cost, "pairs": pairs}
        if not note:
            result |= Steadiness.joined(parts).to_dict() | {"crop": np.concatenate(consistent).tolist()}
        file.write_text(json.dumps(result))
        print(f"{key}: {candidate.name}: {note or 'measured'} in {time.perf_counter() - begin:.0f} s", flush=True)


def table(key: str, folder: Path) -> list[str]:
    """The frontier of one model as Markdown, every model timed anew."""
    subject = SUBJECTS[key]
    setup = opened(subject, folder)
    original, canvases = fixed(subject), from_setup(setup)
    found = {one.name: read(folder, key, one.name) for one in (UNTOUCHED, *candidates())}
    found = {name: values for name, values in found.items() if values}
    before = found.pop(UNTOUCHED.name)
    n = len(before["near"])
    at_first = ", ".join(f"{name} {100 * np.mean(before[name]):.1f}" for name in ("near", "far", "crop", "top1"))
    lines = [
        f"**{subject.title}**, {n} images, {before['pairs']} near and far pairs of views each; untouched: "
        f"{at_first} %", "",
        "| candidate | MACs | time | near | far | crops | top-1 | found | minus two plain views, near / far |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    within: list[tuple[float, float, str, str]] = []
    plain = {name: found[name] for name in PLAIN if name in found}
    for name, values in found.items():
        if values["note"]:
            lines.append(f"| {name} | | | | | | | {values['note']} | |")
            continue
        model = onnx.load(stored(folder, key, name).with_suffix(".1.onnx"))
        latency = median(latency_ratio(original, model, canvases, threads=1) for _ in range(3))
        near, far, crop, top1 = (paired(before, values, figure) for figure in ("near", "far", "crop", "top1"))
        says = judgement(far, near)
        beside = ""
        if latency >= 1.5 and name not in PLAIN:
            compared = [(paired(one, values, "near"), paired(one, values, "far")) for one in plain.values()]
            beside = "; ".join(f"{says_of(near_one)} / {says_of(far_one)}" for near_one, far_one in compared)
        cells = " | ".join(says_of(one) for one in (near, far, crop, top1))
        lines.append(f"| {name} | {values['cost'] or 0:.2f}x | {latency:.2f}x | {cells} | {says} | {beside} |")
        opted = next(one.opt_in for one in candidates() if one.name == name)
        if says == BETTER and top1.change >= LEAST_TOP1 and not opted:
            within.append((latency, (near.change + far.change) / 2, name, f"{says_of(near)} / {says_of(far)}"))
    lines += ["", "| budget | the steadiest that is better | near / far |", "|---|---|---|"]
    for budget in BUDGETS:
        best = max((one for one in within if one[0] <= budget), key=lambda one: one[1], default=None)
        lines.append(
            f"| {budget:g}x | {best[2]} ({best[0]:.2f}x) | {best[3]} |" if best else f"| {budget:g}x | none | |"
        )
    return [*lines, ""]


def times(key: str, folder: Path) -> list[str]:
    """What each candidate of a model costs: multiply-accumulates, and time on one thread and on two."""
    subject = SUBJECTS[key]
    setup = opened(subject, folder)
    original, canvases = fixed(subject), from_setup(setup)
    shapes = {canvases.input: (1, *setup.spec.shape(setup.geometry.size, channels=3))}
    lines = [f"**{subject.title}**", "", "| candidate | MACs | one thread | two threads |", "|---|---|---|---|"]
    for candidate in candidates():
        made = build(candidate, original, None, shapes, RepairOptions(seed=SEED))
        if isinstance(made, str):
            continue
        found = (
            median(latency_ratio(original, made.model, canvases, threads=threads) for _ in range(3))
            for threads in (1, 2)
        )
        lines.append(f"| {candidate.name} | {made.cost or 0:.2f}x | {' | '.join(f'{ratio:.2f}x' for ratio in found)} |")
    return [*lines, ""]


def paired(before: dict[str, list[float]], after: dict[str, list[float]], figure: str) -> Difference:
    """The paired change of one figure."""
    return difference(figure, before[figure], after[figure], SEED)


def says_of(one: Difference) -> str:
    """A change with its interval."""
    return f"{one.change:+.1f} [{one.low:+.1f}, {one.high:+.1f}]"


def stored(folder: Path, key: str, name: str) -> Path:
    """Where the figures of a candidate lie."""
    return folder / f"{key}-{name.replace(' ', '_').replace('/', '')}.json"


def read(folder: Path, key: str, name: str) -> dict[str, Any]:
    """The figures of a candidate; {} where it was not measured."""
    path = stored(folder, key, name)
    return json.loads(path.read_text()) if path.exists() else {}


def main() -> None:
    """Measure, or print the table."""
    parser = argparse.ArgumentParser(description="steadiness under a camera over cost")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--models", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--candidates", nargs="+", default=[])
    parser.add_argument("--pairs", type=int, default=PAIRS, help="of views near and far, and of crops, a photograph")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--times", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for key in options.models:
        if options.table or options.times:
            print("\n".join((table if options.table else times)(key, options.folder)), flush=True)
        else:
            measure(key, options.folder, options.candidates, options.pairs)


if __name__ == "__main__":
    main()
