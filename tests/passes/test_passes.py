"""Every rewrite against the independent reference: values, geometry, element types, scopes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from reference import (
    Array,
    attributes,
    blur,
    build,
    dense,
    node,
    ops,
    relative_difference,
    run,
    weight,
    with_inferred_outputs,
)  # fmt: skip

import aarewrite
from aarewrite.filters import depthwise_kernel
from aarewrite.recipe import Recipe, SiteOverride
from aarewrite.show import plan_table as table

EXACT = 1e-6


def initializer(model: onnx.ModelProto, name: str) -> Array:
    return onnx.numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


def before(match: str = "*") -> Recipe:
    return Recipe(name="before", first_conv=True, sites=(SiteOverride(match, action="blur", placement="before"),))


# ---- dense_then_blur ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pad", ["reflect", "edge", "zero"])
@pytest.mark.parametrize("f", range(1, 8))
def test_max_pool(f: int, pad: str) -> None:
    model = build(
        "(float[1, 2, 17, 12] x) => (float[] y) "
        "{ [pool] y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x) }"
    )
    result = aarewrite.rewrite(model, filter=f, pad=pad)
    x = weight(1, 2, 17, 12)
    expected = blur(dense("MaxPool", x, (3, 3), [(1, 1), (1, 1)]), f, (2, 2), pad)
    assert relative_difference(run(result.model, x=x)[0], expected) < EXACT
    assert ops(result.model) == (["MaxPool", "Conv"] if f == 1 or pad == "zero" else ["MaxPool", "Pad", "Conv"])


@pytest.mark.parametrize("strides", [(1, 2), (2, 1), (3, 4)])
def test_strides_per_axis(strides: tuple[int, int]) -> None:
    w, x = weight(4, 2, 3, 3), weight(1, 2, 13, 14)
    model = build(
        f"(float[1, 2, 13, 14] x) => (float[] y) {{ [conv] a = Conv<strides = {list(strides)}>(x, w) y = Relu(a) }}",
        w=w,
    )
    result = aarewrite.rewrite(model, first_conv=True, filter=5)
    expected = blur(np.maximum(dense("Conv", x, (3, 3), [(0, 0)] * 2, w=w), 0), 5, strides)
    assert relative_difference(run(result.model, x=x)[0], expected) < EXACT
    kernel = initializer(result.model, node(result.model, "conv/blur/Conv").input[1])
    assert kernel.shape[2:] == tuple(5 if s > 1 else 1 for s in strides)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("group", "ins", "outs"), [(1, 3, 4), (4, 4, 4), (2, 4, 6), (3, 3, 6)])
def test_grouped_convs_of_every_rank(rank: int, group: int, ins: int, outs: int) -> None:
    size = [9, 8, 7][:rank]
    w, b, x = weight(outs, ins // group, *(3,) * rank), weight(outs, seed=1), weight(2, ins, *size)
    model = build(
        f"(float[2, {ins}, {', '.join(map(str, size))}] x) => (float[] y) {{ "
        f"[conv] a = Conv<strides = {[2] * rank}, group = {group}, pads = {[1] * 2 * rank}>(x, w, b) y = Relu(a) }}",
        w=w, b=b,
    )  # fmt: skip
    result = aarewrite.rewrite(model, first_conv=True)
    full = dense("Conv", x, (3,) * rank, [(1, 1)] * rank, w=w, bias=b, group=group)
    assert relative_difference(run(result.model, x=x)[0], blur(np.maximum(full, 0), 3, (2,) * rank)) < EXACT


@pytest.mark.parametrize("counted", [0, 1])
def test_average_pool(counted: int) -> None:
    model = build(
        f"""(float[1, 2, 11, 12] x) => (float[] y) {{ [pool] y = AveragePool<kernel_shape = [3, 3], strides = [2, 2],
        pads = [1, 1, 1, 1], count_include_pad = {counted}>(x) }}"""
    )
    x = weight(1, 2, 11, 12)
    full = dense("AveragePool", x, (3, 3), [(1, 1)] * 2, count_include_pad=bool(counted))
    assert relative_difference(run(aarewrite.rewrite(model).model, x=x)[0], blur(full, 3, (2, 2))) < EXACT


def test_reflect_falls_back_to_edge_with_a_note() -> None:
    model = build(
        "(float[1, 2, 4, 9] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    result = aarewrite.rewrite(model, filter=7)
    (planned,) = result.plan.sites
    assert planned.notes == ("reflect needs more than 3 samples and the map is 3x8: padded with edge",)
    x = weight(1, 2, 4, 9)
    expected = blur(dense("MaxPool", x, (2, 2), [(0, 0)] * 2), 7, (2, 2), "edge")
    assert relative_difference(run(result.model, x=x)[0], expected) < EXACT


def test_symbolic_sizes_state_the_smallest_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    model = build(
        "(float[N, 2, H, W] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    result = aarewrite.rewrite(model, filter=5)
    table.print_plan(result.plan, done=True)
    assert "every blurred map must be at least 3 wide" in " ".join(capsys.readouterr().out.split())
    for size in (4, 5):  # the dense map is one smaller
        assert run(result.model, x=weight(1, 2, size, size))[0].shape == (1, 2, size // 2, size // 2)


def test_equal_kernels_are_shared() -> None:
    model = build("""(float[1, 2, 33, 33] x) => (float[] y) {
        [one] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        [two] b = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(a)
        [three] y = MaxPool<kernel_shape = [2, 2], strides = [3, 3]>(b)
    }""")
    result = aarewrite.rewrite(model)
    kernels = {n.input[1] for n in result.model.graph.node if n.op_type == "Conv"}
    assert len(kernels) == 1
    assert len(result.model.graph.initializer) == 2  # the kernel and the pads


def test_origin_of_every_blur_is_recorded() -> None:
    model = build(
        "(float[1, 2, 9, 9] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    result = aarewrite.rewrite(model)
    values = {entry.key: entry.value for entry in result.model.metadata_props}
    assert values["aarewrite.version"] == aarewrite.__version__
    assert json.loads(values["aarewrite.recipe"])["name"] == "aligned"
    assert json.loads(values["aarewrite.blurs"]) == {
        "pool/blur/Conv": {
            "scope": "", "node": "pool", "op": "MaxPool", "strides": [2, 2], "placement": "after", "taps": [3, 3],
            "strength": 1.0, "pad": "reflect",
        }
    }  # fmt: skip


def test_shrunk_max_window() -> None:
    model = build(
        "(float[1, 2, 16, 16] x) => (float[] y) "
        "{ [pool] y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x) }"
    )
    result = aarewrite.rewrite(model, recipe="zhang2019-resnet")
    x = weight(1, 2, 16, 16)
    expected = blur(dense("MaxPool", x, (2, 2), [(0, 0)] * 2), 4, (2, 2))
    assert relative_difference(run(result.model, x=x)[0], expected) < EXACT
    assert result.proof is not None
    assert result.proof.unproven == ("pool",)


def test_alexnet_stem_keeps_half_its_stride() -> None:
    w, x = weight(4, 3, 5, 5), weight(1, 3, 31, 31)
    model = build(
        "(float[1, 3, 31, 31] x) => (float[] y) "
        "{ [stem] a = Conv<strides = [4, 4], pads = [2, 2, 2, 2]>(x, w) y = Relu(a) }",
        w=w,
    )
    result = aarewrite.rewrite(model, recipe="zhang2019", first_conv=True)
    assert attributes(node(result.model, "stem"))["strides"] == [2, 2]
    half = np.maximum(dense("Conv", x, (5, 5), [(2, 2)] * 2, w=w)[:, :, ::2, ::2], 0)
    assert relative_difference(run(result.model, x=x)[0], blur(half, 4, (2, 2))) < EXACT


# ---- blur_input --------------------------------------------------------------------------------------------

SHORTCUT = """(float[1, 3, 11, 12] x) => (float[] y) {{
    [first] a = Conv(x, w0)
    [shortcut] b = Conv<strides = [2, 2]>(a, w1{bias})
    [pool] c = MaxPool<kernel_shape = [1, 1], strides = [2, 2]>(a)
    y = Add(b, c)
}}"""


@pytest.mark.parametrize("pad", ["reflect", "edge", "zero"])
@pytest.mark.parametrize("biased", [False, True])
def test_shortcut_blurred_first_equals_the_after_form(pad: str, biased: bool) -> None:
    values = {"w0": weight(4, 3, 1, 1), "w1": weight(4, 4, 1, 1, seed=1)} | ({"b1": weight(4)} if biased else {})
    model = build(SHORTCUT.format(bias=", b1" if biased else ""), **values)
    first = aarewrite.rewrite(model, pad=pad)
    after = aarewrite.rewrite(model, recipe=Recipe(shortcut="conv", pad=pad))
    x = weight(1, 3, 11, 12)
    assert relative_difference(run(first.model, x=x)[0], run(after.model, x=x)[0].astype(np.float64)) < EXACT
    placements = {p.site.node: p.do.name for p in first.plan.sites}
    assert placements["shortcut"] == ("after" if pad == "zero" and biased else "input")


def test_blur_of_a_shortcut_leaves_other_readers_alone() -> None:
    model = build(SHORTCUT.format(bias=""), w0=weight(4, 3, 1, 1), w1=weight(4, 4, 1, 1))
    result = aarewrite.rewrite(model, skip=["pool"])
    assert list(node(result.model, "pool").input) == ["a"]
    assert list(node(result.model, "shortcut").input) == ["shortcut/blurred_input", "w1"]
    assert attributes(node(result.model, "shortcut"))["strides"] == [1, 1]


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


# ---- blur_then_strided, merge_box --------------------------------------------------------------------------


def test_placement_before() -> None:
    w, x = weight(4, 2, 3, 3), weight(1, 2, 11, 12)
    model = build("(float[1, 2, 11, 12] x) => (float[] y) { [conv] y = Conv<strides = [2, 2]>(x, w) }", w=w)
    result = aarewrite.rewrite(model, placement="before", first_conv=True, filter=5)
    smooth = blur(x, 5, (1, 1), every_axis=True)
    expected = dense("Conv", smooth, (3, 3), [(0, 0)] * 2, w=w)[:, :, ::2, ::2]
    assert relative_difference(run(result.model, x=x)[0], expected) < EXACT
    assert not aarewrite.rewrite(result.model, placement="before", first_conv=True, filter=5).changed


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
def test_placement_before_a_pool_twice_changes_nothing(op: str) -> None:
    model = build(
        f"(float[1, 2, 11, 12] x) => (float[] y) {{ [pool] y = {op}<kernel_shape = [2, 2], strides = [2, 2]>(x) }}"
    )
    first = aarewrite.rewrite(model, recipe=before())
    assert first.changed
    x = weight(1, 2, 11, 12)
    expected = dense(op, blur(x, 3, (1, 1), every_axis=True), (2, 2), [(0, 0)] * 2)[:, :, ::2, ::2]
    assert relative_difference(run(first.model, x=x)[0], expected) < EXACT
    assert not aarewrite.rewrite(first.model, recipe=before()).changed


@pytest.mark.parametrize(
    "window",
    [
        "kernel_shape = [2, 2], strides = [2, 2]",
        "kernel_shape = [3, 2], strides = [3, 2]",
        "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]",
        "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1",
        "kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1",
        'kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER"',
        'kernel_shape = [2, 2], strides = [2, 2], auto_pad = "SAME_LOWER"',
        'kernel_shape = [2, 2], strides = [2, 2], auto_pad = "VALID"',
        "kernel_shape = [2, 2], strides = [2, 2], dilations = [2, 2]",
    ],
)
@pytest.mark.parametrize("f", [1, 3, 4])
def test_merged_box_is_exact(window: str, f: int) -> None:
    """A blur at stride 1 in front of an AveragePool: the same values whether they are merged or not."""
    model = build(f"(float[1, 2, 11, 13] x) => (float[] y) {{ [pool] y = AveragePool<{window}>(x) }}", opset=19, ir=9)
    recipe = before().with_options(filter=f)
    result = aarewrite.rewrite(model, recipe=recipe)
    x = weight(1, 2, 11, 13)
    smooth = blur(x, f, (1, 1), every_axis=True).astype(np.float32)
    expected = run(model, x=smooth)[0].astype(np.float64)
    assert relative_difference(run(result.model, x=x)[0], expected) < EXACT


def test_box_and_blur_become_one_conv() -> None:
    model = build(
        "(float[1, 2, 12, 12] x) => (float[] y) { [pool] y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    result = aarewrite.rewrite(model, recipe=before())
    assert ops(result.model) == ["Pad", "Conv"]
    kernel = initializer(result.model, result.model.graph.node[1].input[1])
    row = np.array([1, 3, 3, 1]) / 8  # [1, 1] / 2 convolved with [1, 2, 1] / 4
    assert np.array_equal(kernel[0, 0], np.outer(row, row).astype(np.float32))
    single = aarewrite.rewrite(model, filter=1)
    assert ops(single.model) == ["Conv"]


# ---- blur_instead ------------------------------------------------------------------------------------------


def test_average_pool_is_replaced() -> None:
    model = build(
        "(float[1, 2, 12, 12] x) => (float[] y) { [pool] y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    result = aarewrite.rewrite(model, recipe="zhang2019")
    x = weight(1, 2, 12, 12)
    assert relative_difference(run(result.model, x=x)[0], blur(x, 4, (2, 2))) < EXACT
    assert result.proof is not None
    assert result.proof.unproven == ("pool",)


def test_average_pool_on_an_odd_map_is_kept() -> None:
    model = build(
        "(float[1, 2, 13, 12] x) => (float[] y) { [pool] y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    (planned,) = aarewrite.plan(model, recipe="zhang2019").sites
    assert planned.reason == "a 13x12 map would become 7x6 instead of 6x6, which breaks what follows"


def test_average_pool_replaced_over_a_symbolic_size() -> None:
    """The plan itself says that odd sizes may differ by one: then that is no failed check."""
    model = build(
        "(float[N, 2, H, W] x) => (float[] y) { [pool] y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    result = aarewrite.rewrite(model, recipe="zhang2019")
    (planned,) = result.plan.sites
    assert planned.match is None or "on odd sizes the output can differ by one" in " ".join(planned.notes)


# ---- fold_padding ------------------------------------------------------------------------------------------


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


# ---- element types -----------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "Conv"])
@pytest.mark.parametrize(("kind", "dtype"), [("float16", 10), ("bfloat16", 16), ("double", 11)])
def test_kernels_take_the_models_type(kind: str, dtype: int, op: str) -> None:
    if (kind, op) in (("bfloat16", "MaxPool"), ("bfloat16", "AveragePool")):
        pytest.skip("ONNX has no bfloat16 pooling before opset 22")
    if (kind, op) == ("double", "MaxPool"):
        pytest.skip("it runs in float64, and its blur has no Conv: see test_blur_nodes")
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


# ---- quantised ---------------------------------------------------------------------------------------------

QDQ = """(float[1, 3, 12, 12] x) => (float[] y) {{
    xq = QuantizeLinear(x, sx, zx)
    xd = DequantizeLinear(xq, sx, zx)
    wd = DequantizeLinear(w, sw, zw)
    [conv] a = Conv<strides = {strides}, pads = {pads}>(xd, wd)
    b = Relu(a)
    bq = QuantizeLinear(b, sy, zy)
    y = DequantizeLinear(bq, sy, zy)
}}"""


def qdq(kind: Any, k: int = 3) -> onnx.ModelProto:
    zero = 128 if kind is np.uint8 else 0
    low = np.random.default_rng(0).integers(-127, 128, (4, 3, k, k)).astype(np.int8)
    return build(
        QDQ.format(strides=[2, 2], pads=[k // 2] * 4), w=low, sw=np.float32(0.01), zw=np.int8(0), sx=np.float32(0.03),
        zx=kind(zero), sy=np.float32(0.05), zy=kind(0 if kind is np.uint8 else -128),
    )  # fmt: skip


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


def test_filter_7_is_refused_in_a_quantised_map() -> None:
    (planned,) = aarewrite.plan(qdq(np.int8), first_conv=True, filter=7).sites
    assert planned.reason == "the 7x7 taps do not fit int8: choose a smaller --filter for this quantised map"
    assert aarewrite.rewrite(qdq(np.int8), first_conv=True, filter=6).changed


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


# ---- scopes ------------------------------------------------------------------------------------------------

BRANCHES = """(float[1, 2, 9, 9] x, bool c) => (float[1, 2, 4, 4] y) {
    [If] y = If (c) <
        then_branch = yes () => (float[1, 2, 4, 4] a) {
            [pool] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) },
        else_branch = no () => (float[1, 2, 4, 4] b) {
            [pool] b = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }
    >
}"""


def test_sites_in_if_branches() -> None:
    model = build(BRANCHES)
    result = aarewrite.rewrite(model)
    assert {p.site.scope for p in result.plan.rewrites} == {"If/then_branch", "If/else_branch"}
    x = weight(1, 2, 9, 9)
    for flag, op in ((True, "MaxPool"), (False, "AveragePool")):
        expected = blur(dense(op, x, (2, 2), [(0, 0)] * 2), 3, (2, 2))
        assert relative_difference(run(result.model, x=x, c=np.array(flag))[0], expected) < EXACT
    assert not aarewrite.rewrite(result.model).changed
    one = aarewrite.plan(model, only=["If/then_branch/pool"])
    assert [p.site.op for p in one.rewrites] == ["MaxPool"]


def test_sites_in_loop_bodies() -> None:
    model = build("""(float[1, 2, 9, 9] x, int64 n) => (float[1, 2, 9, 9] last, float[M, 1, 2, 4, 4] y) {
        [Loop] last, y = Loop (n, , x) <body = step (int64 i, bool go, float[1, 2, 9, 9] state)
            => (bool keep, float[1, 2, 9, 9] next, float[1, 2, 4, 4] scan) {
            keep = Identity(go)
            next = Neg(state)
            [pool] scan = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(state)
        }>
    }""")
    result = aarewrite.rewrite(model)
    assert [p.site.scope for p in result.plan.rewrites] == ["Loop/body"]
    x = weight(1, 2, 9, 9)
    scanned = run(result.model, x=x, n=np.array(2))[1]
    for value, sign in zip(scanned, (1, -1), strict=True):
        expected = blur(dense("MaxPool", sign * x, (2, 2), [(0, 0)] * 2), 3, (2, 2))
        assert relative_difference(value, expected) < EXACT


def functions(
    calls: str, *bodies: str, inputs: str = "float[1, 2, 9, 9] x", outputs: str = "float[] y"
) -> onnx.ModelProto:
    return build(f"({inputs}) => ({outputs}) {{ {calls} }}\n" + "\n".join(bodies), imports=', "f" : 1, "g" : 1')


def function(name: str, body: str, domain: str = "f", parameters: str = "") -> str:
    return f'<domain: "{domain}", opset_import: ["" : 13]> {name}{parameters} (x) => (y) {{ {body} }}'


POOL = "[pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)"


def test_sites_in_functions() -> None:
    model = functions("a = f.Down(x) y = f.Down(a)", function("Down", POOL))
    result = aarewrite.rewrite(model)
    assert [p.site.scope for p in result.plan.rewrites] == ["function Down"]
    x = weight(1, 2, 9, 9)
    once = blur(dense("MaxPool", x, (2, 2), [(0, 0)] * 2), 3, (2, 2))
    expected = blur(dense("MaxPool", once, (2, 2), [(0, 0)] * 2), 3, (2, 2))
    assert relative_difference(run(result.model, x=x)[0], expected) < EXACT
    assert not aarewrite.rewrite(result.model).changed


def test_function_with_attribute_parameters() -> None:
    body = "[pool] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) y = LeakyRelu<alpha: float = @alpha>(a)"
    model = functions("y = f.Down<alpha = 0.5>(x)", function("Down", body, parameters="<alpha>"))
    result = aarewrite.rewrite(model)
    x = weight(1, 2, 9, 9)
    pooled = blur(dense("MaxPool", x, (2, 2), [(0, 0)] * 2), 3, (2, 2))
    assert relative_difference(run(result.model, x=x)[0], np.where(pooled < 0, 0.5 * pooled, pooled)) < EXACT


def test_function_called_with_differing_channel_counts() -> None:
    model = functions(
        "y = f.Down(x) w = Concat<axis = 1>(x, x) z = f.Down(w)", function("Down", POOL), outputs="float[] y, float[] z"
    )
    (planned,) = aarewrite.plan(model).sites
    assert planned.reason == (
        "its number of channels is not known statically, or differs between calls of the function"
    )
    assert aarewrite.rewrite(model).model.SerializeToString() == model.SerializeToString()


def test_functions_of_one_name_in_two_domains() -> None:
    other = "[pool] y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x)"
    model = functions(
        "y = f.Down(x) z = g.Down(x)",
        function("Down", POOL),
        function("Down", other, "g"),
        outputs="float[] y, float[] z",
    )
    result = aarewrite.rewrite(model)
    x = weight(1, 2, 9, 9)
    for value, op in zip(run(result.model, x=x), ("MaxPool", "AveragePool"), strict=True):
        assert relative_difference(value, blur(dense(op, x, (2, 2), [(0, 0)] * 2), 3, (2, 2))) < EXACT


def test_branches_inside_functions() -> None:
    body = """
        t = Constant<value = bool {1}>()
        y = If (t) <
            then_branch = yes () => (float[1, 2, 4, 4] a) {
            [pool] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) },
            else_branch = no () => (float[1, 2, 4, 4] b) {
            [pool] b = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }
        >"""
    model = functions("y = f.Down(x)", function("Down", body), outputs="float[1, 2, 4, 4] y")
    result = aarewrite.rewrite(model)
    assert all(p.match or p.reason for p in result.plan.sites)
    x = weight(1, 2, 9, 9)
    if result.changed:
        expected = blur(dense("MaxPool", x, (2, 2), [(0, 0)] * 2), 3, (2, 2))
        assert relative_difference(run(result.model, x=x)[0], expected) < EXACT
