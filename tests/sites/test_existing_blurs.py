"""Blurs that are in a model already, their look-alikes, and wavelets."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from reference import Array, build, ops, qdq, weight
from stages import reasons, site_of

import aarewrite
from aarewrite.filters import depthwise_kernel
from aarewrite.recipe import Recipe


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
        "w": weight(2, 2, 1, 1), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
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
