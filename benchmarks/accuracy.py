"""What blurring does to weights that were never trained with it: top-1 before and after the rewrite.

    pip install -e '.[bench]' && python benchmarks/accuracy.py
    python benchmarks/accuracy.py --filters 3 3:0.5 --models resnet18_ktb_small_ts_op13.onnx [--limit 200] [--output T]
        [--against 3]

The second form holds filters, at the strength behind the colon, against the original on the same crops of photographs:
top-1 of the centre crop, consistency of pairs of crops up to 31 px apart, agreement of crops one pixel apart, each with
the 95 % interval of its change over photographs and the p of a sign-flip test; multiply-accumulates; processor time on
one thread. With --against they are held against another filter instead.

In the first form the sample models run on their held-out digits; SqueezeNet 1.1 and MobileNetV2 on 500 photographs
where $AAREWRITE_SHARED (default ../shared) has them. Agreement is the share of images that keep their class when the
input crop moves by one pixel.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

import aarewrite
from aarewrite.calibration.judge import answer, compare
from aarewrite.data.canvases import Canvases, from_setup
from aarewrite.data.setup import open_setup
from aarewrite.model.runtime import plain_session
from aarewrite.outputs import text_output
from aarewrite.recipe import load_recipe
from aarewrite.verification.statistics import Difference

Array = npt.NDArray[Any]
ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("AAREWRITE_SHARED", ROOT.parent / "shared"))
SAMPLES = ("resnet", "vgg", "densenet", "mobilenet", "conv1d", "resnet_blurtrained")


def caffe(image: Array) -> Array:
    """BGR 0..255 minus the ImageNet mean: SqueezeNet's input."""
    return image[::-1].astype(np.float32) - np.array([104, 117, 123], np.float32).reshape(3, 1, 1)


def imagenet(image: Array) -> Array:
    """RGB scaled by torchvision's mean and deviation."""
    mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32).reshape(2, 3, 1, 1)
    return (image.astype(np.float32) / 255 - mean) / deviation


