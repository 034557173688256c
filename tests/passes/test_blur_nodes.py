"""A blur's nodes in the map's element type: float64 maps, for which ONNX Runtime has no Conv, half precision, and
quantised maps, which stay integers."""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from reference import Array, blur, build, dense, ops, qdq, relative_difference, run, weight, with_inferred_outputs

import aarewrite
from aarewrite.filters import depthwise_kernel
from aarewrite.recipe import Recipe

SIZES = (13, 12, 9)


def pooled(axes: int, opset: int, steps: str = "2, 2, 2") -> onnx.ModelProto:
    sizes = ", ".join(map(str, SIZES[:axes]))
    strides = ", ".join(steps.split(", ")[:axes])
    return build(
        f"(double[1, 2, {sizes}] x) => (double[] y) "
        f"{{ [pool] y = MaxPool<kernel_shape = [{', '.join('3' * axes)}], strides = [{strides}]>(x) }}",
        opset=opset,
    )


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("pad", ["reflect", "edge", "zero"])
@pytest.mark.parametrize(("taps", "opset"), [(1, 13), (2, 10), (3, 11), (4, 13), (5, 18), (7, 21)])
def test_a_float64_blur_equals_numpys(axes: int, pad: str, taps: int, opset: int) -> None:
    result = aarewrite.rewrite(pooled(axes, opset), filter=taps, pad=pad)
    assert result.changed
    assert result.proof is not None
    assert result.proof.notes == ()
    assert "Conv" not in ops(result.model)
    x = weight(1, 2, *SIZES[:axes], dtype=np.float64)
    expected = blur(dense("MaxPool", x, [3] * axes, [(0, 0)] * axes), taps, [2] * axes, pad)
    assert relative_difference(run(result.model, x=x)[0], expected) <= 1e-12


def test_axes_that_are_not_subsampled_are_not_sliced() -> None:
    result = aarewrite.rewrite(pooled(2, 13, steps="2, 1"))
    assert ops(result.model).count("Slice") == 3
    assert result.proof is not None
    assert result.proof.passed
    assert {node.op_type for node in result.model.graph.node} == {"MaxPool", "Pad", "Slice", "Mul", "Sum"}


def test_what_has_no_kernel_in_float64_is_proven_in_float32() -> None:
    model = build(
        "(double[1, 2, 12, 12] x) => (double[] y) "
        "{ [pool] y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    proof = aarewrite.rewrite(model).proof
    assert proof is not None
    assert proof.notes == ("run in float32: ONNX Runtime's CPU provider has no kernels for the model's type",)


def test_pooled_float64_maps_of_old_opsets_are_kept_with_the_reason() -> None:
    plan = aarewrite.plan(pooled(2, 9))
    assert plan.sites[0].reason == "pooled float64 maps need opset 10 or newer: Slice takes no steps before"


def test_the_record_names_the_node_that_writes_the_blurred_map() -> None:
    result = aarewrite.rewrite(pooled(2, 13))
    (entry,) = [p.value for p in result.model.metadata_props if p.key == "aarewrite.blurs"]
    assert '"pool/blur/Sum_3"' in entry
    assert result.model.graph.node[-1].name == "pool/blur/Sum_3"


@pytest.mark.parametrize("steps", ["2, 2", "1, 1"])
def test_a_second_run_finds_the_blur_and_changes_nothing(steps: str) -> None:
    every = Recipe(unit_stride_max_pool=True)
    result = aarewrite.rewrite(pooled(2, 13, steps), every)
    assert result.changed
    again = aarewrite.rewrite(result.model, every)
    assert not again.changed
    assert again.plan.sites[0].reason == "a blur is next to it already"
    assert again.plan.sources == ()


def test_what_has_no_float64_kernel_anyway_keeps_its_conv() -> None:
    """For other runtimes; the proof runs in float32."""
    model = build(
        "(double[1, 2, 12, 12] x) => (double[] y) { y = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w) }",
        w=weight(4, 2, 3, 3, dtype=np.float64),
    )
    assert ops(aarewrite.rewrite(model, first_conv=True).model) == ["Conv", "Pad", "Conv"]


def typed(kind: str, op: str) -> onnx.ModelProto:
    body = {
        "MaxPool": "y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)",
        "AveragePool": "y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)",
        "Conv": "[conv] a = Conv<strides = [2, 2]>(x, w) y = Relu(a)",
    }[op]
    model = build(f"({kind}[1, 2, 9, 9] x) => ({kind}[] y) {{ {body} }}", opset=19, ir=9)
    if op == "Conv":
        dtype = {"float16": 10, "bfloat16": 16, "double": 11}[kind]
        array = weight(2, 2, 3, 3).astype(onnx.helper.tensor_dtype_to_np_dtype(dtype))
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, "w"))
        del model.graph.output[0].type.tensor_type.shape.dim[:]
        model.graph.output[0].type.tensor_type.ClearField("shape")
        model = with_inferred_outputs(model)
    return model


