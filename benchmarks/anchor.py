"""What an anchor in front of real models is worth, and what it costs: the figures of docs/recipes.md.

    pip install -e '.[bench]' && python benchmarks/anchor.py [--limit N] [--camera N] [--only PART...] [--output F]

On the 500 photographs of $AAREWRITE_SHARED (default ../shared), with `--anchor wide`, each against the original on the
centre crop of the same view:

- origins: the origin equals numpy's (float64, one 9 x 9 filter in place of two means), and the output is the original's
  on numpy's crop, bit for bit;
- overlay: how often a box of 32 px, black and white, at a fixed place of the view holds the corner;
- whole pixels: short side 287 (63 px more than the model's; what more phases need), a view with each of the eight a
  whole pixel away (1 px; the original with one of them, drawn) and with one up to 32 px away along each axis (far):
  pairs with the same class. The same corner in two views is the same crop, and the class of each crop is worked out
  once, by the original;
- a camera: `mixed`, two near and two far pairs, of the first N: the anchor, two views of the original (a copy 11 px
  away), and the two together;
- latency: of one image, alternating: least processor time on one thread, and on two threads the median of the ratios of
  neighbouring runs by the clock, which other work on the machine makes larger than it is;
- segmentation: DeepLab, short side 420, outputs pasted back at the origin: pixels that change class between views 1 px
  apart, with as many origins as the model has phases (8) and with 128.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.compose
import onnx.parser
import onnx.utils
import onnx.version_converter
from PIL import Image

import aarewrite
from aarewrite.calibration.exposures import Exposures
from aarewrite.data.preprocess import PRESETS
from aarewrite.data.setup import open_setup
from aarewrite.model.runtime import plain_session
from aarewrite.outputs import text_output
from aarewrite.recipe import Recipe
from aarewrite.timing.rounds import STOP_SPINNING
from aarewrite.verification.statistics import Difference, difference

Array = npt.NDArray[Any]
ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("AAREWRITE_SHARED", ROOT.parent / "shared"))
CLASSIFIERS = {
    "SqueezeNet 1.1": ("squeezenet1_1_fp32.onnx", "caffe", 224),
    "MobileNetV2": ("mobilenet_v2_tv_fp32.onnx", "imagenet", 224),
    "MobileNetV2, int8": ("mobilenet_v2_int8_nnstreamer.onnx", "imagenet", 224),
    "MobileNetV1 0.75": ("mobilenet_v1_075_192_tf_fp32.onnx", "pm1", 192),
    "ResNet-18": ("resnet18_ktb_small_ts_op13.onnx", "imagenet", 224),
}
KEPT = Recipe(name="anchor", conv="keep", max_pool="keep", average_pool="keep")
TWO_VIEWS = "0,0 11,11"
DEEPLAB = "deeplab_v3_mnv2_tf.onnx"
MORE, LARGE, FAR = 63, 420, 32  # px
BOX = (24, 32)  # where an overlay lies in a view, and its size
STEPS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
PARTS = ("latency", "pixels", "segmentation", "camera")


def main() -> None:
    """Print the figures, and write them to a file where one is named."""
    parser = argparse.ArgumentParser(description="an anchor in front of real models")
    parser.add_argument("--limit", type=int, default=500, help="photographs")
    parser.add_argument("--camera", type=int, default=200, help="photographs under a camera")
    parser.add_argument("--phases", type=int, default=32, help="of the classifiers; SqueezeNet alone has less, 16")
    parser.add_argument("--runs", type=int, default=100, help="of the latency")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--models", nargs="+", choices=CLASSIFIERS, default=list(CLASSIFIERS))
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    lines: list[str] = []
    for line in figures(asked):
        print(line, flush=True)
        lines.append(line)
    with text_output(asked.output, "\n".join(lines) + "\n"):
        pass


def figures(asked: argparse.Namespace) -> Iterator[str]:
    """Every line, as it is measured."""
    files = sorted((SHARED / "images" / "imagenet_sample").glob("*.jpg"))[: asked.limit]
    for label in asked.models if set(asked.only) - {"segmentation"} else ():
        file, preset, side = CLASSIFIERS[label]
        original = onnx.load(SHARED / "models" / file)
        model = anchored(original, side, asked.phases)
        if "latency" in asked.only:
            yield f"{label}, latency: {latency(original, side, model, asked.runs)}"
        if "pixels" in asked.only:
            for line in whole_pixels(original, side, model, files, preset):
                yield f"{label}, {line}"
        if "camera" in asked.only:
            for line in camera(original, side, asked.phases, preset, asked.camera):
                yield f"{label}, {line}"
    if "segmentation" in asked.only:
        for line in segmentation(files):
            yield f"DeepLab, {line}"


def anchored(original: onnx.ModelProto, side: int, phases: int = 0, views: str = "") -> onnx.ModelProto:
    """The rewritten model, which tells its origin."""
    recipe = KEPT.with_options(anchor="wide", anchor_origin=True, anchor_phases=phases, views=views)
    return aarewrite.rewrite(original, recipe, input_shapes=shape_of(original, side)).model


def shape_of(model: onnx.ModelProto, side: int) -> dict[str, tuple[int, ...]]:
    """The shape of one square image."""
    given = model.graph.input[0]
    last = given.type.tensor_type.shape.dim[3].dim_value == 3
    return {given.name: (1, side, side, 3) if last else (1, 3, side, side)}


def latency(original: onnx.ModelProto, side: int, model: onnx.ModelProto, runs: int) -> str:
    """The ratio, on noise: each model at its own size."""
    told = []
    for threads, clock in ((1, time.process_time), (2, time.perf_counter)):
        timed = []
        for one, size in ((original, side), (model, size_of(model))):
            x = np.random.default_rng(0).normal(0, 50, (1, 3, size, size)).astype(np.float32)
            timed.append((plain_session(one, threads, entries=STOP_SPINNING), {one.graph.input[0].name: x}))
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(runs):
            for (session, feed), spent in zip(timed, seconds, strict=True):
                begin = clock()
                session.run(None, feed)
                spent.append(clock() - begin)
        ratio = median(after / before for before, after in zip(*seconds, strict=True))
        before, after = (1e3 * min(spent) for spent in seconds)
        what = f"{after / before:.3f}x ({before:.1f} -> {after:.1f} ms)" if threads == 1 else f"{ratio:.3f}x"
        told.append(f"{what} on {threads} thread{'s' * (threads > 1)}")
    return ", ".join(told)


def size_of(model: onnx.ModelProto) -> int:
    """The height that a model takes (channels first or last)."""
    dims: list[int] = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    return dims[2]


# ---- numpy's own -------------------------------------------------------------------------------------------


def numpy_corner(view: Array) -> Array | None:
    """The strongest corner (y, x) of a view (3, N, N) in float64, None where there is none."""
    grey = np.tensordot(np.array([0.299, 0.587, 0.114]), view.astype(np.float64), 1)
    gx, gy = (grey[1:-1, 2:] - grey[1:-1, :-2]) / 2, (grey[2:, 1:-1] - grey[:-2, 1:-1]) / 2
    tent = np.convolve(np.ones(5), np.ones(5)) / 25

    def smooth(one: Array) -> Array:
        height, width = (side - 8 for side in one.shape)
        rows = sum(t * one[k : k + height] for k, t in enumerate(tent))
        return np.asarray(sum(t * rows[:, k : k + width] for k, t in enumerate(tent)))

    a, b, c = (smooth(one)[2:-2, 2:-2] for one in (gx * gx, gy * gy, gx * gy))
    harris = a * b - c * c - 0.04 * (a + b) ** 2
    inner = harris[1:-1, 1:-1]
    peak = inner >= np.lib.stride_tricks.sliding_window_view(harris, (3, 3)).max((2, 3))
    harris = np.where(peak, inner, 0)
    return np.array(np.unravel_index(harris.argmax(), harris.shape)) + 8 if harris.max() > 0 else None


# ---- whole pixels ------------------------------------------------------------------------------------------


def photograph(file: Path, short: int) -> Array:
    """RGB bytes (height, width, 3), the short side resized."""
    image = Image.open(file).convert("RGB")
    scale = short / min(image.size)
    return np.asarray(image.resize([max(short, round(scale * side)) for side in image.size], Image.Resampling.BICUBIC))


def preprocessed(preset: str) -> Callable[[Array], Array]:
    """From bytes (H, W, 3) to the model's float32 (3, H, W)."""
    asked = PRESETS[preset]
    order = -1 if asked.channels == "bgr" else 1

    def prepare(image: Array) -> Array:
        found = (image[:, :, ::order] * asked.scale - np.array(asked.mean)) / np.array(asked.std)
        return np.ascontiguousarray(found.astype(np.float32).transpose(2, 0, 1))

    return prepare


