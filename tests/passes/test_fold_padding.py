"""Pads that are computed from constants and static shapes are folded; others stay."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from reference import blur, build, dense, initializer, node, ops, relative_difference, run, weight

import aarewrite

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
