"""By node, what a target's runtime lacks, in one line each."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from reference import build

from aarewrite.errors import UsageError
from aarewrite.model.model_file import load
from aarewrite.targets.support import TARGETS, unsupported

SAMPLES = sorted((Path(__file__).parents[2] / "sample_models").glob("*.onnx"))


def test_a_line_names_operator_node_reason_and_next_step() -> None:
    model = build(
        """(float[1, 2, 8, 8] x) => (float[] y) {
        [first] a = MaxPool<kernel_shape = [2, 2]>(x)
        [second] b = Relu(a)
        [third] y = MaxPool<kernel_shape = [2, 2]>(b)
    }""",
        opset=22,
    )
    first, third = unsupported(model, "ort-cuda")
    assert first == (
        "MaxPool 'first': ONNX Runtime's CUDA provider has no MaxPool of version 22; "
        "export with an older opset: it has MaxPool to version 12"
    )
    assert third.startswith("MaxPool 'third': ")
    assert unsupported(model, "tensorrt") == []


def test_no_such_target() -> None:
    model = build("(float[1] x) => (float[] y) { y = Relu(x) }")
    with pytest.raises(UsageError, match="target 'npu' is not one of portable, ort-cpu, ort-cuda, tensorrt, openvino"):
        unsupported(model, "npu")


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_sample_models_run_on_the_cpu_and_in_openvino(path: Path) -> None:
    model = onnx.load(path)
    assert [unsupported(model, target) for target in ("portable", "ort-cpu", "openvino")] == [[], [], []]


def test_an_exported_blur_is_five_pads_on_the_cpu_for_core_ml() -> None:
    lines = unsupported(onnx.load(SAMPLES[0].with_name("resnet_blur.onnx")), "coreml")
    assert len(lines) == 5
    assert all(line.startswith("Pad ") and "no Pad in mode reflect" in line for line in lines)


@pytest.mark.parametrize("target", TARGETS)
def test_weights_may_be_left_out(target: str) -> None:
    model = SAMPLES[0].with_name("vgg.onnx")
    assert unsupported(load(model).readable, target) == unsupported(onnx.load(model), target)
