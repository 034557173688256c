"""AveragePool and blur as one conv: the same values whatever the window."""

from __future__ import annotations

import numpy as np
import pytest
from reference import blur, build, initializer, ops, relative_difference, run, weight
from stages import before

import aarewrite
from aarewrite.model.model_file import load
from aarewrite.passes.contract import Rewritten
from aarewrite.passes.merge_box import MergeBox
from aarewrite.rewriting.apply import open_reading

EXACT = 1e-6


@pytest.mark.parametrize(
    "window",
    [
        "kernel_shape = [2, 2], strides = [2, 2]",
        "kernel_shape = [3, 2], strides = [3, 2]",
        "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]",
        "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1",
        "kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1",
        'kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER"',
        'kernel_shape = [2, 2], strides = [2, 2], auto_pad = "SAME_LOWER"',
        'kernel_shape = [2, 2], strides = [2, 2], auto_pad = "VALID"',
        "kernel_shape = [2, 2], strides = [2, 2], dilations = [2, 2]",
    ],
)
@pytest.mark.parametrize("f", [1, 3, 4])
def test_merged_box_is_exact(window: str, f: int) -> None:
    """A blur at stride 1 in front of an AveragePool: the same values whether they are merged or not."""
    model = build(f"(float[1, 2, 11, 13] x) => (float[] y) {{ [pool] y = AveragePool<{window}>(x) }}", opset=19, ir=9)
    recipe = before().with_options(filter=f)
    result = aarewrite.rewrite(model, recipe=recipe)
    x = weight(1, 2, 11, 13)
    smooth = blur(x, f, (1, 1), every_axis=True).astype(np.float32)
    expected = run(model, x=smooth)[0].astype(np.float64)
    assert relative_difference(run(result.model, x=x)[0], expected) < EXACT


def test_box_and_blur_become_one_conv() -> None:
    model = build(
        "(float[1, 2, 12, 12] x) => (float[] y) { [pool] y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    result = aarewrite.rewrite(model, recipe=before())
    assert ops(result.model) == ["Pad", "Conv"]
    kernel = initializer(result.model, result.model.graph.node[1].input[1])
    row = np.array([1, 3, 3, 1]) / 8  # [1, 1] / 2 convolved with [1, 2, 1] / 4
    assert np.array_equal(kernel[0, 0], np.outer(row, row).astype(np.float32))
    single = aarewrite.rewrite(model, filter=1)
    assert ops(single.model) == ["Conv"]


@pytest.mark.parametrize(
    ("attributes", "filters", "merged"),
    [
        ("kernel_shape = [2, 2], strides = [2, 2]", 1, True),
        ("kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1", 1, True),
        ("kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]", 1, False),  # the border divides by fewer
        ("kernel_shape = [2, 2], strides = [2, 2]", 3, False),  # a padded average is no padded map's average
        ("kernel_shape = [2, 2], strides = [2, 2], dilations = [2, 2]", 1, False),
    ],
)
def test_a_blur_behind_is_merged_where_nothing_is_padded_in_between(
    attributes: str, filters: int, merged: bool
) -> None:
    model = build(
        f"(float[1, 2, 12, 12] x) => (float[] y) {{ [pool] y = AveragePool<{attributes}>(x) }}", opset=19, ir=9
    )
    result = aarewrite.rewrite(model, filter=filters)
    assert ("AveragePool" not in ops(result.model)) is merged
    x = weight(1, 2, 12, 12)
    if filters == 1:
        assert relative_difference(run(result.model, x=x)[0], run(model, x=x)[0].astype(np.float64)) < EXACT


def test_the_record_names_the_merged_node_or_the_filter() -> None:
    model = build(
        "(float[1, 2, 12, 12] x) => (float[] y) { [pool] y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    reading = open_reading(load(model))
    (place,) = reading.located
    plan = aarewrite.plan(model, filter=1)
    match = plan.sites[0].match
    assert match is not None
    name = plan.sites[0].do.apply(reading.editor, place, match)
    one = Rewritten(place, match, name)
    assert MergeBox().apply(reading, [one]) == 1
    assert one.filter == "pool/blur/Box"
    assert [node.name for node in reading.main.nodes] == ["pool/blur/Box"]
    assert MergeBox().apply(reading, [one]) == 0


def test_a_pooling_that_others_read_stays() -> None:
    model = build(
        """(float[1, 2, 13, 13] x) => (float[] y) {
        [pool] a = AveragePool<kernel_shape = [3, 3], strides = [2, 2]>(x)
        y = Relu(a)
    }"""
    )
    reading = open_reading(load(model))
    (place,) = reading.located
    match = aarewrite.plan(model, filter=1).sites[0].match
    assert match is not None
    name = aarewrite.plan(model, filter=1).sites[0].do.apply(reading.editor, place, match)
    spy = reading.editor.node("Neg", "spy", [place.node.outputs[0]], [reading.editor.variable("spied")])
    reading.editor.insert_after(reading.main, place.node, [spy])
    assert MergeBox().apply(reading, [Rewritten(place, match, name)]) == 0
