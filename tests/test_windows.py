"""Explicit pads for stride 1, against a brute-force statement of what each ONNX attribute means."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from reference import build, dense_pads, output_size, run, weight

import aarewrite
from aarewrite.windows import Window, explicit

FILTERS = range(1, 8)


def window(k: int, s: int, d: int = 1, b: int = 0, e: int = 0, auto_pad: str = "NOTSET", ceil: bool = False) -> Window:
    return Window((k,), (s,), (d,), (b,), (e,), auto_pad, ceil)


def test_size_law_by_brute_force() -> None:
    """Dense operator, then blur with floor and ceil of (f-1)/2: the strided operator's size in floor mode."""
    checked = 0
    for n, k, s, d, b, e in product(range(4, 18), range(1, 6), range(1, 5), (1, 2), (0, 1, 2), (0, 1, 2)):
        size = output_size(n, k, s, d, b, e, "NOTSET", False)
        if size <= 0:
            continue
        found = explicit(window(k, s, d, b, e), (n,))
        assert isinstance(found, Window)
        (mapped,) = found.output((n,), strides=(1,))
        assert mapped is not None
        for f in FILTERS:
            assert (mapped + (f - 1) // 2 + f // 2 - f) // s + 1 == size
            checked += 1
    assert checked > 20_000


@pytest.mark.parametrize(
    ("auto_pad", "ceil"),
    [("NOTSET", False), ("NOTSET", True), ("VALID", False), ("SAME_UPPER", False), ("SAME_LOWER", False)],
)
def test_explicit_pads_agree_with_brute_force(auto_pad: str, ceil: bool) -> None:
    pads = list(product((0, 1, 2), (0, 1, 2))) if auto_pad == "NOTSET" else [(0, 0)]
    for n, k, s, (b, e) in product(range(4, 16), range(1, 6), range(1, 5), pads):
        size = output_size(n, k, s, 1, b, e, auto_pad, ceil)
        if n + b + e < k or b >= k or e >= k:
            continue
        found = explicit(window(k, s, 1, b, e, auto_pad, ceil), (n,))
        assert isinstance(found, Window)
        assert (found.begin[0], found.end[0]) == dense_pads(n, k, s, 1, b, e, auto_pad, ceil)
        assert found.auto_pad == "NOTSET"
        assert not found.ceil_mode
        assert found.output((n,)) == (size,)


@pytest.mark.parametrize(
    ("auto_pad", "n", "pads"),
    [
        ("SAME_UPPER", 8, (0, 1)),  # even: nothing in front
        ("SAME_UPPER", 9, (1, 1)),
        ("SAME_LOWER", 8, (1, 0)),
        ("SAME_LOWER", 9, (1, 1)),
    ],
)
def test_same_depends_on_the_size(auto_pad: str, n: int, pads: tuple[int, int]) -> None:
    found = explicit(window(3, 2, auto_pad=auto_pad), (n,))
    assert isinstance(found, Window)
    assert (found.begin, found.end) == ((pads[0],), (pads[1],))


@pytest.mark.parametrize("n", [8, 9])
@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
def test_same_is_proven_at_even_and_odd_sizes(auto_pad: str, n: int) -> None:
    attributes = f'kernel_shape = [3, 3], strides = [2, 2], auto_pad = "{auto_pad}"'
    model = build(f"(float[1, 2, {n}, {n}] x) => (float[] y) {{ [pool] y = MaxPool<{attributes}>(x) }}")
    result = aarewrite.rewrite(model, filter=1)
    x = weight(1, 2, n, n)
    assert np.array_equal(run(result.model, x=x)[0], run(model, x=x)[0])


def test_same_over_a_symbolic_size_has_its_reason() -> None:
    found = explicit(window(3, 2, auto_pad="SAME_UPPER"), (None,))
    assert found == "auto_pad=SAME over a symbolic size: the padding depends on it, give it with --input NAME:SHAPE"


def test_same_over_a_symbolic_size_needs_no_size_where_nothing_depends_on_it() -> None:
    """One tap needs no padding at all; at stride 1 the padding is the kernel's, whatever the size."""
    assert explicit(window(1, 2, auto_pad="SAME_UPPER"), (None,)) == window(1, 2)
    assert explicit(window(3, 1, auto_pad="SAME_UPPER"), (None,)) == window(3, 1, b=1, e=1)


def test_same_over_a_symbolic_size_is_skipped_and_input_sizes_lift_it() -> None:
    model = build("""(float[N, 2, H, W] x) => (float[] y) {
        [pool] y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER">(x)
    }""")
    (planned,) = aarewrite.plan(model).sites
    assert planned.reason.startswith("auto_pad=SAME over a symbolic size")
    (planned,) = aarewrite.plan(model, input_shapes={"x": (1, 2, 8, 9)}).sites
    assert planned.match is not None
    assert planned.match.window.begin == (0, 1)
    assert planned.match.window.end == (1, 1)


def test_same_with_dilation_is_refused() -> None:
    found = explicit(window(3, 2, d=2, auto_pad="SAME_UPPER"), (9,))
    assert found == "auto_pad=SAME with dilation > 1 is not reliable in ONNX Runtime: export explicit pads"


def test_ceil_over_a_symbolic_size_has_its_reason() -> None:
    found = explicit(window(3, 2, ceil=True), (None,))
    assert found == "ceil_mode=1 over a symbolic size: the padding depends on it, give it with --input NAME:SHAPE"
    assert explicit(window(3, 1, b=1, e=1, ceil=True), (None,)) == window(3, 1, b=1, e=1)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize(
    ("n", "k", "s", "b", "e"), [(8, 3, 2, 0, 0), (7, 3, 3, 1, 1), (6, 2, 4, 0, 0), (9, 2, 2, 1, 0)]
)
def test_ceil_mode_is_proven(op: str, n: int, k: int, s: int, b: int, e: int) -> None:
    attributes = f"kernel_shape = [{k}], strides = [{s}], pads = [{b}, {e}], ceil_mode = 1"
    model = build(f"(float[1, 2, {n}] x) => (float[] y) {{ [pool] y = {op}<{attributes}>(x) }}", opset=18)
    (planned,) = aarewrite.plan(model).sites
    assert planned.match or "kernel size, which ONNX Runtime refuses" in planned.reason
    result = aarewrite.rewrite(model, filter=3)
    x = weight(1, 2, n)
    assert run(result.model, x=x)[0].shape == run(model, x=x)[0].shape


def test_ceil_mode_counting_pads_is_skipped() -> None:
    model = build(
        """(float[1, 2, 8, 8] x) => (float[] y) {
        [pool] y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1, count_include_pad = 1>(x)
    }"""
    )
    (planned,) = aarewrite.plan(model).sites
    assert planned.reason == (
        "ceil_mode=1 with count_include_pad=1: the last windows divide by a count that stride 1 changes"
    )


def test_pads_that_reach_the_kernel_are_skipped() -> None:
    """The last dilated window starts inside the map and ends two beyond it, as far as its undilated kernel."""
    model = build(
        """(float[1, 2, 8] x) => (float[] y) {
        [pool] y = MaxPool<kernel_shape = [2], strides = [3], dilations = [3], ceil_mode = 1>(x)
    }"""
    )
    (planned,) = aarewrite.plan(model).sites
    assert planned.reason == "the pads at stride 1 reach the kernel size, which ONNX Runtime refuses"