def photographs(preprocess: Callable[[Array], Array]) -> Iterator[tuple[Array, Array, int]]:
    """(centre crop, the same moved by one pixel, label) of every photograph, crops float32 (1, 3, 224, 224)."""
    from PIL import Image

    folder = SHARED / "images" / "imagenet_sample"
    with (folder / "labels.csv").open() as table:
        for row in csv.DictReader(table):
            image = np.asarray(Image.open(folder / row["file"]).convert("RGB")).transpose(2, 0, 1)
            top, left = ((size - 224) // 2 for size in image.shape[1:])
            crops = (image[:, top : top + 224, left + dx : left + dx + 224] for dx in (0, 1))
            here, moved = (preprocess(crop)[None] for crop in crops)
            yield here, moved, int(row["class_index"])


def samples(name: str) -> Iterator[tuple[Array, Array, int]]:
    """The same for the sample models' held-out digits."""
    data = np.load(ROOT / "sample_models" / ("signals_eval.npz" if name == "conv1d" else "digits_eval.npz"))
    for x, label in zip(data["x"].astype(np.float32) / 255, data["labels"], strict=True):
        if name == "conv1d":
            yield x[None, :, 8:136], x[None, :, 9:137], int(label)
        else:
            yield x[None, :, 4:36, 4:36], x[None, :, 4:36, 5:37], int(label)


def evaluate(model: onnx.ModelProto, data: Iterator[tuple[Array, Array, int]]) -> tuple[float, float]:
    """Top-1 and agreement under a one-pixel shift, in percent."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    hits, agreements = [], []
    for here, moved, label in data:
        classes = [int(session.run(None, {name: crop})[0].argmax()) for crop in (here, moved)]
        hits.append(classes[0] == label)
        agreements.append(classes[0] == classes[1])
    return 100 * float(np.mean(hits)), 100 * float(np.mean(agreements))


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description="accuracy of weights that were never trained with blur")
    parser.add_argument("--filters", nargs="+", metavar="FILTER[:STRENGTH]")
    parser.add_argument("--against", metavar="FILTER[:STRENGTH]", default="original")
    parser.add_argument("--models", nargs="+", default=["mobilenet_v2_tv_fp32.onnx"], metavar="FILE")
    parser.add_argument("--preprocess", default="imagenet")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=3, help="pairs of crops of each photograph")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if not options.filters:
        untrained()
        return
    lines = [f"| model | filter | {' | '.join(MEASURES)} | MACs | time |", "|---" * (len(MEASURES) + 4) + "|"]
    print("\n".join(lines))
    for name in options.models:
        for line in held_against_the_original(SHARED / "models" / name, options):
            lines.append(line)
            print(line, flush=True)
    if options.output:
        with text_output(options.output, "\n".join([*lines, ""])):
            pass


MEASURES = ("top-1", "consistency", "1-px agreement")


def held_against_the_original(path: Path, options: argparse.Namespace) -> Iterator[str]:
    """Rows of the table: the original, and each filter with what it changes."""
    images = SHARED / "images" / "imagenet_sample"
    setup = open_setup(
        path, images, labels=images / "labels.csv", preprocess=options.preprocess, limit=options.limit, size=(224, 224)
    )
    canvases = from_setup(setup)
    original = onnx.load(path)
    how = {"pairs": options.pairs, "threads": options.threads}
    shapes = {canvases.input: (1, 3, *canvases.size)}

    def filtered(which: str) -> aarewrite.Result:
        name, _, strength = which.partition(":")
        recipe = load_recipe("aligned").with_options(strength=float(strength or 1))
        return aarewrite.rewrite(path, recipe, filter=int(name) if name.isdecimal() else name, input_shapes=shapes)

    yardstick = original if options.against == "original" else filtered(options.against).model
    (before,) = answer([yardstick], canvases, range(canvases.count), **how)
    for which in options.filters:
        result = filtered(which)
        verdict = compare(before, *answer([result.model], canvases, range(canvases.count), **how))
        assert verdict.centre_top1 is not None, "the photographs have labels"
        found = (verdict.centre_top1, verdict.consistency, verdict.one_pixel)
        if which == options.filters[0]:
            cells = " | ".join([*(f"{one.before:.1f}" for one in found), *["1" if yardstick is original else ""] * 2])
            yield f"| {path.stem}, n = {verdict.images} | {options.against} | {cells} |"
        sites = f"{len(result.plan.rewrites)} of {len(result.plan.sites)} sites"
        ratio = time_ratio(original, result.model, canvases)
        cells = " | ".join(map(_changed, found))
        yield f"| {sites} | {which} | {cells} | {result.plan.cost or 0:.2f}x | {ratio:.2f}x |"


def time_ratio(before: onnx.ModelProto, after: onnx.ModelProto, canvases: Canvases, runs: int = 15) -> float:
    """Least processor time of `after` relative to `before`, on one thread and one image, alternating."""
    crop = canvases.crop(canvases.load(0), [0] * len(canvases.axes))[None]
    sessions = [plain_session(model, 1) for model in (before, after)]
    seconds: list[list[float]] = [[], []]
    for _ in range(runs):
        for session, spent in zip(sessions, seconds, strict=True):
            begin = time.process_time()
            session.run(None, {canvases.input: crop})
            spent.append(time.process_time() - begin)
    return min(seconds[1]) / min(seconds[0])


def _changed(one: Difference) -> str:
    return f"{one.after:.1f} ({one.low:+.1f} to {one.high:+.1f}, p {one.p:.3f})"


def untrained() -> None:
    """The sample models, and two of the shared ones, with the default recipe."""
    rows: list[tuple[str, Path, Callable[[], Iterator[tuple[Array, Array, int]]]]] = [
        (name, ROOT / "sample_models" / f"{name}.onnx", lambda name=name: samples(name)) for name in SAMPLES
    ]
    if SHARED.is_dir():
        models = SHARED / "models"
        rows.append(("SqueezeNet 1.1", models / "squeezenet1_1_fp32.onnx", lambda: photographs(caffe)))
        rows.append(("MobileNetV2", models / "mobilenet_v2_tv_fp32.onnx", lambda: photographs(imagenet)))
    print("| model | top-1 before | after | agreement at 1 px before | after |\n|---|---|---|---|---|")
    for label, path, data in rows:
        before = evaluate(onnx.load(path), data())
        after = evaluate(aarewrite.rewrite(path).model, data())
        print(f"| {label} | {before[0]:.1f} | {after[0]:.1f} | {before[1]:.1f} | {after[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
