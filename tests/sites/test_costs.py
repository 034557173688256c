"""Bytes of activations and numbers of weights against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from reference import build, function, functions, weight

import aarewrite
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import load
from aarewrite.model.shapes import Shapes
from aarewrite.sites.costs import Cost, activation_bytes, cost, parameters

MAP = 2 * 8 * 8 * 4  # bytes of (1, 2, 8, 8) in float
WEIGHT = weight(2, 2, 1, 1)


def moved(model: onnx.ModelProto, **input_shapes: tuple[int, ...]) -> int | None:
    editor = GraphEditor(load(model))
    return activation_bytes(editor, Shapes(editor, input_shapes))


# nodes from x to y, both (1, 2, 8, 8) in float, and how many maps of that size are read and written
NODES = {
    "a conv reads one and writes one": ("y = Conv(x, w)", 2),
    "an activation behind it is part of it": ("a = Conv(x, w)  y = Relu(a)", 2),
    "so is all that is pointwise": ("a = Conv(x, w)  b = Mul(a, s)  c = Add(b, s)  y = HardSigmoid(c)", 2),
    "not where another reads in between": ("a = Conv(x, w)  b = Relu(a)  y = Add(a, b)", 2 + 2 + 3),
    "alone, it reads and writes": ("y = Relu(x)", 2),
    "behind a pool too": ("a = MaxPool<kernel_shape = [1, 1]>(x)  y = Relu(a)", 4),
    "an addition of two maps": ("a = Conv(x, w)  y = Add(a, x)", 5),
    "views move nothing": ("a = Reshape(x, size)  y = Reshape(a, back)", 0),
    "nor does what is constant": ("a = Reshape(s, one)  y = Mul(x, a)", 2),
    "joined maps": ("a = Concat<axis = 1>(x, x)  y, z = Split<axis = 1>(a)", 2 + 2 + 2 + 2),
}


@pytest.mark.parametrize("name", NODES)
def test_maps_read_and_written(name: str) -> None:
    nodes, maps = NODES[name]
    constants = {
        "w": WEIGHT,
        "s": np.float32(2),
        "one": np.array([1]),
        "size": np.array([1, 128]),
        "back": np.array([1, 2, 8, 8]),
    }
    model = build(f"(float[1, 2, 8, 8] x) => (float[1, 2, 8, 8] y) {{ {nodes} }}", **constants)
    assert moved(model) == maps * MAP


def test_types_have_sizes() -> None:
    assert moved(build("(float16[1, 2, 8, 8] x) => (float16[] y) { y = Relu(x) }")) == MAP
    cast = build("(uint8[1, 2, 8, 8] x) => (float[] y) { y = Cast<to = 1>(x) }")
    assert moved(cast) == MAP // 4 + MAP


def test_shapes_are_no_maps() -> None:
    nodes = (
        "size = Shape(x)  one = Gather(size, first)  a = Concat<axis = 0>(one, rest)  b = Reshape(x, a)  y = Relu(b)"
    )
    model = build(f"(float[n, 2, 8, 8] x) => (float[b, c] y) {{ {nodes} }}", first=np.array([0]), rest=np.array([-1]))
    assert moved(model, x=(1, 2, 8, 8)) == 2 * MAP  # the size that is computed is as large as what is reshaped
    assert moved(model) is None


def test_a_function_moves_as_much_as_its_calls() -> None:
    once = moved(functions("y = f.One(x)", function("One", "y = Relu(x)")))
    assert once == 2 * 2 * 9 * 9 * 4
    assert moved(functions("a = f.One(x)  y = f.One(a)", function("One", "y = Relu(x)"))) == 2 * once


def test_weights() -> None:
    model = build(
        "(float[1, 2, 8, 8] x) => (float[] y) { a = Conv(x, w, b)  c = Conv(a, w, b)  y = Reshape(c, size) }",
        w=WEIGHT, b=weight(2), size=np.array([1, -1]),
    )  # fmt: skip
    assert parameters(load(model)) == 4 + 2  # once, however often they are read; a shape is none
    constant = build("(float[2] x) => (float[] y) { s = Constant<value = float[3, 1] {1, 2, 3}>()  y = Mul(x, s) }")
    assert parameters(load(constant)) == 3


def test_the_cost_of_a_rewrite() -> None:
    model = build(
        """(float[1, 2, 9, 9] x) => (float[] y) {
        [conv] a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)
        [relu] y = Relu(a)
    }""",
        w=weight(4, 2, 3, 3),
    )
    before, after = aarewrite.plan(model, first_conv=True, pad="zero").costs
    x, dense, strided = 2 * 9 * 9 * 4, 4 * 9 * 9 * 4, 4 * 5 * 5 * 4
    assert before == Cost(5 * 5 * 4 * 2 * 9, x + strided, 72)
    assert after == Cost(9 * 9 * 4 * 2 * 9 + 5 * 5 * 4 * 9, x + dense + dense + strided, 72 + 4 * 9)
    editor = GraphEditor(load(model))
    assert cost(editor, Shapes(editor), load(model)) == before
