"""Shortcuts blurred on their input: the values of the after form at a part of its cost."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from reference import attributes, build, node, relative_difference, run, weight
from stages import site_of

import aarewrite
from aarewrite.passes.blur_input import BlurInput
from aarewrite.passes.contract import SiteOptions, Skip
from aarewrite.recipe import Recipe

EXACT = 1e-6


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
    assert placements["shortcut"] == "input"


@pytest.mark.parametrize("filter", [1, 2, 3, 5])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_with_zero_pads_a_bias_counts_less_at_the_border(filter: int, strength: float) -> None:
    if strength < 1 and filter % 2 == 0:
        return  # no centre to mix with
    values = {"w0": weight(4, 3, 1, 1), "w1": weight(4, 4, 1, 1, seed=1), "b1": weight(4)}
    model = build(SHORTCUT.format(bias=", b1"), **values)
    recipe = Recipe(pad="zero", filter=filter, strength=strength)
    result = aarewrite.rewrite(model, recipe=recipe)
    after = aarewrite.rewrite(model, recipe=dataclasses.replace(recipe, shortcut="conv"))
    x = weight(1, 3, 11, 12)
    assert relative_difference(run(result.model, x=x)[0], run(after.model, x=x)[0].astype(np.float64)) < EXACT
    shortcut = node(result.model, "shortcut")
    assert len(shortcut.input) == 2
    assert attributes(shortcut)["strides"] == [1, 1]
    assert "b" in [name for one in result.model.graph.node if one.op_type == "Add" for name in one.output]


def test_blur_of_a_shortcut_leaves_other_readers_alone() -> None:
    model = build(SHORTCUT.format(bias=""), w0=weight(4, 3, 1, 1), w1=weight(4, 4, 1, 1))
    result = aarewrite.rewrite(model, skip=["pool"])
    assert list(node(result.model, "pool").input) == ["a"]
    assert list(node(result.model, "shortcut").input) == ["shortcut/blurred_input", "w1"]
    assert attributes(node(result.model, "shortcut"))["strides"] == [1, 1]


def test_it_costs_the_conv_as_it_was_and_the_blur_in_front() -> None:
    model = build(
        """(float[1, 3, 11, 12] x) => (float[] y) {
        [first] a = Conv(x, w0)
        [shortcut] b = Conv<strides = [2, 2]>(a, w1)
        [other] c = Conv<strides = [2, 2]>(a, w1)
        y = Add(b, c)
    }""",
        w0=weight(4, 3, 1, 1), w1=weight(6, 4, 1, 1),
    )  # fmt: skip
    planned = aarewrite.plan(model).sites[0]
    assert planned.match is not None
    assert planned.macs == (6 * 6 * 6 * 4, 6 * 6 * 6 * 4 + 6 * 6 * 4 * 9)
    assert planned.do.says(planned.site, planned.match) == "blur 3x3 stride 2x2 reflect -> Conv stride 1"


@pytest.mark.parametrize(
    ("options", "change", "wanted"),
    [
        ({}, {}, True),
        ({"shortcut": "conv"}, {}, False),
        ({}, {"activation": True}, False),
        ({"pad": "zero"}, {}, True),
        ({"pad": "zero"}, {"bias": True}, True),
        ({"pad": "zero"}, {"bias": True, "input_size": (None, 12)}, False),
        ({"pad": "zero"}, {"bias": True, "quantised": "qdq"}, False),
        ({"pad": "zero"}, {"normalised": True}, False),
        ({}, {"bias": True}, True),
        ({}, {"kind": "max_pool"}, False),
    ],
)
def test_it_is_wanted_where_blur_and_conv_commute(
    options: dict[str, str], change: dict[str, Any], wanted: bool
) -> None:
    model = build(
        "(float[1, 4, 11, 12] x) => (float[] y) { [conv] y = Conv<strides = [2, 2]>(x, w) }", w=weight(4, 4, 1, 1)
    )
    site = dataclasses.replace(site_of(model, "conv"), **change)
    assert (BlurInput.wanted(site, SiteOptions(**options)) is not None) is wanted


@pytest.mark.parametrize(("kernel", "pads"), [(3, 0), (3, 1), (1, 1)])
def test_a_wider_or_padded_conv_is_blurred_behind(kernel: int, pads: int) -> None:
    model = build(
        f"(float[1, 4, 11, 12] x) => (float[] y) {{ [conv] y = Conv<strides = [2, 2], pads = {[pads] * 4}>(x, w) }}",
        w=weight(4, 4, kernel, kernel),
    )
    site = site_of(model, "conv")
    assert BlurInput.wanted(site, SiteOptions()) is None
    if kernel > 1:
        assert BlurInput().match(site) == Skip("only a 1x1 conv can be blurred on its input instead of behind it")
