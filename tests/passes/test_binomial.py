"""Binomial filters: what fits a map, how it is padded, what it costs, moves and records."""

from __future__ import annotations

import numpy as np
import pytest
from reference import blur, build, dense, qdq, relative_difference, run, weight

import aarewrite
from aarewrite.show import plan_table as table

EXACT = 1e-6


def test_reflect_falls_back_to_edge_with_a_note() -> None:
    model = build(
        "(float[1, 2, 4, 9] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    result = aarewrite.rewrite(model, filter=7)
    (planned,) = result.plan.sites
    assert planned.notes == ("reflect needs more than 3 samples and the map is 3x8: padded with edge",)
    x = weight(1, 2, 4, 9)
    expected = blur(dense("MaxPool", x, (2, 2), [(0, 0)] * 2), 7, (2, 2), "edge")
    assert relative_difference(run(result.model, x=x)[0], expected) < EXACT


@pytest.mark.parametrize(("pad", "smallest"), [("reflect", 3), ("edge", 1), ("zero", 1)])
def test_symbolic_sizes_state_the_smallest_that_works(
    capsys: pytest.CaptureFixture[str], pad: str, smallest: int
) -> None:
    """At the size stated it runs and has the original's shape; edge padding has nothing to repeat of an empty map."""
    model = build(
        "(float[N, 2, H, W] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    result = aarewrite.rewrite(model, filter=5, pad=pad)
    table.print_plan(result.plan, done=True)
    assert f"every blurred map must be at least {smallest} wide" in " ".join(capsys.readouterr().out.split())
    for size in (smallest + 1, smallest + 2):  # the dense map is one smaller
        assert run(result.model, x=weight(1, 2, size, size))[0].shape == (1, 2, size // 2, size // 2)


def test_equal_kernels_are_shared() -> None:
    model = build("""(float[1, 2, 33, 33] x) => (float[] y) {
        [one] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        [two] b = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(a)
        [three] y = MaxPool<kernel_shape = [2, 2], strides = [3, 3]>(b)
    }""")
    result = aarewrite.rewrite(model)
    kernels = {n.input[1] for n in result.model.graph.node if n.op_type == "Conv"}
    assert len(kernels) == 1
    assert len(result.model.graph.initializer) == 2  # the kernel and the pads


def test_filter_7_is_refused_in_a_quantised_map() -> None:
    (planned,) = aarewrite.plan(qdq(np.int8), first_conv=True, filter=7).sites
    assert planned.reason == "the 7x7 taps do not fit int8: choose a smaller --filter for this quantised map"
    assert aarewrite.rewrite(qdq(np.int8), first_conv=True, filter=6).changed
