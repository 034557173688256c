"""Small networks as text, with consistencies one can count by hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

SHARED = Path(os.environ.get("AAREWRITE_SHARED", Path(__file__).parents[2].parent / "shared"))
needs_shared = pytest.mark.skipif(not (SHARED / "models").is_dir(), reason=f"no shared models in {SHARED}")
COLOUR = """
g (float[N,3,16,16] x) => (float[N,2] y) <float[2,3,1,1] w = {1, 0, 0, 0, 1, 0}> {
    a = Conv<strides = [2, 2]>(x, w)
    b = GlobalAveragePool(a)
    y = Flatten(b)
}"""
HEAD = '<ir_version: 8, opset_import: ["" : 17]>'

GRID_PROFILE = """strides = [{stride}]
[boxes]\noutputs = ["boxes"]\nlayout = "nchw"\ncode = "distances"
[scores]\noutputs = ["score"]\nlayout = "nchw"
"""


def parse(text: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f"{HEAD}\n{text}")
    onnx.checker.check_model(model, full_check=True)
    return model


def phase_classifier(size: int | str = 16, batch: int | str = "N") -> onnx.ModelProto:
    """Keeps every second pixel, averages: class 1 when that average exceeds one half, else class 0.

    On columns that alternate 0, 1 the class is the parity of the first column seen.
    """
    return parse(f"""
    phase (float[{batch},1,{size},{size}] x) => (float[{batch},2] logits)
    <float[1,1,1,1] w = {{1}}, float[2,1,1,1] head = {{0, 1}}, float[2] bias = {{0.5, 0}}> {{
        kept = Conv<strides = [2, 2]>(x, w)
        mean = GlobalAveragePool(kept)
        scores = Conv(mean, head, bias)
        logits = Flatten(scores)
    }}""")


def blurred_classifier(size: int | str = 16) -> onnx.ModelProto:
    """As `phase_classifier`, with the stripes averaged before every second pixel is kept."""
    return parse(f"""
    blurred (float[N,1,{size},{size}] x) => (float[N,2] logits)
    <float[1,1,1,3] w = {{0.25, 0.5, 0.25}}, float[2,1,1,1] head = {{0, 1}}, float[2] bias = {{0.45, 0}},
     int64[8] pads = {{0, 0, 0, 1, 0, 0, 0, 1}}> {{
        padded = Pad<mode = "reflect">(x, pads)
        kept = Conv<strides = [2, 2]>(padded, w)
        mean = GlobalAveragePool(kept)
        scores = Conv(mean, head, bias)
        logits = Flatten(scores)
    }}""")


def circular_classifier(size: int = 16) -> onnx.ModelProto:
    """A 3x3 convolution with circular padding at stride 1, Relu, global average, two classes."""
    kernel = np.random.default_rng(1).standard_normal(18).round(2)
    values = ", ".join(str(float(value)) for value in kernel)
    return parse(f"""
    circular (float[N,1,{size},{size}] x) => (float[N,2] logits)
    <float[2,1,3,3] w = {{{values}}}, int64[1] first = {{0}}, int64[1] one = {{1}}, int64[1] minus = {{-1}},
     int64[1] far = {{9999}}, int64[1] two = {{2}}, int64[1] three = {{3}}> {{
        top = Slice(x, minus, far, two)
        bottom = Slice(x, first, one, two)
        tall = Concat<axis = 2>(top, x, bottom)
        left = Slice(tall, minus, far, three)
        right = Slice(tall, first, one, three)
        wide = Concat<axis = 3>(left, tall, right)
        seen = Conv(wide, w)
        lit = Relu(seen)
        mean = GlobalAveragePool(lit)
        logits = Flatten(mean)
    }}""")


def pooled_net(blur: bool, size: int = 32) -> onnx.ModelProto:
    """Conv, MaxPool by 2, global average: plain, or with the pool at stride 1 and a reflect-padded blur."""
    kernel = np.random.default_rng(2).standard_normal(18).round(2)
    values = ", ".join(str(float(value)) for value in kernel)
    taps = ", ".join(str(v / 16) for v in (1, 2, 1, 2, 4, 2, 1, 2, 1) * 2)
    pool = (
        """dense = MaxPool<kernel_shape = [2, 2], strides = [1, 1], pads = [0, 0, 1, 1]>(lit)
        padded = Pad<mode = "reflect">(dense, pads)
        pooled = Conv<strides = [2, 2], group = 2>(padded, taps)"""
        if blur
        else "pooled = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(lit)"
    )
    return parse(f"""
    pooled (float[N,1,{size},{size}] x) => (float[N,2] logits)
    <float[2,1,3,3] w = {{{values}}}, float[2,1,3,3] taps = {{{taps}}},
     int64[8] pads = {{0, 0, 1, 1, 0, 0, 1, 1}}> {{
        seen = Conv<pads = [1, 1, 1, 1]>(x, w)
        lit = Relu(seen)
        {pool}
        mean = GlobalAveragePool(pooled)
        logits = Flatten(mean)
    }}""")


def subsample_map(size: int = 16) -> onnx.ModelProto:
    """A dense output: every second pixel, two channels (x and -x)."""
    return parse(f"""
    map (float[N,1,{size},{size}] x) => (float[N,2,{size // 2},{size // 2}] y)
    <float[2,1,1,1] w = {{1, -1}}> {{ y = Conv<strides = [2, 2]>(x, w) }}""")


def ramp_map(size: int = 16) -> onnx.ModelProto:
    """A dense output that remembers positions: x plus the column number."""
    values = ", ".join(str(float(k)) for k in range(size))
    return parse(f"""
    ramp (float[N,1,{size},{size}] x) => (float[N,1,{size},{size}] y)
    <float[1,1,1,{size}] columns = {{{values}}}> {{ y = Add(x, columns) }}""")


def detector(size: int, stride: int = 1, half: float = 3, mask: bool = False) -> onnx.ModelProto:
    """Finds bright pixels: a box of `half` cells to each side of the cell's corner; `mask`: on even columns alone."""
    out = size // stride
    columns = ", ".join(str((k + 1) % 2 if mask else 1) for k in range(out))
    return parse(f"""
    detector (float[N,1,{size},{size}] x) => (float[N,1,{out},{out}] score, float[N,4,{out},{out}] boxes)
    <float[1,1,1,{out}] seen = {{{columns}}}, float[4,1,1,1] w = {{0, 0, 0, 0}},
     float[4] half = {{{half}, {half}, {half}, {half}}}> {{
        best = MaxPool<kernel_shape = [{stride}, {stride}], strides = [{stride}, {stride}]>(x)
        score = Mul(best, seen)
        boxes = Conv(best, w, half)
    }}""")


def scene(folder: Path, size: int, *images: list[tuple[int, int, float]], name: str = "scene.npz") -> str:
    """Images with pixels (row, column, score), counted in the centre crop of `size`."""
    border = max(round(size * 256 / 224) - size, 4) // 2
    canvas = np.zeros((len(images), 1, size + 2 * border, size + 2 * border), np.float32)
    for image, pixels in zip(canvas, images, strict=True):
        for row, column, score in pixels:
            image[0, border + row, border + column] = score
    return save(folder / name, x=canvas)


def grid_profile(folder: Path, stride: int = 1) -> str:
    path = folder / f"stride{stride}.toml"
    path.write_text(GRID_PROFILE.format(stride=stride))
    return str(path)


def stripes(count: int, size: int = 20) -> np.ndarray:
    """Images whose columns alternate 0, 1, `(count, 1, size, size)`."""
    return np.broadcast_to((np.arange(size) % 2).astype(np.float32), (count, 1, size, size)).copy()


def save(path: Path, **arrays: np.ndarray) -> str:
    np.savez(path, **arrays)
    return str(path)
