"""The frontier of steadiness under a camera over cost, for real models on photographs that nothing was fitted to.

    pip install -e '.[bench]' && python benchmarks/frontier.py --folder FOLDER [--models squeezenet ...]
    python benchmarks/frontier.py --folder FOLDER --table

Every candidate of `--steady` and the opt-in ones. Photographs are split into two halves: what is repaired is fitted to
some of one half and judged on the other, then the other way round, so that all of them are judged once. Every figure
is a paired change from the untouched model on the same views, with its 95 % interval over photographs. What was
measured lies in FOLDER and is not measured again; `--table` prints Markdown, and times every model anew (interleaved,
medians): run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from aarewrite.calibration.exposures import Exposures, Steadiness
from aarewrite.calibration.frontier import Candidate, build, candidates
from aarewrite.calibration.problem import RepairOptions
from aarewrite.data.canvases import from_setup
from aarewrite.data.setup import Setup, open_setup
from aarewrite.data.views import draw_pairs
from aarewrite.verification.classify import top_classes

SHARED = Path(os.environ.get("AAREWRITE_SHARED", Path(__file__).parent.parent.parent / "shared"))
SEED = 0
PAIRS = 1  # of views near and far, and of crops, a photograph
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


def crops(setup: Setup, model: onnx.ModelProto, indices: list[int], pairs: int = PAIRS) -> np.ndarray:
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


def measure(key: str, folder: Path, names: list[str]) -> None:
    """Measure every candidate of one model that is not in the folder yet."""
    subject = SUBJECTS[key]
    setup = opened(subject, folder)
    original = onnx.load(SHARED / "models" / subject.file)
    canvases = from_setup(setup)
    shapes = {canvases.input: (1, *setup.spec.shape(setup.geometry.size, channels=3))}
    order = np.random.default_rng(SEED).permutation(len(setup.data))
    halves = [sorted(map(int, half)) for half in np.array_split(order, 2)]
    views = [Exposures(setup, half, pairs=PAIRS, seed=SEED) for half in halves]
    print(f"{subject.title}: views rendered", flush=True)
    wanted = [Candidate("untouched", {}), *candidates()]
    for candidate in wanted:
        file = folder / f"{key}-{candidate.name.replace(' ', '_').replace('/', '')}.json"
        if file.exists() or (names and candidate.name not in names):
            continue
        begin, parts, consistent, note, cost = time.perf_counter(), [], [], "", None
        for judged in (1, 0):
            fitted = np.random.default_rng(SEED + 1).permutation(halves[1 - judged])[:FITTED].tolist()
            model = original
            if candidate.recipe:
                batches = canvases.batches(fitted, seed=SEED)
                made = build(candidate, original, batches, shapes, RepairOptions(seed=SEED))
                if isinstance(made, str):
                    note = made
                    break
                model, cost = made.model, made.cost
                onnx.save(model, folder / file.with_suffix(f".{judged}.onnx").name)
            parts.append(views[judged].of(model))
            consistent.append(crops(setup, model, halves[judged]))
        result = {"name": candidate.name, "note": note, "cost": cost}
        if not note:
            result |= Steadiness.joined(parts).to_dict() | {"crop": np.concatenate(consistent).tolist()}
        file.write_text(json.dumps(result))
        print(f"{key}: {candidate.name}: {note or 'measured'} in {time.perf_counter() - begin:.0f} s", flush=True)


def main() -> None:
    """Measure, or print the table."""
    parser = argparse.ArgumentParser(description="steadiness under a camera over cost")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--models", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--candidates", nargs="+", default=[])
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for key in options.models:
        if not options.table:
            measure(key, options.folder, options.candidates)


if __name__ == "__main__":
    main()
