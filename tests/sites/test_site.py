"""What a site says of itself."""

from __future__ import annotations

import dataclasses

import pytest
from reference import build, weight
from stages import TWO_POOLS, reasons, site_of

from aarewrite.sites.site import Site


def test_patch_embedding_is_left() -> None:
    model = build(
        "(float[1, 3, 32, 32] x) => (float[] y) { [patch] y = Conv<strides = [4, 4]>(x, w) }", w=weight(8, 3, 4, 4)
    )
    text = "patch embedding (kernel equals stride): dense evaluation costs the stride squared"
    assert reasons(model) == {"patch": text}
    assert reasons(model, first_conv=True) == {"patch": text}


def conv(kernel: int, stride: int) -> Site:
    text = f"(float[1, 3, 32, 32] x) => (float[] y) {{ [conv] y = Conv<strides = [{stride}, {stride}]>(x, w) }}"
    return site_of(build(text, w=weight(8, 3, kernel, kernel)), "conv")


@pytest.mark.parametrize(
    ("kernel", "stride", "first", "expected"),
    [
        (4, 4, True, True),
        (16, 16, True, True),
        (2, 2, True, True),
        (2, 2, False, False),  # a ConvNeXt's own downsampling is a site
        (4, 4, False, True),
        (3, 4, True, False),
        (4, 2, True, False),
    ],
)
def test_a_patch_embedding_has_kernel_and_stride_alike(kernel: int, stride: int, first: bool, expected: bool) -> None:
    assert dataclasses.replace(conv(kernel, stride), first_conv=first).patch_embedding is expected


def test_a_pool_is_no_patch_embedding() -> None:
    site = site_of(build(TWO_POOLS), "body/pool")
    assert site.window.kernel == site.strides == (2, 2)
    assert not dataclasses.replace(site, first_conv=True).patch_embedding


@pytest.mark.parametrize(("strides", "strided"), [((1, 1), False), ((1, 2), True), ((2, 1), True)])
def test_a_site_is_strided_where_any_axis_is_subsampled(strides: tuple[int, int], strided: bool) -> None:
    site = conv(3, 2)
    site = dataclasses.replace(site, window=dataclasses.replace(site.window, strides=strides))
    assert (site.strides, site.strided) == (strides, strided)


def test_what_a_site_knows_of_its_conv() -> None:
    model = build(
        """(float[1, 4, 12, 10] x) => (float[] y) {
        [first] a = Conv(x, w)
        [conv] b = Conv<strides = [2, 2], group = 2, pads = [1, 1, 1, 1]>(a, w2, shift)
        c = BatchNormalization(b, one, one, one, one)
        d = Relu(c)
        e = Conv<strides = [2, 2]>(a, w3)
        y = Add(d, e)
    }""",
        w=weight(4, 4, 1, 1), w2=weight(6, 2, 3, 3), w3=weight(6, 4, 1, 1), shift=weight(6), one=weight(6) ** 2,
    )  # fmt: skip
    site = site_of(model, "conv")
    assert (site.kind, site.input_channels, site.channels, site.group) == ("conv", 4, 6, 2)
    assert (site.input_size, site.output_size, site.stride_so_far) == ((12, 10), (6, 5), (1, 1))
    assert (site.dtype, site.input_dtype, site.quantised) == (1, 1, "")
    assert (site.bias, site.fused_bias, site.normalised, site.activation) == (True, False, True, True)
    assert (site.ends_in_add, site.first_conv, site.blurred_before, site.blurred_after) == (True, False, False, False)


@pytest.mark.parametrize("name", ["onnx::Conv_123", "conv.weight_bias"])
def test_a_bias_that_an_exporter_folded_is_known_by_its_name(name: str) -> None:
    model = build(
        "(float[1, 2, 9, 9] x) => (float[] y) { [conv] y = Conv<strides = [2, 2]>(x, w, shift) }",
        w=weight(2, 2, 3, 3), shift=weight(2),
    )  # fmt: skip
    assert not site_of(model, "conv").fused_bias
    for entry, new in zip(model.graph.initializer, ("conv.weight", name), strict=True):
        entry.name = new
    model.graph.node[0].input[1:] = ["conv.weight", name]
    assert site_of(model, "conv").fused_bias
