"""What is a site, what is another aliasing source, what is left alone, each with its reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from reference import Array, attributes, build, node, ops, relative_difference, run, weight

import aarewrite
from aarewrite.filters import depthwise_kernel


def reasons(model: onnx.ModelProto, **options: Any) -> dict[str, str]:
    """Node name -> reason for every kept site and every other source."""
    plan = aarewrite.plan(model, **options)
    kept = {planned.site.node: planned.reason for planned in plan.sites if planned.match is None}
    return kept | {source.node: source.reason for source in plan.sources}


def conv(kernel: Array, *, group: int, stride: int = 2, channels: int = 0, size: int = 12) -> onnx.ModelProto:
    """A strided conv behind a stride-1 conv, so that it is not the first one."""
    channels = channels or kernel.shape[1] * group
    spatial = kernel.ndim - 2
    sizes = ", ".join([str(size)] * spatial)
    strides = [stride] * spatial
    return build(
        f"""(float[1, 3, {sizes}] x) => (float[] y) {{
        [first] a = Conv(x, w0)
        [conv] y = Conv<strides = {strides}, group = {group}>(a, w)
    }}""",
        w0=weight(channels, 3, *(1,) * spatial),
        w=kernel.astype(np.float32),
    )


# ---- blurs and look-alikes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("f", range(1, 8))
def test_existing_blurs_are_recognised(f: int, rank: int) -> None:
    model = conv(depthwise_kernel((f,) * rank, 4), group=4)
    assert reasons(model) == {"conv": "a blur already: left as it is"}
    assert not aarewrite.rewrite(model).changed


@pytest.mark.parametrize("f", range(1, 8))
def test_blurs_of_one_channel_are_recognised(f: int) -> None:
    assert reasons(conv(depthwise_kernel((f, f), 1), group=1)) == {"conv": "a blur already: left as it is"}


@pytest.mark.parametrize("form", ["Constant", "Identity"])
def test_kernels_may_be_nodes(form: str) -> None:
    taps = depthwise_kernel((3,), 2).astype(np.float32)
    constant = "Constant<value = float[2, 1, 3] {0.25, 0.5, 0.25, 0.25, 0.5, 0.25}>()"
    model = build(
        f"""(float[1, 2, 9] x) => (float[] y) {{
        [first] a = Conv(x, w0)
        k = {constant if form == "Constant" else "Identity(taps)"}
        [conv] y = Conv<strides = [2], group = 2>(a, k)
    }}""",
        w0=weight(2, 2, 1),
        **({} if form == "Constant" else {"taps": taps}),
    )
    assert reasons(model) == {"conv": "a blur already: left as it is"}


def test_depthwise_averaging_is_a_blur_but_others_are_sites() -> None:
    assert "conv" in reasons(conv(np.full((4, 1, 2, 2), 0.25), group=4))
    for kernel in (depthwise_kernel((3, 3), 4) * 2, weight(4, 1, 3, 3), -depthwise_kernel((3, 3), 4)):
        assert reasons(conv(kernel, group=4)) == {}


def test_haar_wavelet_is_left() -> None:
    pair = np.array([[0.5, 0.5], [-0.5, -0.5]])
    kernel = np.stack([np.full((2, 2), 0.5), pair, pair.T, [[0.5, -0.5], [-0.5, 0.5]]])[:, None]
    model = build(
        """(float[1, 3, 8, 8] x) => (float[] y) {
        m = ReduceMean<axes = [1]>(x)
        [dwt] y = Conv<strides = [2, 2]>(m, w)
    }""",
        w=kernel.astype(np.float32),
    )
    assert reasons(model) == {"dwt": "a Haar wavelet transform: loses nothing, left as it is"}
    one_axis = conv(np.array([[[0.7071, 0.7071]], [[0.7071, -0.7071]]]), group=2)
    assert reasons(one_axis) == {"conv": "a Haar wavelet transform: loses nothing, left as it is"}


def test_patch_embedding_is_left() -> None:
    model = build(
        "(float[1, 3, 32, 32] x) => (float[] y) { [patch] y = Conv<strides = [4, 4]>(x, w) }", w=weight(8, 3, 4, 4)
    )
    text = "patch embedding (kernel equals stride): dense evaluation costs the stride squared"
    assert reasons(model) == {"patch": text}
    assert reasons(model, first_conv=True) == {"patch": text}


def test_first_conv_is_left_unless_asked_for() -> None:
    model = build(
        """(float[1, 3, 16, 16] x) => (float[] y) {
        [one] a = Conv<strides = [2, 2]>(x, w)
        [two] y = Conv<strides = [2, 2]>(a, w)
    }""",
        w=weight(3, 3, 3, 3),
    )
    assert reasons(model) == {"one": "first conv: left strided by the recipe, use --first-conv to blur it"}
    assert reasons(model, first_conv=True) == {}


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
def test_global_pooling_is_no_site(op: str) -> None:
    text = "(float[1, 2, 7, 7] x) => (float[] y) {{ [pool] y = {}<kernel_shape = {}, strides = [2, 2]>(x) }}"
    plan = aarewrite.plan(build(text.format(op, [7, 7])))
    assert (plan.sites, plan.sources) == ((), ())
    plan = aarewrite.plan(build(text.format(op, [6, 6])))  # one output, the last row is not covered
    assert plan.sites == ()


def test_stride_1_pools_are_left() -> None:
    model = build(
        """(float[1, 2, 7, 7] x) => (float[] y) {
        [absent] a = MaxPool<kernel_shape = [3, 3]>(x)
        [spp] b = MaxPool<kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1]>(a)
        [average] y = AveragePool<kernel_shape = [3, 3]>(b)
    }"""
    )
    assert set(reasons(model).values()) <= {"stride 1: nothing is sampled"}
    assert not aarewrite.rewrite(model).changed


# ---- indices -----------------------------------------------------------------------------------------------


def test_consumed_indices_are_a_reason() -> None:
    pool = "[pool] y, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)"
    text = "its Indices output is used: they name positions of the strided map"
    assert reasons(build(f"(float[1, 2, 8, 8] x) => (float[] y, int64[] i) {{ {pool} }}")) == {"pool": text}
    unpool = "u = MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]>(y, i)"
    assert reasons(build(f"(float[1, 2, 8, 8] x) => (float[] u) {{ {pool} {unpool} }}")) == {"pool": text}


def test_unconsumed_indices_are_dropped() -> None:
    model = build(
        "(float[1, 2, 8, 8] x) => (float[] y) { "
        "[pool] y, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2], storage_order = 1>(x) }"
    )
    result = aarewrite.rewrite(model)
    assert len(node(result.model, "pool").output) == 1
    assert ops(result.model) == ["MaxPool", "Pad", "Conv"]
    assert attributes(node(result.model, "pool"))["storage_order"] == 1


# ---- other sources -----------------------------------------------------------------------------------------

SOURCES = {
    "strided_slice": (
        "y = Slice(x, starts, ends, axes, steps)",
        {"starts": np.array([0]), "ends": np.array([8]), "axes": np.array([2]), "steps": np.array([2])},
        "a strided Slice (steps 2) keeps every n-th sample",
    ),
    "strided_slice_by_negative_axis": (
        "y = Slice(x, starts, ends, axes, steps)",
        {"starts": np.array([0]), "ends": np.array([8]), "axes": np.array([-1]), "steps": np.array([3])},
        "a strided Slice (steps 3) keeps every n-th sample",
    ),
    "strided_slice_with_shaped_constants": (
        "s = Reshape(steps, flat) y = Slice(x, starts, ends, axes, s)",
        {"starts": np.array([0]), "ends": np.array([8]), "axes": np.array([2]), "steps": np.array(2),
         "flat": np.array([-1])},
        "a strided Slice (steps 2) keeps every n-th sample",
    ),
    "nearest_resize": (
        'y = Resize<mode = "nearest">(x, , scales)',
        {"scales": np.array([1, 1, 0.5, 0.5], np.float32)},
        "Resize down by 0.5 (nearest) without antialias: set antialias=1 (opset 18)",
    ),
    "linear_resize_below_a_half": (
        'y = Resize<mode = "linear">(x, , scales)',
        {"scales": np.array([1, 1, 0.25, 0.25], np.float32)},
        "Resize down by 0.25 (linear) without antialias",
    ),
    "resize_by_sizes": (
        'y = Resize<mode = "nearest">(x, , , sizes)',
        {"sizes": np.array([1, 4, 4, 4])},
        "Resize down by 0.5 (nearest) without antialias",
    ),
    "space_to_depth": (
        "y = SpaceToDepth<blocksize = 2>(x)", {}, "keeps every sample but splits the phases into channels",
    ),
    "regular_gather": (
        "y = Gather<axis = 2>(x, rows)", {"rows": np.array([0, 2, 4, 6])},
        "gathers every n-th position (patch merging)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_other_aliasing_sources_are_reported(name: str) -> None:
    body, constants, reason = SOURCES[name]
    model = build(f"(float[1, 4, 8, 8] x) => (float[] y) {{ {body} }}", opset=13, **constants)
    (source,) = aarewrite.plan(model).sources
    assert source.reason.startswith(reason)
    assert source.node == "y"
    assert aarewrite.rewrite(model).model.SerializeToString() == model.SerializeToString()


HARMLESS = {
    "slice": ("y = Slice(x, starts, ends, axes, steps)",
              {"starts": np.array([0]), "ends": np.array([8]), "axes": np.array([2]), "steps": np.array([1])}),
    "batch_slice": ("y = Slice(x, starts, ends, axes, steps)",
                    {"starts": np.array([0]), "ends": np.array([8]), "axes": np.array([0]), "steps": np.array([2])}),
    "batch_slice_by_negative_axis": ("y = Slice(x, starts, ends, axes, steps)",
                    {"starts": np.array([0]), "ends": np.array([8]), "axes": np.array([-4]), "steps": np.array([2])}),
    "reversal": ("y = Slice(x, starts, ends, axes, steps)",
              {"starts": np.array([7]), "ends": np.array([-9]), "axes": np.array([2]), "steps": np.array([-1])}),
    "upsampling": ('y = Resize<mode = "nearest">(x, , scales)', {"scales": np.array([1, 1, 2, 2], np.float32)}),
    "linear_to_half": ('y = Resize<mode = "linear">(x, , scales)', {"scales": np.array([1, 1, 0.5, 0.5], np.float32)}),
    "permuting_gather": ("y = Gather<axis = 1>(x, rows)", {"rows": np.array([3, 1, 2, 0])}),
    "contiguous_gather": ("y = Gather<axis = 2>(x, rows)", {"rows": np.array([0, 1, 2, 3])}),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_not_alias_is_not_reported(name: str) -> None:
    body, constants = HARMLESS[name]
    model = build(f"(float[1, 4, 8, 8] x) => (float[] y) {{ {body} }}", **constants)
    assert aarewrite.plan(model).sources == ()


def test_antialiased_resize_is_not_reported() -> None:
    model = build(
        '(float[1, 4, 8, 8] x) => (float[] y) { y = Resize<mode = "linear", antialias = 1>(x, , scales) }',
        opset=18,
        scales=np.array([1, 1, 0.25, 0.25], np.float32),
    )
    assert aarewrite.plan(model).sources == ()


def test_strided_operators_of_other_domains_are_reported() -> None:
    model = build(
        """(float[1, 4, 8, 8] x) => (float[1, 4, 4, 4] y) {
        [fused] y = com.microsoft.FusedConv<strides = [2, 2], kernel_shape = [1, 1]>(x, w)
    }""",
        imports=', "com.microsoft" : 1',
        w=weight(4, 4, 1, 1),
    )
    assert reasons(model) == {
        "fused": "strided com.microsoft operator: rewrite the model before it is quantised or fused"
    }


# ---- weights and channels ----------------------------------------------------------------------------------


def test_shared_weights_are_not_touched() -> None:
    w = weight(3, 3, 3, 3)
    model = build(
        """(float[1, 3, 16, 16] x) => (float[] y, float[] z) {
        [one] a = Conv<pads = [1, 1, 1, 1]>(x, w)
        [two] y = Conv<strides = [2, 2]>(a, w)
        [three] z = Conv<strides = [1, 2]>(a, w)
    }""",
        w=w,
    )
    result = aarewrite.rewrite(model)
    assert len(result.plan.rewrites) == 2
    assert next(t for t in result.model.graph.initializer if t.name == "w") == model.graph.initializer[0]


def test_dynamic_weights_need_only_the_channel_count() -> None:
    model = build("""(float[1, 2, 9, 9] x, float[4, 2, 3, 3] w) => (float[] y) {
        [conv] a = Conv<strides = [2, 2]>(x, w)
        y = Relu(a)
    }""")
    result = aarewrite.rewrite(model, first_conv=True, filter=1)
    assert ops(result.model) == ["Conv", "Relu", "Conv"]
    feeds = {"x": weight(1, 2, 9, 9), "w": weight(4, 2, 3, 3, seed=1)}
    assert relative_difference(run(result.model, **feeds)[0], run(model, **feeds)[0]) < 1e-6


def test_unknown_channels_are_a_reason() -> None:
    model = build(
        "(float[1, C, 9, 9] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    assert reasons(model) == {
        "pool": "its number of channels is not known statically, or differs between calls of the function"
    }


def test_integer_maps_without_a_scale_are_a_reason() -> None:
    model = build(
        "(uint8[1, 2, 9, 9] x) => (uint8[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    assert reasons(model) == {"pool": "an integer map without constant scalar scale and zero point: a blur needs both"}


@pytest.mark.parametrize("attribute", ["kernel_shape", "strides"])
def test_attribute_parameters_of_functions_are_a_reason(attribute: str) -> None:
    given = {"kernel_shape": "[2, 2]", "strides": "[2, 2]"}
    other = next(name for name in given if name != attribute)
    model = build(
        f"""(float[1, 2, 9, 9] x) => (float[] y) {{ y = local.Down<{attribute} = {given[attribute]}>(x) }}
        <domain: "local", opset_import: ["" : 13]>
        Down<{attribute}>(x) => (y) {{
            [pool] y = MaxPool<{attribute}: ints = @{attribute}, {other}: ints = {given[other]}>(x)
        }}""",
        imports=', "local" : 1',
    )
    assert reasons(model) == {
        "pool": f"its {attribute} is a parameter of the function: inline the function to rewrite it"
    }


def test_nodes_without_or_with_equal_names_are_told_apart() -> None:
    model = build("""(float[1, 2, 32, 32] x) => (float[] c) {
        [same] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        [same] b = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)
        c = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(b)
    }""")
    plan = aarewrite.plan(model, skip=["b"])
    assert [(p.site.node, p.match is not None) for p in plan.sites] == [("a", True), ("b", False), ("c", True)]


def test_a_name_that_is_also_an_output_is_told_apart() -> None:
    """An unnamed node is called by its output, which may be another node's name."""
    model = build("""(float[1, 2, 32, 32] x) => (float[] c) {
        [b] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        b = MaxPool<kernel_shape = [3, 3], strides = [3, 3]>(a)
        c = Relu(b)
    }""")
    result = aarewrite.rewrite(model)
    assert len(result.plan.rewrites) == 2
    assert len({p.site.node for p in result.plan.sites}) == 2


