"""Shortcuts blurred on their input: the values of the after form at a part of its cost."""

from __future__ import annotations

import numpy as np
import pytest
from reference import attributes, build, node, relative_difference, run, weight

import aarewrite
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
    assert placements["shortcut"] == ("after" if pad == "zero" and biased else "input")


def test_blur_of_a_shortcut_leaves_other_readers_alone() -> None:
    model = build(SHORTCUT.format(bias=""), w0=weight(4, 3, 1, 1), w1=weight(4, 4, 1, 1))
    result = aarewrite.rewrite(model, skip=["pool"])
    assert list(node(result.model, "pool").input) == ["a"]
    assert list(node(result.model, "shortcut").input) == ["shortcut/blurred_input", "w1"]
    assert attributes(node(result.model, "shortcut"))["strides"] == [1, 1]
