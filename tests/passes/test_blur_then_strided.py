"""A blur in front of an operator that stays as it is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from reference import blur, build, dense, ops, relative_difference, run, weight
from stages import before, site_of

import aarewrite
from aarewrite.passes.blur_then_strided import BlurThenStrided
from aarewrite.passes.contract import Skip

EXACT = 1e-6


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


def test_placement_before_keeps_the_conv_and_blurs_its_input() -> None:
    model = build(
        "(float[1, 2, 9, 9] x) => (float[] y) { [conv] y = Conv<strides = [2, 2]>(x, w) }", w=weight(4, 2, 3, 3)
    )
    result = aarewrite.rewrite(model, placement="before", first_conv=True)
    assert ops(result.model) == ["Pad", "Conv", "Conv"]
    assert result.model.graph.node[-1].name == "conv"


def strided() -> onnx.ModelProto:
    return build(
        "(float[1, 2, 11, 12] x) => (float[] y) { [conv] y = Conv<strides = [2, 2]>(x, w) }", w=weight(4, 2, 3, 3)
    )


def test_it_costs_the_blur_at_every_position_of_the_input() -> None:
    (planned,) = aarewrite.plan(strided(), placement="before", first_conv=True, filter=5).sites
    assert planned.match is not None
    assert planned.macs == (5 * 5 * 4 * 2 * 9, 5 * 5 * 4 * 2 * 9 + 11 * 12 * 2 * 25)
    assert planned.do.says(planned.site, planned.match) == "blur 5x5 stride 1x1 reflect -> Conv as it is"
    assert planned.match.window == planned.site.window


def test_a_single_tap_in_front_is_refused() -> None:
    (planned,) = aarewrite.plan(strided(), placement="before", first_conv=True, filter=1).sites
    assert planned.reason == "a single tap in front of it changes nothing"


@pytest.mark.parametrize("f", range(2, 8))
def test_even_filters_keep_the_size_too(f: int) -> None:
    x = weight(1, 2, 11, 12)
    result = aarewrite.rewrite(strided(), placement="before", first_conv=True, filter=f)
    expected = run(strided(), x=blur(x, f, (1, 1), every_axis=True).astype(np.float32))[0]
    assert relative_difference(run(result.model, x=x)[0], expected.astype(np.float64)) < EXACT
    assert result.proof is not None
    assert result.proof.unproven == ()


def test_the_filters_refusal_is_handed_on() -> None:
    site = site_of(strided(), "conv")
    assert BlurThenStrided(filter=4, strength=0.5).match(site) == Skip(
        "a strength below 1 needs an odd filter and a float map"
    )