@pytest.mark.parametrize(
    ("kind", "dtype", "op"),
    [
        *(("float16", 10, op) for op in ("MaxPool", "AveragePool", "Conv")),
        ("bfloat16", 16, "Conv"),  # ONNX has no bfloat16 pooling before opset 22
        *(("double", 11, op) for op in ("AveragePool", "Conv")),  # the blur of a MaxPool in double is no Conv
    ],
)
def test_kernels_take_the_models_type(kind: str, dtype: int, op: str) -> None:
    result = aarewrite.rewrite(typed(kind, op), first_conv=True)
    kernel = next(t for t in result.model.graph.initializer if t.dims and t.dims[-1] == 3 and t.name.endswith("taps"))
    assert kernel.data_type == dtype
    value = onnx.numpy_helper.to_array(kernel).astype(np.float64)
    assert np.array_equal(value, depthwise_kernel((3, 3), 2))
    assert result.proof is not None
    assert result.proof.passed
    if kind == "bfloat16":
        assert "run in float32" in result.proof.notes[0]


def test_half_precision_values() -> None:
    x = weight(1, 2, 9, 9, dtype=np.float16)
    result = aarewrite.rewrite(typed("float16", "MaxPool"))
    expected = blur(dense("MaxPool", x, (2, 2), [(0, 0)] * 2), 3, (2, 2))
    assert relative_difference(run(result.model, x=x)[0], expected) < 2e-3


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_qdq_blurs_integers(kind: Any) -> None:
    model = qdq(kind)
    result = aarewrite.rewrite(model, first_conv=True)
    assert result.plan.sites[0].site.quantised == "qdq"
    taps = next(t for t in result.model.graph.initializer if t.data_type == TensorProto.INT8 and t.dims[1:2] == [1])
    assert onnx.numpy_helper.to_array(taps)[0, 0].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    blurs = [n for n in result.model.graph.node if n.op_type == "Conv" and n.name != "conv"]
    producers = {o: n.op_type for n in result.model.graph.node for o in n.output}
    readers = [n.op_type for n in result.model.graph.node if blurs[0].output[0] in n.input]
    assert [producers[name] for name in blurs[0].input] == ["DequantizeLinear", "DequantizeLinear"]
    assert readers == ["QuantizeLinear"]
    x = weight(1, 3, 12, 12)
    step = 0.05
    w = (onnx.numpy_helper.to_array(model.graph.initializer[0]).astype(np.float64)) * 0.01
    quantised = np.clip(np.round(x / np.float32(0.03)), -128, 127) * 0.03
    full = np.clip(np.round(np.maximum(dense("Conv", quantised, (3, 3), [(1, 1)] * 2, w=w), 0) / step), 0, 255) * step
    actual = run(result.model, x=x)[0]
    assert np.abs(actual - blur(full, 3, (2, 2))).max() <= 1.01 * step
    assert not aarewrite.rewrite(result.model, first_conv=True).changed


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_qlinear_conv(kind: Any) -> None:
    zero = kind(3)
    model = build(
        """(float[1, 3, 12, 12] x) => (float[] y) {
        xq = QuantizeLinear(x, sx, zx)
        [first] aq = QLinearConv(xq, sx, zx, w1, sw, zw, sx, zx)
        [conv] bq = QLinearConv<strides = [2, 2], pads = [1, 1, 1, 1]>(aq, sx, zx, w, sw, zw, sy, zy)
        y = DequantizeLinear(bq, sy, zy)
    }""",
        w1=np.random.default_rng(1).integers(-127, 128, (3, 3, 1, 1)).astype(np.int8),
        w=np.random.default_rng(0).integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        sw=np.float32(0.01), zw=np.int8(0), sx=np.float32(0.03), zx=zero, sy=np.float32(0.1), zy=zero,
    )  # fmt: skip
    result = aarewrite.rewrite(model)
    assert [p.site.quantised for p in result.plan.rewrites] == ["qlinear"]
    assert ops(result.model).count("QLinearConv") == 3
    assert "Conv" not in ops(result.model)
    assert not aarewrite.rewrite(result.model).changed
    assert aarewrite.plan(model, filter=7).sites[0].reason.startswith("the 7x7 taps do not fit int8")
    front = aarewrite.rewrite(model, placement="before")
    assert front.changed
    assert not aarewrite.rewrite(front.model, placement="before").changed