def test_stride_so_far_multiplies() -> None:
    model = build("""(float[1, 2, 32, 48] x) => (float[] c) {
        [one] a = MaxPool<kernel_shape = [2, 2], strides = [2, 1]>(x)
        [two] b = MaxPool<kernel_shape = [2, 2], strides = [2, 3]>(a)
        [three] c = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(b)
    }""")
    assert [p.site.stride_so_far for p in aarewrite.plan(model).sites] == [(1, 1), (2, 1), (4, 3)]


def test_a_conv_in_a_loop_body_is_no_first_conv() -> None:
    model = build(
        """(float[1, 2, 16, 16] x, int64 n, bool go) => (float[] y) {
        [stem] a = Conv(x, w1)
        [loop] y = Loop (n, go, a) <
            body = step (int64 i, bool c, float[1, 2, h, k] v) => (bool d, float[1, 2, h2, k2] u) {
                d = Identity(c)
                [conv] s = Conv<strides = [2, 2]>(v, w1)
                u = Relu(s)
            }
        >
    }""",
        w1=weight(2, 2, 1, 1),
    )
    assert [p.site.first_conv for p in aarewrite.plan(model).sites] == [False]


@pytest.mark.parametrize(
    "text",
    [
        "[site] y = MaxPool<strides = [2, 2]>(x)",
        "[site] y = Conv<strides = [2, 2]>(x)",
        "[site] y = MaxPool<kernel_shape = [2, 2], strides = [2]>(x)",
        "[site] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2], pads = [1, 1]>(x)",
        "[site] y = MaxPool<kernel_shape = [2, 2], strides = [0, 2]>(x)",
    ],
)
def test_invalid_operators_are_left_with_a_reason(text: str) -> None:
    plan = aarewrite.plan(build(f"(float[1, 2, 8, 8] x) => (float[] y) {{ {text} }}"))
    assert not plan.rewrites
    assert all(source.reason for source in plan.sources)


@pytest.mark.parametrize("form", ["k = Expand(one, shape)", "k = Tile(one, shape)", "k = Concat<axis = 0>(one, one)"])
def test_kernels_may_be_computed_from_constants(form: str) -> None:
    one = depthwise_kernel((3,), 1).astype(np.float32)
    model = build(
        f"""(float[1, 2, 9] x) => (float[] y) {{
        [first] a = Conv(x, w0)
        {form}
        [conv] y = Conv<strides = [2], group = 2>(a, k)
    }}""",
        w0=weight(2, 2, 1), one=one, **({} if "Concat" in form else {"shape": np.array([2, 1, 1])}),
    )  # fmt: skip
    assert reasons(model)["conv"] == "a blur already: left as it is"


def test_macs_of_a_model() -> None:
    model = build("(float[1, 2, 8, 8] x) => (float[] y) { y = Conv(x, w) }", w=weight(2, 2, 1, 1))
    once = aarewrite.plan(model).macs
    assert once == 8 * 8 * 2 * 2
