"""Streaming measured: work, time and the largest difference of real models, and the bounds that they must keep.

    pip install -e . && python benchmarks/streaming.py [--exports FOLDER] [--only NAME ...]

Work is multiply-accumulates of a step relative to a window, time the median of ONNX Runtime on one thread in
interleaved rounds, the difference the proof's (every output of four windows of a random signal, relative to its scale).
FOLDER holds what `benchmarks/stream_exports.py` writes. Exits 1 where a bound is not kept; run it on an idle machine.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnx

import aarewrite
from aarewrite.model.runtime import plain_session
from aarewrite.streaming.proof import cut, zeros
from aarewrite.streaming.run import Streamed
from aarewrite.timing.rounds import FEWEST, MOST, STOP_SPINNING, interleaved

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("AAREWRITE_SHARED", ROOT.parent / "shared")) / "models"
SAMPLE = ROOT / "sample_models"
SECONDS = 3.0  # of rounds, a model
INFINITE = float("inf")


@dataclass(frozen=True)
class Case:
    """A model, how it is streamed, and what must hold."""

    title: str
    path: Path
    step: int
    axis: int | None = None
    shape: tuple[int, ...] | None = None  # of the first input
    work: float = INFINITE  # at most
    time: float = INFINITE
    difference: float = 1e-5  # of the scale
    refused: str = ""  # what the refusal says, where there is to be one
    blurred: bool = False  # whether the anti-aliased model is streamed


def cases(exports: Path | None) -> list[Case]:
    """Every case; those of PyTorch's exporters where their folder is given."""
    wide, resnet, mobilenet = (1, 3, 224, 896), "resnet18_ktb_small_ts_op13.onnx", "mobilenet_v2_tv_fp32.onnx"
    squeeze = "squeezenet1_1_fp32.onnx"
    found = [
        Case("MLPerf keyword spotting DS-CNN, 49 frames", SHARED / "mlperf_tiny_kws_dscnn.onnx", 2, work=0.42,
             difference=1e-6),
        Case("ResNet-18 along a width of 896", SHARED / resnet, 32, 3, wide, work=0.20, time=0.4),
        Case("SqueezeNet along 224", SHARED / squeeze, 16, 3, (1, 3, 224, 224)),
        Case("SqueezeNet along 896", SHARED / squeeze, 16, 3, wide),
        Case("MobileNetV2 along 224", SHARED / mobilenet, 16, 3, (1, 3, 224, 224)),
        Case("MobileNetV2 along 896", SHARED / mobilenet, 32, 3, wide),
        Case("conv1d, 128 samples", SAMPLE / "conv1d.onnx", 16),
        Case("conv1d, anti-aliased", SAMPLE / "conv1d.onnx", 16, blurred=True),
        Case("MobileNetV1 uint8 (QDQ) along 128", SHARED / "mobilenet_v1_025_128_tf_qdq_uint8.onnx", 16, 2),
        Case("SqueezeNet fp16 along 224", SHARED / "squeezenet_fp16_winml.onnx", 16, 3, difference=4e-3),
        Case("UltraFace along 320", SHARED / "ultraface_rfb320.onnx", 32, 3),
        Case("FastestDet along a height of 352", SHARED / "fastestdet.onnx", 32, 2),
        Case("FastestDet along a width of 352", SHARED / "fastestdet.onnx", 32, 3, refused="'Reshape_13' (Reshape)"),
        Case("deeplab along 257", SHARED / "deeplab_v3_mnv2_tf.onnx", 32, 2, refused="its borders (15 and 15)"),
        Case("silero VAD, 16 kHz", SHARED / "silero_vad_16k_op15.onnx", 64, 1, (1, 576),
             refused="'/model/stft/Conv' (Conv) makes one value of 128 samples"),
        Case("silero VAD, both rates", SHARED / "silero_vad.onnx", 64, 1, (1, 576), refused="'Equal_0' (Equal)"),
    ]  # fmt: skip
    for path in sorted(exports.glob("*.onnx")) if exports else ():
        refused = "whole window" if path.stem.startswith("attention") else ""
        found.append(Case(f"{path.stem} (PyTorch)", path, 32, 2, refused=refused))
    return found


def main() -> None:
    """Print the table; say which bounds are not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exports", type=Path)
    parser.add_argument("--only", nargs="+", default=[""])
    options = parser.parse_args()
    broken = []
    print("| model | step | work | time | largest difference | states |\n|---|---|---|---|---|---|")
    for case in cases(options.exports):
        if not case.path.exists() or not any(word in case.title for word in options.only):
            continue
        try:
            row, problems = measured(case)
        except aarewrite.AarewriteError as error:
            kept = bool(case.refused) and case.refused in str(error)
            row, problems = f"refused: {error.message} | | |", [] if kept else [str(error)]
        print(f"| {case.title} | {case.step} | {row} |", flush=True)
        broken += [f"{case.title}: {problem}" for problem in problems]
    for line in broken:
        print(line, file=sys.stderr)
    sys.exit(bool(broken))


def measured(case: Case) -> tuple[str, list[str]]:
    """A row, and the bounds that are not kept."""
    model = onnx.load(case.path)
    if case.blurred:
        model = aarewrite.rewrite(model).model
    shapes = {model.graph.input[0].name: case.shape} if case.shape else None
    found = aarewrite.stream(model, case.step, axis=case.axis, input_shapes=shapes)
    share, worst = found.plan.work / found.plan.window_work, found.proof.worst
    window, ratio = timed(model, found)
    figures = (("work", share, case.work), ("time", ratio, case.time), ("difference", worst.relative, case.difference))
    problems = [f"{name} {value:.3g} is above {limit:.3g}" for name, value, limit in figures if value > limit]
    if case.refused:
        problems.append("it is not refused")
    row = (
        f"{share:.3f} ({found.plan.saving:.2f}x less) | {ratio:.2f} of {window * 1e3:.3g} ms | {worst.relative:.1g} | "
        f"{found.plan.state_bytes / 1e6:.2g} MB"
    )
    return row, problems


def timed(model: onnx.ModelProto, found: Streamed) -> tuple[float, float]:
    """Seconds of a window on one thread, and the median of what a step takes relative to it."""
    sample = {name: np.ascontiguousarray(value[:1]) for name, value in found.proof.sample.items()}
    runs: list[Callable[[], object]] = [functools.partial(plain_session(model, 1, STOP_SPINNING).run, None, sample)]
    streaming = plain_session(found.model, 1, STOP_SPINNING)
    feeds = {
        port.name: zeros(port.shape, port.type, 1)
        if port.name in found.steps.states
        else cut(sample[port.name], found.plan.inputs[port.name], 0, found.plan.step)
        for port in streaming.get_inputs()
    }
    runs.append(functools.partial(streaming.run, None, feeds))
    first, second = interleaved(runs, min(MOST, max(FEWEST, int(SECONDS / sum(found.seconds)))))
    return median(first), median(b / a for a, b in zip(first, second, strict=True))


if __name__ == "__main__":
    main()
