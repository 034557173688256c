"""Pads, and kernels and shapes of blurs, that are computed from constants and known sizes are folded; others stay."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from reference import blur, build, dense, initializer, node, ops, relative_difference, run, weight

import aarewrite
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import load
from aarewrite.passes.fold_parameters import FoldParameters
from aarewrite.sites.reading import Reading

EXACT = 1e-6


CONSTANT_REST = "four = Constant<value = int64[1] {4}>() rest = ConstantOfShape<value = int64[1] {0}>(four)"


KERNEL = weight(3, 2, 3, 3)


def torchscript_pad(computed: str, site: str) -> onnx.ModelProto:
    """A Pad whose amounts are computed as PyTorch's TorchScript exporter does, in front of a site."""
    return build(
        f"""(float[1, 2, 8, 8] x) => (float[] y) {{
        given = Constant<value = int64[4] {{1, 1, 1, 1}}>()
        {computed}
        all = Concat<axis = 0>(given, rest)
        shape = Constant<value = int64[2] {{-1, 2}}>()
        pairs = Reshape(all, shape)
        starts = Constant<value = int64[1] {{-1}}>()
        ends = Constant<value = int64[1] {{-9223372036854775807}}>()
        axes = Constant<value = int64[1] {{0}}>()
        steps = Constant<value = int64[1] {{-1}}>()
        reversed = Slice(pairs, starts, ends, axes, steps)
        turned = Transpose<perm = [1, 0]>(reversed)
        flat = Constant<value = int64[1] {{-1}}>()
        row = Reshape(turned, flat)
        amounts = Cast<to = 7>(row)
        [pad] padded = Pad<mode = "reflect">(x, amounts)
        {site}
    }}""",
        **({"w": KERNEL} if "w)" in site else {}),
    )


BEHIND_PAD = {
    "Conv": "[site] y = Conv<strides = [2, 2]>(padded, w)",
    "MaxPool": "[site] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(padded)",
}


@pytest.mark.parametrize("op", BEHIND_PAD)
def test_padding_arithmetic_is_folded(op: str) -> None:
    """The shapes behind such a Pad are unknown until it is folded; a site behind it is a site all the same."""
    result = aarewrite.rewrite(torchscript_pad(CONSTANT_REST, BEHIND_PAD[op]), first_conv=True)
    assert ops(result.model) == ["Pad", op, "Pad", "Conv"]
    pads = initializer(result.model, node(result.model, "pad").input[1])
    assert pads.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    x = weight(1, 2, 8, 8)
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="reflect")
    kernel = (3, 3) if op == "Conv" else (2, 2)
    expected = blur(dense(op, padded, kernel, [(0, 0)] * 2, w=KERNEL), 3, (2, 2))
    assert relative_difference(run(result.model, x=x)[0], expected) < EXACT


def test_padding_from_static_shapes_is_folded() -> None:
    computed = "s = Shape(x) zeros = Sub(s, s) rest = Identity(zeros)"
    result = aarewrite.rewrite(torchscript_pad(computed, BEHIND_PAD["Conv"]), first_conv=True)
    assert ops(result.model) == ["Pad", "Conv", "Pad", "Conv"]
    assert initializer(result.model, node(result.model, "pad").input[1]).tolist() == [0, 0, 1, 1, 0, 0, 1, 1]


def test_padding_that_depends_on_the_input_is_not_folded() -> None:
    computed = """n = Constant<value = int64[4] {0, 0, 0, 0}>() r = ReduceSum<keepdims = 0>(x)
        i = Cast<to = 7>(r) z = Sub(i, i) rest = Add(n, z)"""
    model = torchscript_pad(computed, BEHIND_PAD["Conv"])
    result = aarewrite.rewrite(model, first_conv=True)
    assert result.changed
    assert ops(result.model)[: len(model.graph.node)] == ops(model)


def test_constants_that_others_read_stay() -> None:
    model = torchscript_pad(CONSTANT_REST, BEHIND_PAD["Conv"])
    model.graph.output.append(onnx.helper.make_tensor_value_info("row", TensorProto.INT64, [8]))
    result = aarewrite.rewrite(model, first_conv=True)
    assert "Slice" in ops(result.model)
    assert "Cast" not in ops(result.model)
    assert initializer(result.model, node(result.model, "pad").input[1]).size == 8


# ---- blurs that are in a model already -----------------------------------------------------------------------

GAUSSIAN = """two = Constant<value_float = 2.0>() places = Constant<value = float[3] {-1, -0.0, -1}>()
    square = Pow(sigma, two) twice = Mul(square, two) over = Div(places, twice) bell = Exp(over)
    all = ReduceSum<keepdims = 0>(bell) taps = Div(bell, all) square_taps = Einsum<equation = "i,j->ij">(taps, taps)"""
