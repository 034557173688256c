"""A blur in front of an operator that stays as it is."""

from __future__ import annotations

import pytest
from reference import blur, build, dense, ops, relative_difference, run, weight
from stages import before

import aarewrite

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