def filtered(x: Array, taps: Array) -> Array:
    """The map reflected, filtered by the same taps along both axes, every second sample."""
    padded = np.pad(x, [(0, 0), (0, 0), *[(len(taps) // 2,) * 2] * 2], mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (len(taps),) * 2, (2, 3))[:, :, ::2, ::2]
    return np.asarray(np.einsum("nchwij,i,j->nchw", windows, taps, taps))


@pytest.mark.parametrize(("taps", "strength", "islands"), [(3, 1.0, 0), (3, 0.5, 1), (7, 1.0, 1)])
def test_taps_that_are_no_int8_filter_what_is_dequantised(taps: int, strength: float, islands: int) -> None:
    """In front of a float conv that reads integers: 7x7 taps go up to 400, those at half strength are no integers."""
    w = weight(4, 3, 1, 1)
    model = build(
        """(uint8[1, 3, 16, 16] q) => (float[] y) {
        x = DequantizeLinear(q, scale, zero)
        [conv] y = Conv<strides = [2, 2]>(x, w)
    }""",
        w=w, scale=np.float32(0.05), zero=np.uint8(128),
    )  # fmt: skip
    recipe = Recipe(filter=taps, strength=strength, first_conv=True)
    result = aarewrite.rewrite(model, recipe)
    assert result.proof is not None
    assert result.proof.passed
    assert ops(result.model).count("DequantizeLinear") == 4 - islands
    q = np.random.default_rng(0).integers(0, 256, (1, 3, 16, 16), np.uint8)
    real = (q.astype(np.float64) - 128) * 0.05
    vector = strength * np.array([comb(taps - 1, k) for k in range(taps)]) / 2 ** (taps - 1)
    vector[taps // 2] += 1 - strength
    mixed = filtered(real, vector)
    rounded = (np.clip(np.rint(mixed / 0.05) + 128, 0, 255) - 128) * 0.05
    expected = dense("Conv", rounded, (1, 1), [(0, 0)] * 2, w=w)
    assert relative_difference(run(result.model, q=q)[0], expected) < 0.02  # a step where a half is rounded elsewhere
    assert not aarewrite.rewrite(result.model, recipe).changed


def test_quantised_max_pool() -> None:
    model = build(
        """(float[1, 3, 12, 12] x) => (float[] y) {
        xq = QuantizeLinear(x, s, z)
        [pool] p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(xq)
        y = DequantizeLinear(p, s, z)
    }""",
        s=np.float32(0.02),
        z=np.uint8(100),
    )
    result = aarewrite.rewrite(model)
    assert result.changed
    x = weight(1, 3, 12, 12)
    rounded = (np.clip(np.round(x / np.float32(0.02)) + 100, 0, 255) - 100) * 0.02
    expected = blur(dense("MaxPool", rounded, (2, 2), [(0, 0)] * 2), 3, (2, 2))
    assert np.abs(run(result.model, x=x)[0] - expected).max() <= 0.0102
