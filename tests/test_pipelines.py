"""Between other tools: ONNX Runtime's quantisation, half precision and saved optimised models, and onnxslim."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from reference import Array, build, ops, relative_difference, run, weight

import aarewrite

NET = """(float[1, 3, 32, 32] x) => (float[] y) {
    [stem] a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w1, b1) b = Relu(a)
    [pool] c = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(b)
    [conv] d = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(c, w2, b2) e = Relu(d)
    [shortcut] f = Conv<strides = [2, 2]>(c, w3, b3) g = Add(e, f)
    h = GlobalAveragePool(g) y = Flatten(h)
}"""
X = weight(1, 3, 32, 32, seed=9)


def net() -> onnx.ModelProto:
    shapes = {"w1": (16, 3, 3, 3), "w2": (32, 16, 3, 3), "w3": (32, 16, 1, 1)}
    weights = {name: weight(*shape) / np.float32(np.sqrt(np.prod(shape[1:]))) for name, shape in shapes.items()}
    biases = {"b1": weight(16, seed=1), "b2": weight(32, seed=2), "b3": weight(32, seed=3)}
    return build(NET, opset=17, **weights, **biases)


def rewritten(model: onnx.ModelProto, **options: Any) -> onnx.ModelProto:
    result = aarewrite.rewrite(model, **options)
    assert result.proof is not None
    assert result.proof.passed
    return result.model


def quantised(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[dict[str, Array]] = iter([{"x": weight(1, 3, 32, 32, seed=k)} for k in range(4)])

        def get_next(self) -> dict[str, Array] | None:
            return next(self.left, None)

    onnx.save(model, folder / "float.onnx")
    quantization.quantize_static(
        folder / "float.onnx", folder / "int8.onnx", Reader(), quant_format=quantization.QuantFormat.QDQ,
        per_channel=True, activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
    )  # fmt: skip
    return onnx.load(folder / "int8.onnx")


def error(model: onnx.ModelProto, feed: Array = X) -> float:
    """Relative to the rewritten net in float32, root mean square."""
    expected = run(rewritten(net()), x=X)[0]
    found = run(model, x=feed)[0].astype(np.float64)
    return float(np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()))


def test_quantised_after_and_before(tmp_path: Path) -> None:
    """Every site is rewritten in both orders; quantised first, the blurs stay in integers."""
    after = quantised(rewritten(net()), tmp_path)
    plan = aarewrite.plan(quantised(net(), tmp_path))
    assert [planned.site.node for planned in plan.rewrites] == ["pool", "conv", "shortcut"]
    before = rewritten(quantised(net(), tmp_path))
    assert error(after) < 0.05
    assert error(before) < 0.05
    blurs = [node for node in before.graph.node if node.op_type == "Conv" and "/blur/" in node.name]
    makers = {name: node.op_type for node in before.graph.node for name in node.output}
    assert len(blurs) == 3
    assert {makers[name] for node in blurs for name in node.input[:2]} <= {"DequantizeLinear", "Pad"}


def test_half_precision_after_and_before() -> None:
    float16 = pytest.importorskip("onnxruntime.transformers.float16")
    after = float16.convert_float_to_float16(rewritten(net()), keep_io_types=True)
    assert error(after) < 2e-3
    half = float16.convert_float_to_float16(net())
    before = rewritten(half)
    assert [node.op_type for node in before.graph.node if node.op_type == "Cast"] == []
    assert error(before, X.astype(np.float16)) < 2e-3


def test_simplified_after_and_before() -> None:
    onnxslim = pytest.importorskip("onnxslim")
    expected = run(rewritten(net()), x=X)[0]
    after = onnxslim.slim(rewritten(net()))
    assert relative_difference(run(after, x=X)[0], expected) < 1e-5
    assert not aarewrite.rewrite(after).changed  # its blurs are recognised
    before = rewritten(onnxslim.slim(net()))
    assert relative_difference(run(before, x=X)[0], expected) < 1e-5


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
def test_a_model_that_onnx_runtime_saved(level: str, tmp_path: Path) -> None:
    """What it fused into operators of com.microsoft is named and left; the rest is rewritten."""
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(tmp_path / "saved.onnx")
    options.intra_op_num_threads = 1
    ort.InferenceSession(net().SerializeToString(), options, providers=["CPUExecutionProvider"])
    saved = onnx.load(tmp_path / "saved.onnx")
    fused = level == "EXTENDED"
    assert ("FusedConv" in ops(saved)) is fused
    result = aarewrite.rewrite(saved)
    names = {planned.site.node for planned in result.plan.rewrites}
    assert names >= ({"pool"} if fused else {"pool", "conv", "shortcut"})
    reason = "strided com.microsoft operator: rewrite the model before it is quantised or fused"
    named = {source.node: source.reason for source in result.plan.sources}
    assert (named.get("conv") == reason) is fused
    assert run(result.model, x=X)[0].shape == (1, 32)
