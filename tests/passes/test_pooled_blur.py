"""A binomial blur as average pools is exact at every size, or left."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from padded import blurred, padded
from reference import attributes, blur, build, initializer, ops, relative_difference, run, weight

import aarewrite

EXACT = 1e-6


@settings(max_examples=60, deadline=None)
@given(f=st.integers(2, 7), stride=st.integers(1, 4), size=st.tuples(st.integers(7, 17), st.integers(7, 17)))
def test_any_taps_stride_and_size(f: int, stride: int, size: tuple[int, int]) -> None:
    model = padded(size, (f, f), (stride, stride))
    result = aarewrite.rewrite(model, target="portable")
    x = weight(1, 16, *size)
    assert relative_difference(run(result.model, x=x)[0], blur(x, f, (stride, stride), every_axis=True)) < EXACT
    if f % 2 or all((-(-n // stride) - 1) * stride + 1 < n for n in size):  # the last pair of samples is in the map
        assert ops(result.model) == ["AveragePool"] * (f - 1)
        assert not result.model.graph.initializer
    else:
        assert "Pad" in ops(result.model)


@pytest.mark.parametrize(
    ("sizes", "strides", "begin", "end", "pools"),
    [
        ((3, 1), (2, 1), (1, 0), (1, 0), 2),  # one axis alone
        ((3, 3), (2, 2), (0, 0), (2, 2), 2),  # on one side alone
        ((5, 5), (2, 2), (1, 1), (3, 3), 4),
        ((3, 3), (2, 2), (1, 1), (0, 0), 2),
        ((3, 3), (1, 1), (1, 1), (1, 1), 2),
        ((3, 3), (2, 2), (2, 2), (2, 2), 0),  # beyond what one pool can leave out
        ((3, 5), (2, 2), (1, 2), (1, 2), 0),
    ],
)
def test_pads_decide(
    sizes: tuple[int, ...], strides: tuple[int, ...], begin: tuple[int, ...], end: tuple[int, ...], pools: int
) -> None:
    result = aarewrite.rewrite(padded((12, 12), sizes, strides, begin, end), target="ort-cpu")
    assert ops(result.model).count("AveragePool") == pools
    x = weight(1, 16, 12, 12)
    assert relative_difference(run(result.model, x=x)[0], blurred(x, sizes, strides, begin, end)) < EXACT


def test_unequal_pads_are_not_portable() -> None:
    """CUDA's AveragePool took them for equal ones until July 2026."""
    moved = padded((12, 12), (3, 3), (2, 2), (0, 0), (2, 2))
    assert not aarewrite.rewrite(moved, target="portable").changed
    centred = aarewrite.rewrite(padded((12, 12), (3, 3), (2, 2)), target="portable").model
    assert [attributes(node)["pads"] for node in centred.graph.node] == [[0] * 4, [1] * 4]


@pytest.mark.parametrize("size", [(8, 8), (9, 12), (13, 7)])
def test_an_open_size_is_right_at_every_size(size: tuple[int, int]) -> None:
    result = aarewrite.rewrite(padded(("h", "w"), (3, 3), (2, 2)), target="portable")
    assert ops(result.model) == ["AveragePool", "AveragePool"]
    x = weight(1, 16, *size)
    assert relative_difference(run(result.model, x=x)[0], blur(x, 3, (2, 2))) < EXACT
    even = aarewrite.rewrite(padded(("h", "w"), (4, 4), (2, 2)), target="portable")
    assert not even.changed


@pytest.mark.parametrize(
    "plain",
    [
        padded((12, 12), (3, 3), (2, 2), channels=12),
        padded((12, 12), (3, 3), (2, 2), mode="edge"),
        padded((12,), (3,), (2,)),
        padded((12, 12), (3, 3), (2, 2), dtype=np.float16),
        padded((12, 12), (3, 3), (2, 2), dtype=np.float64),
    ],
)
def test_it_is_chosen_where_it_pays_and_is_exact(plain: object) -> None:
    result = aarewrite.rewrite(plain, target="portable")  # type: ignore[arg-type]
    assert [one.form for one in result.lowered] == [""]
    assert not result.changed


def test_a_new_blur_takes_the_form_without_being_asked_and_one_that_was_there_does_not() -> None:
    model = build(
        """(float[1, 16, 16, 16] x) => (float[] y) {
        [pad] padded = Pad<mode = "reflect">(x, pads)
        [blur] a = Conv<strides = [2, 2], group = 16>(padded, w)
        [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)
    }""",
        pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        w=initializer(padded((16, 16), (3, 3), (2, 2)), "w"),
    )
    result = aarewrite.rewrite(model)
    assert ops(result.model) == ["Pad", "Conv", "MaxPool", "AveragePool", "AveragePool"]
    assert not aarewrite.rewrite(result.model).changed
    both = aarewrite.rewrite(model, target="portable")
    assert ops(both.model) == ["AveragePool", "AveragePool", "MaxPool", "AveragePool", "AveragePool"]
    x = weight(1, 16, 16, 16)
    assert relative_difference(run(both.model, x=x)[0], run(result.model, x=x)[0]) < EXACT
    assert not aarewrite.rewrite(both.model).changed
