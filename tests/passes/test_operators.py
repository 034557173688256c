"""An operator fed from a blurred input, or run with another window: types, quantised maps, other readers."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np
import onnx
import pytest
from reference import ONNXRUNTIME, attributes, build, initializer, node, ops, qdq, run, weight
from stages import before

import aarewrite
from aarewrite.recipe import Recipe


@pytest.mark.parametrize("placement", ["input", "before"])
def test_kernel_type_is_that_of_the_map_it_blurs(placement: str) -> None:
    """A Cast behind the conv belongs to its region, but the conv's input keeps its own type."""
    model = build(
        """(float16[1, 2, 9, 9] x) => (float[] y) {
        [conv] a = Conv<strides = [2, 2]>(x, w)
        b = Cast<to = 1>(a)
        y = Add(b, b)
    }""",
        w=weight(2, 2, 1, 1, dtype=np.float16),
    )
    recipe = Recipe(first_conv=True) if placement == "input" else before()
    result = aarewrite.rewrite(model, recipe=recipe)
    assert result.plan.sites[0].do.name == placement
    blur_node = next(n for n in result.model.graph.node if n.op_type == "Conv" and n.name != "conv")
    assert initializer(result.model, blur_node.input[1]).dtype == np.float16


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_qdq_blur_before_twice_changes_nothing(kind: Any, k: int) -> None:
    first = aarewrite.rewrite(qdq(kind, k), recipe=before())
    assert first.changed
    assert not aarewrite.rewrite(first.model, recipe=before()).changed


@pytest.mark.parametrize("recipe", ["aligned", "before"])
@pytest.mark.parametrize("source", ["graph input", "another operator"])
def test_quantised_conv_fed_by_floats(source: str, recipe: str) -> None:
    """Partially quantised models: the conv's input is no DequantizeLinear, its output is quantised."""
    model = build(
        f"""(float[1, 3, 12, 12] x) => (float[] y) {{
        {"v = Identity(x)" if source == "graph input" else "v = Relu(x)"}
        wd = DequantizeLinear(w, sw, zw)
        [conv] a = Conv<strides = [2, 2]>({"x" if source == "graph input" else "v"}, wd)
        bq = QuantizeLinear(a, sw, zw)
        y = DequantizeLinear(bq, sw, zw)
    }}""",
        w=np.random.default_rng(0).integers(-127, 128, (4, 3, 1, 1)).astype(np.int8),
        sw=np.float32(0.01),
        zw=np.int8(0),
    )
    result = aarewrite.rewrite(model, recipe=before() if recipe == "before" else recipe, first_conv=True)
    (planned,) = result.plan.sites
    assert planned.match or planned.reason
    x = weight(1, 3, 12, 12)
    assert run(result.model, x=x)[0].shape == run(model, x=x)[0].shape


# ---- windows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("kernel_shape = [3, 3], strides = [2, 2]", {"kernel_shape": [3, 3], "strides": [1, 1]}),
        (
            "kernel_shape = [3, 3], strides = [2, 2], pads = [0, 0, 0, 0], ceil_mode = 0",
            {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [0, 0, 0, 0], "ceil_mode": 0},
        ),
        (
            'kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER"',
            {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 0, 1, 1]},
        ),
        (
            "kernel_shape = [2, 3], strides = [2, 2], ceil_mode = 1, storage_order = 0",
            {"kernel_shape": [2, 3], "strides": [1, 1], "pads": [0, 0, 1, 1], "storage_order": 0},
        ),
    ],
)
def test_a_window_is_written_with_explicit_pads_and_no_more_than_it_needs(
    written: str, left: dict[str, object]
) -> None:
    model = build(f"(float[1, 2, 9, 8] x) => (float[] y) {{ [pool] y = MaxPool<{written}>(x) }}")
    assert attributes(node(aarewrite.rewrite(model).model, "pool")) == left


def test_the_kernel_of_a_conv_stays_its_weights() -> None:
    model = build(
        "(float[1, 2, 9, 8] x) => (float[] y) { [conv] y = Conv<strides = [2, 2]>(x, w) }", w=weight(2, 2, 3, 3)
    )
    result = aarewrite.rewrite(model, first_conv=True)
    assert attributes(node(result.model, "conv")) == {"strides": [1, 1]}