def overlaid(view: Array) -> Array:
    """A view with a box on it, half of it black and half white."""
    begin, side = BOX
    dark, light = view.min((1, 2), keepdims=True), view.max((1, 2), keepdims=True)
    found = view.copy()
    found[:, begin : begin + side, begin : begin + side] = dark
    found[:, begin : begin + side, begin + side // 2 : begin + side] = light
    return found


def places(file_number: int, shape: Sequence[int], size: int) -> tuple[Array, Array, Array]:
    """A view's place, those one pixel away, a drawn one first, and another up to 31 px away along each axis."""
    rng = np.random.default_rng(file_number)
    corner = [(side - size - FAR) // 2 for side in shape[:2]]
    here, far = corner + rng.integers(1, FAR, 2), corner + rng.integers(0, FAR + 1, 2)
    return here, here + np.roll(STEPS, -int(rng.integers(len(STEPS))), 0), far


def finder(model: onnx.ModelProto) -> onnx.ModelProto:
    """What finds a model's origin, alone."""
    return onnx.utils.Extractor(model).extract_model([model.graph.input[0].name], [model.graph.output[-1].name])


def whole_pixels(
    original: onnx.ModelProto, side: int, model: onnx.ModelProto, files: Sequence[Path], preset: str
) -> Iterator[str]:
    """Origins and outputs against numpy, and agreement of views one pixel apart and anywhere."""
    before, after, origins_of = (plain_session(one) for one in (original, model, finder(model)))
    name, size, prepare = original.graph.input[0].name, size_of(model), preprocessed(preset)
    phases, middle = size - side + 1, (size - side) // 2
    origins, outputs, caught = [], [], []
    moved, jumped, pairs = list[bool](), list[bool](), 0  # flips where the corner is another, or the crop further on
    agree: dict[str, list[list[float]]] = {"1 px": [[], []], "far": [[], []]}
    for number, file in enumerate(files):
        image, classes = prepare(photograph(file, max(side + MORE, size + FAR))), dict[tuple[int, ...], int]()

        def class_at(place: Array, image: Array = image, classes: dict[tuple[int, ...], int] = classes) -> int:
            y, x = place.tolist()
            if (y, x) not in classes:
                crop = np.ascontiguousarray(image[None, :, y : y + side, x : x + side])
                classes[y, x] = int(before.run(None, {name: crop})[0].argmax())
            return classes[y, x]

        here, near, far = places(number, image.shape[1:], size)
        where = np.array([here, *near, far])
        views = np.stack([image[:, y : y + size, x : x + size] for y, x in where])
        one_by_one = [origins_of.run(None, {name: view[None]})[0] for view in views]  # the batch may be fixed
        found = np.concatenate(one_by_one)
        corner = numpy_corner(views[0])
        own = np.full(2, middle) if corner is None else corner % phases
        origins.append(bool((own == found[0]).all()))
        alone = before.run(None, {name: views[:1, :, own[0] : own[0] + side, own[1] : own[1] + side]})[0]
        outputs.append(bool((after.run(None, {name: views[:1]})[0] == alone).all()))
        at = numpy_corner(overlaid(views[0]))
        caught.append(float(at is not None and bool((np.abs(at - BOX[0] - BOX[1] / 2) < BOX[1] / 2 + 4).all())))
        centre = [class_at(place + middle) for place in (here, near[0], far)]
        first, *others, last = (class_at(place) for place in where + found)
        for place, other in zip((where + found)[1:-1], others, strict=True):
            step = place - where[0] - found[0]
            if step.any():
                (moved if (step % phases).any() else jumped).append(other != first)
        pairs += len(others)
        agree["1 px"][0].append(float(centre[0] == centre[1]))
        agree["1 px"][1].append(float(np.mean([first == other for other in others])))
        agree["far"][0].append(float(centre[0] == centre[2]))
        agree["far"][1].append(float(first == last))
    yield (
        f"against numpy: the origin equal in {sum(origins)} of {len(origins)}, the output bit for bit in {sum(outputs)}"
    )
    for title, flips in (("another corner", moved), (f"a crop {phases} px further", jumped)):
        share = f"{100 * len(flips) / pairs:.1f} % of pairs 1 px apart"
        yield f"{title} in {share}, another class in {100 * np.mean(flips) if flips else 0:.0f} % of these"
    yield f"an overlaid box holds the corner in {100 * np.mean(caught):.0f} %"
    for title, (first_ones, second_ones) in agree.items():
        yield f"whole pixels, {title}: {told(difference(title, first_ones, second_ones, 0))}"


def told(change: Difference) -> str:
    """A share before and after in percent, and the paired change with its interval."""
    moved = f"{change.change:+.1f} [{change.low:.1f}, {change.high:.1f}]"
    return f"{change.before:.1f} -> {change.after:.1f} ({moved}, n = {change.n})"


def camera(original: onnx.ModelProto, side: int, phases: int, preset: str, limit: int) -> Iterator[str]:
    """An anchor, two views and both under a camera, against the original on the centre of the same views."""
    views = aarewrite.rewrite(original, KEPT, views=TWO_VIEWS, input_shapes=shape_of(original, side)).model
    first, both = (anchored(original, side, phases, one) for one in ("", TWO_VIEWS))
    size = size_of(first)
    models = {"centre": cropped(original, side, size), "an anchor": first}
    models |= {"two views": cropped(views, side, size), "two anchors": both}
    photographs = SHARED / "images" / "imagenet_sample"
    setup = open_setup(models["centre"], photographs, preprocess=preset, limit=limit)
    seen = Exposures(setup, range(len(setup.data)))
    found = {name: seen.of(model) for name, model in models.items()}
    for name, before in (*((name, "centre") for name in list(models)[1:]), ("two anchors", "two views")):
        change = found[name].against(found[before])
        yield f"camera, {name} against {before}: near {told(change.near)}, far {told(change.far)}"


def cropped(model: onnx.ModelProto, side: int, size: int) -> onnx.ModelProto:
    """The model behind a crop of the centre of a larger image."""
    begin, end = (size - side) // 2, (size - side) // 2 + side
    front = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : {model.opset_import[0].version}]>
        front (float[N, 3, {size}, {size}] whole) => (float[N, 3, {side}, {side}] part)
        <int64[2] begin = {{{begin}, {begin}}}, int64[2] end = {{{end}, {end}}}, int64[2] axes = {{2, 3}}>
        {{ part = Slice(whole, begin, end, axes) }}""")
    front.ir_version = model.ir_version
    return onnx.compose.merge_models(front, model, [("part", model.graph.input[0].name)], prefix1="crop/")


# ---- segmentation ------------------------------------------------------------------------------------------


def segmentation(files: Sequence[Path]) -> Iterator[str]:
    """Share of pixels that change class between views 1 px apart, in the picture's own coordinates."""
    # Slice with computed bounds needs opset 10
    source, side = onnx.version_converter.convert_version(onnx.load(SHARED / "models" / DEEPLAB), 10), 257
    name, before = source.graph.input[0].name, plain_session(source)
    for phases in (0, 128):
        model = anchored(source, side, phases)
        after, size = plain_session(model), size_of(model)
        middle = (size - side) // 2
        changed: list[list[float]] = [[], []]
        for number, file in enumerate(files):
            image = photograph(file, LARGE).astype(np.float32) / np.float32(127.5) - 1
            maps: list[list[Array]] = [[], []]
            here, near, _ = places(number, image.shape, size)
            for y, x in (here, near[0]):
                view = np.ascontiguousarray(image[None, y : y + size, x : x + size])
                centre = np.ascontiguousarray(view[:, middle : middle + side, middle : middle + side])
                scores, origin = after.run(None, {name: view})
                seen = [(before.run(None, {name: centre})[0], (middle, middle)), (scores, origin[0])]
                for k, (one, (top, left)) in enumerate(seen):
                    pasted = np.full(image.shape[:2], -1)
                    pasted[y + top : y + top + side, x + left : x + left + side] = one[0].argmax(-1)
                    maps[k].append(pasted)
            for k, (first, second) in enumerate(maps):
                both = (first >= 0) & (second >= 0)
                changed[k].append(float((first != second)[both].mean()))
        change = " -> ".join(f"{100 * np.mean(one):.3f}" for one in changed)
        yield f"{size - side + 1} phases: pixels that change class within 1 px: {change} % (n = {len(files)})"


if __name__ == "__main__":
    main()