FIR = f"""(float[N, 2, 8, 8] x) => (float[] y) {{
    {GAUSSIAN}
    one = Constant<value_ints = [1]>() minus = Constant<value_ints = [-1]>() axis = Constant<value_ints = [0, 1]>()
    kernel = Unsqueeze(square_taps, axis)
    s = Shape(x)
    c_at = Constant<value_int = 1>() h_at = Constant<value_int = 2>()
    c = Gather(s, c_at) h = Gather(s, h_at) zero = Constant<value_ints = [0]>()
    cs = Unsqueeze(c, zero) hs = Unsqueeze(h, zero)
    singles = Concat<axis = 0>(minus, one, hs, hs)
    flat = Reshape(x, singles)
    [blur] b = Conv<pads = [1, 1, 1, 1]>(flat, kernel)
    back = Concat<axis = 0>(minus, cs, hs, hs)
    whole = Reshape(b, back)
    [conv] y = Conv<strides = [2, 2]>(whole, w)
}}"""


def fir() -> onnx.ModelProto:
    """Every channel an image of its own, filtered with a Gaussian from its sigma; the batch is open."""
    return build(FIR, opset=17, sigma=np.float32(0.7), w=KERNEL)


def test_kernels_and_shapes_of_blurs_are_folded() -> None:
    model = fir()
    result = aarewrite.rewrite(model)
    assert result.plan.rewrites == ()
    assert result.proof
    assert result.proof.passed
    reading = Reading(GraphEditor(load(model)))
    assert FoldParameters().apply(reading, ()) == 3
    folded = reading.editor.export().to_proto()
    assert [op for op in ops(folded) if op != "Constant"] == ["Reshape", "Conv", "Reshape", "Conv"]
    reshapes = [node for node in folded.graph.node if node.op_type == "Reshape"]
    assert [initializer(folded, one.input[1]).tolist() for one in reshapes] == [[-1, 1, 8, 8], [-1, 2, 8, 8]]
    bell = np.exp(-np.array([1, 0, 1]) / (2 * 0.7**2))
    kernel = initializer(result.model, node(result.model, "blur").input[1])[0, 0]
    assert np.abs(kernel - np.outer(bell, bell) / bell.sum() ** 2).max() < 1e-7
    x = weight(3, 2, 8, 8)
    assert relative_difference(run(result.model, x=x)[0], run(model, x=x)[0]) < EXACT


def test_what_is_folded_is_said_and_a_second_run_changes_nothing() -> None:
    first = aarewrite.rewrite(fir())
    assert first.changed
    assert first.report["tidied"] == 4
    assert "3 computed pads, kernels and shapes of the blurs that are there become constants" in first.plan.warnings
    second = aarewrite.rewrite(first.model)
    assert not second.changed
    assert second.plan.warnings == ()


def test_equal_kernels_become_one() -> None:
    text = f"""(float[1, 2, 9, 9] x) => (float[] y) {{
        {GAUSSIAN}
        k1 = Expand(square_taps, full) k2 = Expand(square_taps, full)
        [b1] a = Conv<group = 2, strides = [2, 2]>(x, k1)
        [b2] y = Conv<group = 2, strides = [2, 2]>(a, k2)
    }}"""
    model = build(text, opset=17, sigma=np.float32(0.7), full=np.array([2, 1, 3, 3]))
    result = aarewrite.rewrite(model)
    first, second = (node(result.model, name).input[1] for name in ("b1", "b2"))
    assert first == second
    assert sum(onnx.numpy_helper.to_array(t).shape == (2, 1, 3, 3) for t in result.model.graph.initializer) == 1


def test_without_such_a_blur_shapes_stay_as_they_are() -> None:
    """Not in a model that was rewritten, either, where the blurs are our own."""
    text = """(float[1, 2, 8, 8] x) => (float[] y) {
        [pool] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        minus = Constant<value_ints = [-1]>() one = Constant<value_ints = [1]>()
        flat = Concat<axis = 0>(one, minus)
        y = Reshape(a, flat)
    }"""
    first = aarewrite.rewrite(build(text, opset=17))
    assert "Concat" in ops(first.model)
    assert not aarewrite.rewrite(first.model).changed


def test_quantised_kernels_stay_quantised() -> None:
    low = np.broadcast_to(np.array([1, 2, 1], dtype=np.int8), (2, 1, 3))
    model = build(
        """(float[1, 2, 9] x) => (float[] y) {
        taps = DequantizeLinear(low, scale, zero)
        [blur] y = Conv<group = 2, strides = [2]>(x, taps)
    }""",
        low=low, scale=np.float32(0.25), zero=np.int8(0),
    )  # fmt: skip
    result = aarewrite.rewrite(model)
    assert [source.reason for source in result.plan.sources] == ["a blur already: left as it is"]
    assert not result.changed