def test_a_quantised_input_is_blurred_as_integers_and_dequantised_once_more() -> None:
    result = aarewrite.rewrite(qdq(np.uint8), recipe=before())
    producers = {output: one for one in result.model.graph.node for output in one.output}
    again = producers[node(result.model, "conv").input[0]]
    assert (again.op_type, list(again.input)) == ("DequantizeLinear", ["conv/blurred_quantised", "sx", "zx"])
    quantised = producers["conv/blurred_quantised"]
    assert (quantised.op_type, list(quantised.input[1:])) == ("QuantizeLinear", ["sx", "zx"])
    assert [one.name for one in result.model.graph.node if "xd" in one.input] == []
    x = weight(1, 3, 12, 12)
    assert run(result.model, x=x)[0].shape == run(qdq(np.uint8), x=x)[0].shape


def without_zero_point(kind: str) -> onnx.ModelProto:
    """The net of `qdq` in uint8, or as `output_dtype` says, whose maps have a scale alone."""
    model = qdq(np.uint8)
    for one in model.graph.node:
        if one.op_type == "QuantizeLinear" or (one.op_type == "DequantizeLinear" and one.input[0] != "w"):
            one.input.pop()
        if one.op_type == "QuantizeLinear" and kind == "int8":
            one.attribute.append(onnx.helper.make_attribute("output_dtype", onnx.TensorProto.INT8))
    model.opset_import[0].version = 21 if kind == "int8" else 13
    model.ir_version = 10
    return model


@pytest.mark.parametrize("recipe", ["aligned", "before"])
@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_a_map_without_a_zero_point_has_zero(kind: str, recipe: str) -> None:
    model = without_zero_point(kind)
    rewrite = functools.partial(aarewrite.rewrite, recipe=before() if recipe == "before" else recipe, first_conv=True)
    optimised = kind == "int8" or ONNXRUNTIME >= (1, 31)  # before, it refuses the original when it optimises it
    if not optimised:
        with pytest.raises(aarewrite.CannotHandle, match=r"^the original, optimised: .* same node name"):
            rewrite(model)
    result = rewrite(model, verify=optimised)
    assert [planned.site.quantised for planned in result.plan.rewrites] == ["qdq"]
    quantised = [n for n in result.model.graph.node if n.name == "conv/blur/Quantize"]
    zero = initializer(result.model, quantised[0].input[2])
    assert (zero.dtype, zero.shape, int(zero)) == (np.dtype(kind), (), 0)
    given = copy.deepcopy(model)  # as if it had been written
    given.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0, kind), "zero"))
    for one in given.graph.node:
        if len(one.input) == 2 and "Linear" in one.op_type:
            one.input.append("zero")
            del one.attribute[:]
    x = weight(1, 3, 12, 12)
    np.testing.assert_array_equal(run(result.model, x=x)[0], run(rewrite(given).model, x=x)[0])
    assert not aarewrite.rewrite(result.model, first_conv=True).changed


@pytest.mark.parametrize("recipe", ["aligned", "before"])
def test_pairs_of_the_runtimes_own_domain_are_as_those_of_onnx(recipe: str) -> None:
    model, plain = qdq(np.uint8), qdq(np.uint8)
    for one in model.graph.node:
        one.domain = "com.microsoft" if one.op_type in ("QuantizeLinear", "DequantizeLinear") else ""
    model.opset_import.add(domain="com.microsoft", version=1)
    rewritten, expected = (
        aarewrite.rewrite(one, recipe=before() if recipe == "before" else recipe, first_conv=True)
        for one in (model, plain)
    )
    assert rewritten.plan.sites == expected.plan.sites
    assert ops(rewritten.model) == ops(expected.model)
    again = aarewrite.plan(rewritten.model, before() if recipe == "before" else recipe, first_conv=True)
    assert not again.changes
    x = weight(1, 3, 12, 12)
    np.testing.assert_array_equal(run(rewritten.model, x=x)[0], run(expected.model, x=x)[0])


def test_a_map_of_16_bits_in_front_is_blurred_in_float() -> None:
    model = build(
        """(float[1, 3, 12, 12] x) => (float[] y) {
        xq = QuantizeLinear(x, s, z)
        xd = DequantizeLinear(xq, s, z)
        [conv] y = Conv<strides = [2, 2]>(xd, w)
    }""",
        opset=21, ir=10, s=np.float32(0.001), z=np.int16(0), w=weight(4, 3, 1, 1),
    )  # fmt: skip
    result = aarewrite.rewrite(model, first_conv=True)
    assert ops(result.model) == ["QuantizeLinear", "DequantizeLinear", "Pad", "Conv", "Conv"]
