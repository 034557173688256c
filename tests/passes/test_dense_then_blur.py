"""The operator dense and its blur behind it: values against the independent reference, geometry, strides kept."""

from __future__ import annotations

import numpy as np
import pytest
from reference import attributes, blur, build, dense, initializer, node, ops, relative_difference, run, weight

import aarewrite

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
