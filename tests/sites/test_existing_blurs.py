"""Blurs that are in a model already, their look-alikes, and wavelets."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from reference import Array, build, ops, qdq, weight
from stages import blurs, filtered, reasons, site_of

import aarewrite
from aarewrite.filters import depthwise_kernel
from aarewrite.recipe import Recipe
from aarewrite.sites.site import ExistingBlur


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


@pytest.mark.parametrize(
    ("record", "reasons_given"),
    [
        ({}, {}),
        ({"low": {"samples_by": [1]}}, {"conv": "a blur is next to it already"}),
        ({"low": {"samples_by": [2]}}, {}),  # it belongs to the sampling in front of it
        ({"low": {"samples_by": "2"}}, {}),
        ({"low": {"samples_by": ["one"]}}, {}),
        ({"low": {"samples_by": []}}, {}),
    ],
)
def test_what_is_no_convolution_is_known_by_its_record(
    record: dict[str, object], reasons_given: dict[str, str]
) -> None:
    model = build(
        """(float[1, 3, 16] x) => (float[] y) {
        [first] a = Conv(x, w)
        [low] b = MatMul(a, low)
        [conv] y = Conv<strides = [2]>(b, w)
    }""",
        w=weight(3, 3, 1),
        low=np.eye(16, dtype=np.float32),
    )
    model.metadata_props.add(key="aarewrite.blurs", value=json.dumps(record))
    assert reasons(model) == reasons_given


def test_readers_of_a_map_are_known_by_their_record() -> None:
    model = build(
        """(float[1, 3, 16] x) => (float[] y) {
        [pool] a = MaxPool<kernel_shape = [2], pads = [0, 1]>(x)
        b = Identity(a)
        y = MatMul(b, low)
    }""",
        low=np.eye(16, dtype=np.float32)[:, ::2],
    )
    model.graph.node[1].name, model.graph.node[2].name = "pool/blur/Turn", "pool/blur/Low"
    every = Recipe(unit_stride_max_pool=True)
    assert aarewrite.plan(model, every).sites[0].action == "blur"
    model.metadata_props.add(key="aarewrite.blurs", value=json.dumps({"pool/blur/Low": {"samples_by": [2]}}))
    assert aarewrite.plan(model, every).sites[0].reason == "a blur is next to it already"


# ---- beside a site -----------------------------------------------------------------------------------------

BLUR = "Conv<group = 2, pads = [1, 1, 1, 1]>"
POOLED = "MaxPool<kernel_shape = [2, 2], strides = [2, 2]>"


@pytest.mark.parametrize(
    ("text", "site", "found"),
    [
        (f"b = {BLUR}(x, taps) [site] y = Conv<strides = [2, 2]>(b, w)", "before", True),
        ("b = Conv<group = 2>(x, single) [site] y = Conv<strides = [2, 2]>(b, w)", "before", False),
        ("b = Conv<group = 2, strides = [2, 2]>(x, taps) [site] y = Conv<strides = [2, 2]>(b, w)", "before", False),
        ("b = Conv(x, w) [site] y = Conv<strides = [2, 2]>(b, w)", "before", False),
        (f"[site] a = {POOLED}(x) y = {BLUR}(a, taps)", "after", True),
        (f"[site] a = {POOLED}(x) y = Conv<group = 2, strides = [2, 2]>(a, taps)", "after", True),
        (f'[site] a = {POOLED}(x) p = Pad<mode = "reflect">(a, pads) y = Conv<group = 2>(p, taps)', "after", True),
        (f"[site] a = {POOLED}(x) b = {BLUR}(a, taps) c = Relu(a) y = Add(b, c)", "after", False),
        (f"[site] y = {POOLED}(x)", "after", False),
        (f"[site] a = Conv<strides = [2, 2]>(x, w) r = Relu(a) y = {BLUR}(r, taps)", "after", True),
    ],
)
def test_a_blur_next_to_a_site_is_seen(text: str, site: str, found: bool) -> None:
    constants = {
        "taps": depthwise_kernel((3, 3), 2).astype(np.float32),
        "single": depthwise_kernel((1, 1), 2).astype(np.float32),
        "w": weight(2, 2, 3, 3), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    }  # fmt: skip
    words = set(text.replace(")", " ").replace(",", " ").split())
    used = {name: value for name, value in constants.items() if name in words}
    sides = site_of(build(f"(float[1, 2, 16, 16] x) => (float[] y) {{ {text} }}", **used), "site")
    assert (sides.blurred_before, sides.blurred_after) == (site == "before" and found, site == "after" and found)


def test_a_quantised_blur_is_seen_by_its_real_taps() -> None:
    first = aarewrite.rewrite(qdq(np.uint8), first_conv=True)
    assert [p.reason for p in aarewrite.plan(first.model, first_conv=True).sites] == []
    assert [s.reason for s in aarewrite.plan(first.model, first_conv=True).sources] == ["a blur already: left as it is"]


def test_a_recorded_slice_is_told_from_any_other() -> None:
    pooled = build(
        "(double[1, 2, 9, 9] x) => (double[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    model = aarewrite.rewrite(pooled).model
    assert "Slice" in ops(model)
    assert aarewrite.plan(model).sources == ()
    kept = [entry for entry in model.metadata_props if entry.key != "aarewrite.blurs"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    assert {source.op for source in aarewrite.plan(model).sources} == {"Slice"}


@pytest.mark.parametrize(
    ("kernel", "strides", "wavelet"),
    [
        ([[0.5, 0.5], [0.5, -0.5]], 2, True),
        ([[0.5, 0.5], [0.5, -0.5]], 1, False),
        ([[1.0, 1.0], [1.0, -1.0]], 2, False),  # not orthonormal
        ([[0.5, 0.5], [0.4, -0.5]], 2, False),
    ],
)
def test_a_wavelet_has_orthonormal_taps_at_its_own_stride(
    kernel: list[list[float]], strides: int, wavelet: bool
) -> None:
    model = conv(np.array([[kernel]] * 3), group=3, stride=strides)
    assert ("a Haar wavelet transform: loses nothing, left as it is" in reasons(model).values()) is wavelet


# ---- forms of libraries --------------------------------------------------------------------------------------


STYLE = """[first] a = Conv<pads = [1, 1, 1, 1]>(x, w) f = Reshape(a, singles)
    [blur] b = Conv(f, single) c = Reshape(b, back) [conv] y = Conv<strides = [2, 2]>(c, w)"""


def test_channels_as_images_of_their_own() -> None:
    """FIR between reshapes: the strided convolution behind it is left, and so are strided slices."""
    model = filtered(STYLE)
    assert blurs(model)["blur"].kernel == (4, 4)
    assert reasons(model)["conv"] == "a blur is next to it already"
    sliced = filtered("""f = Reshape(x, singles) [blur] b = Conv(f, single)
        [rows_cut] r = Slice(b, start, end, rows, by)
        [columns_cut] y = Slice(r, start, end, columns, by)""")
    left = "keeps every n-th sample of what is blurred already: left as it is"
    assert reasons(sliced) == {"blur": "a blur already: left as it is", "rows_cut": left, "columns_cut": left}


def test_who_reads_only_a_shape_or_a_type_is_no_reader() -> None:
    model = filtered("""[pool] m = MaxPool<kernel_shape = [2, 2]>(x) s = Shape(m) none = Constant<value_float = 0.0>()
        zero = CastLike(none, m) cs = Gather(s, one) bias = Expand(zero, cs)
        [blur] y = Conv<group = 2, strides = [2, 2]>(m, taps, bias)""", one=np.array([1]))  # fmt: skip
    every = Recipe(unit_stride_max_pool=True)
    assert aarewrite.plan(model, every).sites[0].reason == "a blur is next to it already"


@pytest.mark.parametrize(
    ("kernel", "mixed"), [(np.eye(4), False), (np.eye(4)[::-1], True), (np.eye(4) + 0.01 * (np.arange(4) == 3), True)]
)
def test_a_dense_kernel_may_filter_every_channel_alone(kernel: Array, mixed: bool) -> None:
    dense = kernel[:, :, None, None] * depthwise_kernel((3, 3), 1)[0, 0]
    assert (reasons(conv(dense, group=1)) == {"conv": "a blur already: left as it is"}) is not mixed


@pytest.mark.parametrize("size", [6, 8, 12, 16])
def test_sincs_in_a_window_are_low_pass(size: int) -> None:
    """They overshoot by less than a hundredth, and have small negative taps."""
    places = np.arange(size) - (size - 1) / 2
    taps = np.sinc(places / 2) * np.kaiser(size, 4.66)
    model = conv(np.broadcast_to(taps / taps.sum(), (4, 1, size)), group=4, size=32)
    found = blurs(model)["conv"]
    assert found.kernel == (size,)
    assert found.taps is not None
    assert min(found.taps[0]) < 0
    assert sum(found.taps[0]) == pytest.approx(1)


SHARED = Path(os.environ.get("AAREWRITE_SHARED", Path(__file__).parents[2].parent / "shared")) / "cases"


@pytest.mark.parametrize(
    ("case", "kernels", "folded"),
    [
        ("21-stylegan2-fir-ts", [(4, 4), (4, 4)], True),
        ("22e-maxblurpool-dynamo-dyn", [(3, 3), (3, 3)], False),
        ("22f-maxblurpool-dynamo-static", [(3, 3), (3, 3)], False),
        ("23-gauss-before-strided", [(5, 5)], True),
        ("23b-gauss-nofold", [(5, 5)], True),
        ("23d-gauss-dynamo-opt", [(5, 5)], False),
    ],
)
def test_exports_of_public_reports(case: str, kernels: list[tuple[int, int]], folded: bool) -> None:
    """Nothing is blurred twice, and what is computed from constants is constant behind."""
    path = SHARED / f"{case}.onnx"
    if not path.is_file():
        pytest.skip(f"{path.name} is not at hand")
    result = aarewrite.rewrite(path)
    assert [source.kernel for source in result.plan.sources if isinstance(source, ExistingBlur)] == kernels
    assert result.plan.rewrites == ()
    assert result.changed is folded
    assert (result.proof is not None and result.proof.passed) is folded
    initializers = {tensor.name for tensor in result.model.graph.initializer}
    assert all(node.input[1] in initializers for node in result.model.graph.node if node.op_type == "Pad")
    assert not aarewrite.rewrite(result.model).changed
