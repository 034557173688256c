"""What blurring does to weights that were never trained with it: top-1 before and after the rewrite.

    pip install -e '.[bench]' && python benchmarks/accuracy.py

The sample models run on their held-out digits. SqueezeNet 1.1 and MobileNetV2 run on 500 photographs where
$AAREWRITE_SHARED (default ../shared) has them. Agreement is the share of images that keep their class when the
input crop moves by one pixel.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

import aarewrite

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
