"""Blurs of float64 maps: no Conv, for which ONNX Runtime has no kernel there, and equal to numpy's result."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from reference import blur, build, dense, ops, relative_difference, run, weight

import aarewrite
from aarewrite.recipe import Recipe

SIZES = (13, 12, 9)


def pooled(axes: int, opset: int, steps: str = "2, 2, 2") -> onnx.ModelProto:
    sizes = ", ".join(map(str, SIZES[:axes]))
    strides = ", ".join(steps.split(", ")[:axes])
    return build(
        f"(double[1, 2, {sizes}] x) => (double[] y) "
        f"{{ [pool] y = MaxPool<kernel_shape = [{', '.join('3' * axes)}], strides = [{strides}]>(x) }}",
        opset=opset,
    )


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("pad", ["reflect", "edge", "zero"])
@pytest.mark.parametrize(("taps", "opset"), [(1, 13), (2, 10), (3, 11), (4, 13), (5, 18), (7, 21)])
def test_a_float64_blur_equals_numpys(axes: int, pad: str, taps: int, opset: int) -> None:
    result = aarewrite.rewrite(pooled(axes, opset), filter=taps, pad=pad)
    assert result.changed
    assert result.proof is not None
    assert result.proof.notes == ()
    assert "Conv" not in ops(result.model)
    x = weight(1, 2, *SIZES[:axes], dtype=np.float64)
    expected = blur(dense("MaxPool", x, [3] * axes, [(0, 0)] * axes), taps, [2] * axes, pad)
    assert relative_difference(run(result.model, x=x)[0], expected) <= 1e-12


def test_axes_that_are_not_subsampled_are_not_sliced() -> None:
    result = aarewrite.rewrite(pooled(2, 13, steps="2, 1"))
    assert ops(result.model).count("Slice") == 3
    assert result.proof is not None
    assert result.proof.passed
    assert {node.op_type for node in result.model.graph.node} == {"MaxPool", "Pad", "Slice", "Mul", "Sum"}


def test_what_has_no_kernel_in_float64_is_proven_in_float32() -> None:
    model = build(
        "(double[1, 2, 12, 12] x) => (double[] y) "
        "{ [pool] y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    proof = aarewrite.rewrite(model).proof
    assert proof is not None
    assert proof.notes == ("run in float32: ONNX Runtime's CPU provider has no kernels for the model's type",)


def test_pooled_float64_maps_of_old_opsets_are_kept_with_the_reason() -> None:
    plan = aarewrite.plan(pooled(2, 9))
    assert plan.sites[0].reason == "pooled float64 maps need opset 10 or newer: Slice takes no steps before"


def test_the_record_names_the_node_that_writes_the_blurred_map() -> None:
    result = aarewrite.rewrite(pooled(2, 13))
    (entry,) = [p.value for p in result.model.metadata_props if p.key == "aarewrite.blurs"]
    assert '"pool/blur/Sum_3"' in entry
    assert result.model.graph.node[-1].name == "pool/blur/Sum_3"


@pytest.mark.parametrize("steps", ["2, 2", "1, 1"])
def test_a_second_run_finds_the_blur_and_changes_nothing(steps: str) -> None:
    every = Recipe(unit_stride_max_pool=True)
    result = aarewrite.rewrite(pooled(2, 13, steps), every)
    assert result.changed
    again = aarewrite.rewrite(result.model, every)
    assert not again.changed
    assert again.plan.sites[0].reason == "a blur is next to it already"
    assert again.plan.sources == ()


def test_what_has_no_float64_kernel_anyway_keeps_its_conv() -> None:
    """For other runtimes; the proof runs in float32."""
    model = build(
        "(double[1, 2, 12, 12] x) => (double[] y) { y = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w) }",
        w=weight(4, 2, 3, 3, dtype=np.float64),
    )
    assert ops(aarewrite.rewrite(model, first_conv=True).model) == ["Conv", "Pad", "Conv"]
