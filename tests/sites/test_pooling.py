"""Which operators pool a whole map."""

from __future__ import annotations

import numpy as np
import pytest
from reference import build

from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import load
from aarewrite.sites.pooling import covers_map
from aarewrite.sites.reading import Reading

GLOBAL = [
    ("GlobalAveragePool(x)", True),
    ("GlobalMaxPool(x)", True),
    ("GlobalLpPool(x)", True),
    ("AveragePool<kernel_shape = [6, 8]>(x)", True),
    ("MaxPool<kernel_shape = [6, 8]>(x)", True),
    ("MaxPool<kernel_shape = [6, 6]>(x)", False),
    ("AveragePool<kernel_shape = [8, 6]>(x)", False),
    ("AveragePool<kernel_shape = [6, 8], pads = [1, 0, 0, 0]>(x)", False),
    ("LpPool<kernel_shape = [6, 8]>(x)", False),
    ("ReduceMean<axes = [2, 3]>(x)", True),
    ("ReduceMean<axes = [-1, -2], keepdims = 0>(x)", True),
    ("ReduceMax<axes = [3, 2]>(x)", True),
    ("ReduceMean<axes = [3]>(x)", False),
    ("ReduceMean<axes = [1]>(x)", False),
    ("ReduceSum(x, both)", False),
    ("Relu(x)", False),
    ("other.GlobalAveragePool(x)", False),
]


def covers(text: str, sizes: str = "6, 8", opset: int = 13, rank: int | None = None) -> bool:
    model = build(
        f"(float[1, 3, {sizes}] x) => (float[] y) {{ y = {text} }}",
        opset=opset,
        imports=', "other" : 1',
        **({"both": np.array([2, 3])} if "both" in text else {}),
    )
    reading = Reading(GraphEditor(load(model)))
    return covers_map(reading.editor, reading.shapes, reading.main, reading.main.nodes[0], rank)


@pytest.mark.parametrize(("text", "expected"), GLOBAL)
def test_what_covers_a_map(text: str, expected: bool) -> None:
    assert covers(text) is expected


def test_axes_may_be_a_constant_input() -> None:
    assert covers("ReduceMean(x, both)", opset=18)
    assert not covers("ReduceMean(x, both)", sizes="6, 8, 4", opset=18)


def test_a_map_of_open_sizes_is_covered_by_axes_but_by_no_window() -> None:
    assert covers("GlobalMaxPool(x)", sizes="H, W")
    assert covers("ReduceMean<axes = [2, 3]>(x)", sizes="H, W")
    assert not covers("AveragePool<kernel_shape = [6, 8]>(x)", sizes="H, W")


def test_a_rank_that_contradicts_the_shape_leaves_sizes_unknown() -> None:
    assert covers("MaxPool<kernel_shape = [6, 8]>(x)", rank=2)
    assert not covers("MaxPool<kernel_shape = [6, 8]>(x)", rank=3)
