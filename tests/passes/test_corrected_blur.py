"""Zero pads and a corrected border: exact wherever first and last outputs alone read beyond the map."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from padded import blurred, padded
from reference import build, ops, relative_difference, run, weight

import aarewrite
from aarewrite.model.index import open_graph
from aarewrite.model.runner import Model
from aarewrite.recipe import Recipe
from aarewrite.verification.equivariance import find_layers

EXACT = 1e-6


@settings(max_examples=60, deadline=None)
@given(
    taps_and_stride=st.sampled_from([(3, 2), (3, 3), (3, 4), (5, 3), (5, 4), (7, 4)]),
    size=st.tuples(st.integers(8, 19), st.integers(8, 19)),
    strength=st.sampled_from([0.25, 0.5, 0.75]),
)
def test_any_strength_and_size(taps_and_stride: tuple[int, int], size: tuple[int, int], strength: float) -> None:
    f, stride = taps_and_stride
    result = aarewrite.rewrite(padded(size, (f, f), (stride, stride), strength=strength), target="portable")
    assert [one.form for one in result.lowered] == ["zero pads, corrected"]
    assert set(ops(result.model)) == {"Conv", "Add"}
    x, pads = weight(1, 16, *size), (f // 2, f // 2)
    expected = blurred(x, (f, f), (stride, stride), pads, pads, strength)
    assert relative_difference(run(result.model, x=x)[0], expected) < EXACT


def test_an_even_size_has_one_border_an_axis_and_an_odd_one_two() -> None:
    even, odd = (aarewrite.rewrite(padded((n, n), (3, 3), (2, 2), strength=0.5), target="portable") for n in (12, 13))
    assert (ops(even.model).count("Conv"), ops(odd.model).count("Conv")) == (7, 17)
    one_axis = aarewrite.rewrite(padded((12, 12), (3, 1), (2, 1), strength=0.5), target="portable")
    assert ops(one_axis.model) == ["Conv", "Conv", "Conv", "Add"]


@pytest.mark.parametrize(
    ("size", "f", "stride"),
    [(("h", "w"), 3, 2), ((12, 12), 3, 1), ((12, 12), 5, 2)],
    ids=["open size", "stride 1", "reach of the stride"],
)
def test_others_keep_their_pad(size: tuple[int | str, ...], f: int, stride: int) -> None:
    result = aarewrite.rewrite(padded(size, (f, f), (stride, stride), strength=0.5), target="portable")
    assert [one.form for one in result.lowered] == [""]


def test_the_map_does_not_pass_through_the_border() -> None:
    """Strides so far, and what is a site, are those of the plain form."""
    plain = build(
        """(float[1, 16, 24, 24] x) => (float[] y) {
        [first] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        [second] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)
    }"""
    )
    half = Recipe(strength=0.5)
    once = aarewrite.rewrite(plain, half, only=["first"])
    assert {one.form for one in once.lowered} == {"zero pads, corrected"}
    again = aarewrite.plan(once.model, half)
    assert [(one.site.node, one.site.stride_so_far) for one in again.sites] == [("first", (1, 1)), ("second", (2, 2))]
    assert again.says(again.sites[0]) == "kept: a blur is next to it already"
    assert [(source.node, source.stride_so_far) for source in again.sources] == [("first/blur/ZeroPadded", (1, 1))]
    assert [layer.stride for layer in find_layers(open_graph(Model(once.model), (24, 24)))] == [(2, 2), (4, 4)]
