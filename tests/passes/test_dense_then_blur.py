"""The operator dense and its blur behind it: values against the independent reference, geometry, strides kept."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from reference import attributes, blur, build, dense, initializer, node, ops, relative_difference, run, weight
from stages import site_of, three_sites

import aarewrite
from aarewrite.passes.contract import Match, SiteOptions, Skip
from aarewrite.passes.dense_then_blur import DenseThenBlur
from aarewrite.recipe import Recipe

EXACT = 1e-6


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


def strided(kernel: int = 3, stride: int = 4, pads: int = 1) -> onnx.ModelProto:
    return build(
        f"(float[1, 3, 31, 31] x) => (float[] y) {{ [conv] a = Conv<strides = {[stride] * 2}, pads = {[pads] * 4}>"
        "(x, w, shift) y = Relu(a) }",
        w=weight(4, 3, kernel, kernel), shift=weight(4, seed=1),
    )  # fmt: skip


def test_it_costs_the_operator_at_every_position_and_the_blur_at_those_that_stay() -> None:
    planned = aarewrite.plan(strided(), first_conv=True).sites[0]
    assert planned.match is not None
    assert planned.macs == (8 * 8 * 4 * 27, 31 * 31 * 4 * 27 + 8 * 8 * 4 * 9)
    assert planned.do.says(planned.site, planned.match) == "Conv stride 1x1 -> blur 3x3 stride 4x4 reflect"


def test_a_stride_is_split_between_operator_and_blur() -> None:
    site = site_of(strided(), "conv")
    match = DenseThenBlur(keep_stride=2).match(site)
    assert isinstance(match, Match)
    assert (match.window.strides, match.blur.strides, match.proven) == ((2, 2), (2, 2), True)
    assert DenseThenBlur(keep_stride=2).macs(site, match, 8 * 8 * 100, (31, 31), (8, 8)) == (
        16 * 16 * 100 + 8 * 8 * 4 * 9
    )
    assert DenseThenBlur(keep_stride=3).match(site) == Skip("stride 4x4 cannot be split into 3 and a blur")


def test_only_a_max_pools_window_shrinks() -> None:
    assert DenseThenBlur(max_window=2).match(site_of(strided(), "conv")) == Skip(
        "only a MaxPool has a window that can shrink"
    )
    match = DenseThenBlur(max_window=2).match(site_of(three_sites(32), "pool1"))
    assert isinstance(match, Match)
    assert (match.window.kernel, match.window.begin, match.window.end) == ((2, 2), (0, 0), (0, 0))
    assert (match.proven, match.notes) == (False, ("max window 3x3 -> 2x2: a changed operator, not proven",))


@pytest.mark.parametrize(
    ("options", "first", "stride", "keep"),
    [
        ({}, True, 4, 1),
        ({"halve_stem": True}, True, 4, 2),
        ({"halve_stem": True}, False, 4, 1),
        ({"halve_stem": True}, True, 2, 1),
    ],
)
def test_a_stem_of_stride_4_keeps_half_where_it_is_asked_for(
    options: dict[str, bool], first: bool, stride: int, keep: int
) -> None:
    site = dataclasses.replace(site_of(strided(stride=stride), "conv"), first_conv=first)
    assert DenseThenBlur.wanted(site, SiteOptions(**options)).keep_stride == keep


@pytest.mark.parametrize(("largest", "window"), [(0, 0), (2, 2), (3, 0), (5, 0)])
def test_a_window_shrinks_where_it_is_larger(largest: int, window: int) -> None:
    site = site_of(three_sites(), "pool1")
    assert DenseThenBlur.wanted(site, SiteOptions(max_window=largest)).max_window == window


def test_a_folded_shift_moves_behind_the_blur_of_the_conv_itself() -> None:
    """With zero pads the blur of a shifted map would be darker at the border: the shift is added behind it."""
    model = strided(stride=2)
    for entry, new in zip(model.graph.initializer, ("c.weight", "c.weight_bias"), strict=True):
        entry.name = new
    model.graph.node[0].input[1:] = ["c.weight", "c.weight_bias"]
    result = aarewrite.rewrite(model, recipe=Recipe(first_conv=True, after="conv", pad="zero"))
    (note,) = result.plan.sites[0].notes
    assert note == "the conv's bias is a folded BatchNormalization's shift: it moves behind the blur"
    assert ops(result.model) == ["Conv", "Conv", "Relu"]
    assert [len(one.input) for one in result.model.graph.node] == [2, 3, 1]
    x, w, shift = weight(1, 3, 31, 31), weight(4, 3, 3, 3), weight(4, seed=1)
    blurred = blur(dense("Conv", x, (3, 3), [(1, 1)] * 2, w=w), 3, (2, 2), "zero")
    expected = np.maximum(blurred + shift.reshape(1, 4, 1, 1), 0)
    assert relative_difference(run(result.model, x=x)[0], expected) < EXACT


def test_after_the_conv_the_blur_is_in_front_of_the_activation() -> None:
    result = aarewrite.rewrite(strided(stride=2), recipe=Recipe(first_conv=True, after="conv"))
    assert ops(result.model) == ["Conv", "Pad", "Conv", "Relu"]
    assert result.plan.sites[0].notes == ()
    x, w, shift = weight(1, 3, 31, 31), weight(4, 3, 3, 3), weight(4, seed=1)
    full = dense("Conv", x, (3, 3), [(1, 1)] * 2, w=w, bias=shift)
    assert relative_difference(run(result.model, x=x)[0], np.maximum(blur(full, 3, (2, 2)), 0)) < EXACT
