"""Multiply-accumulates against numbers worked out by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from reference import build, function, functions, weight
from stages import site_of, three_sites

import aarewrite
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import load
from aarewrite.model.shapes import Shapes
from aarewrite.sites.macs import model_macs, operator_macs


def test_macs_of_a_model() -> None:
    model = build("(float[1, 2, 8, 8] x) => (float[] y) { y = Conv(x, w) }", w=weight(2, 2, 1, 1))
    once = aarewrite.plan(model).macs
    assert once == 8 * 8 * 2 * 2


def counted(model: onnx.ModelProto, **input_shapes: tuple[int, ...]) -> int | None:
    editor = GraphEditor(load(model))
    return model_macs(editor, Shapes(editor, input_shapes))


OPERATORS = {
    "conv": ("Conv<pads = [1, 1, 1, 1]>(x, w)", "2, 8, 8", {"w": (3, 2, 3, 3)}, 8 * 8 * 3 * 2 * 9),
    "strided conv": ("Conv<strides = [2, 2]>(x, w)", "2, 9, 9", {"w": (3, 2, 3, 3)}, 4 * 4 * 3 * 2 * 9),
    "conv of one axis": ("Conv<dilations = [2]>(x, w)", "2, 9", {"w": (3, 2, 3)}, 5 * 3 * 2 * 3),
    "grouped conv": ("Conv<group = 2>(x, w)", "4, 8, 8", {"w": (6, 2, 1, 1)}, 8 * 8 * 6 * 2),
    "depthwise conv": ("Conv<group = 4>(x, w)", "4, 8, 8", {"w": (4, 1, 3, 3)}, 6 * 6 * 4 * 9),
    # each sample of the input is spread over 2x2 samples of 3 channels
    "transposed conv": ("ConvTranspose<strides = [2, 2]>(x, w)", "2, 5, 5", {"w": (2, 3, 2, 2)}, 2 * 25 * 3 * 4),
    "grouped transposed conv": (
        "ConvTranspose<strides = [2, 2], group = 2>(x, w)", "4, 5, 5", {"w": (4, 3, 2, 2)}, 4 * 25 * 3 * 4,
    ),
    "gemm": ("Gemm(x, w)", "6", {"w": (6, 4)}, 6 * 4),
    "gemm, transposed": ("Gemm<transB = 1>(x, w)", "6", {"w": (4, 6)}, 6 * 4),
    "constant on the right": ("MatMul(x, w)", "5, 6", {"w": (6, 4)}, 5 * 6 * 4),
    "constant on the left": ("MatMul(w, x)", "5, 6", {"w": (4, 5)}, 4 * 5 * 6),
    "heads": ("MatMul(x, w)", "3, 5, 6", {"w": (6, 4)}, 3 * 5 * 6 * 4),
    "vector": ("MatMul(x, w)", "5, 6", {"w": (6,)}, 5 * 6),
    "average pool": ("AveragePool<kernel_shape = [2, 3], strides = [2, 1]>(x)", "2, 8, 8", {}, 2 * 4 * 6 * 6),
    "max pool": ("MaxPool<kernel_shape = [2, 2]>(x)", "2, 8, 8", {}, 0),
    "activation": ("Sigmoid(x)", "2, 8, 8", {}, 0),
}  # fmt: skip


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", OPERATORS)
def test_macs_of_operators_at_batch_1(name: str, batch: int) -> None:
    text, sizes, constants, expected = OPERATORS[name]
    weights = {key: weight(*shape) for key, shape in constants.items()}
    assert counted(build(f"(float[{batch}, {sizes}] x) => (float[] y) {{ y = {text} }}", **weights)) == expected


def test_macs_of_a_quantised_conv_are_those_of_its_weight() -> None:
    model = build(
        "(uint8[1, 2, 8, 8] x) => (uint8[] y) { y = QLinearConv(x, s, z, w, s, z, s, z) }",
        s=np.float32(1), z=np.uint8(0), w=np.ones((3, 2, 3, 3), np.uint8),
    )  # fmt: skip
    assert counted(model) == 6 * 6 * 3 * 2 * 9


CONV = "w = Constant<value = float[2, 2, 1, 1] {1, 0, 0, 1}>() y = Conv(x, w)"


def test_a_function_counts_as_often_as_it_is_called() -> None:
    once = 9 * 9 * 2 * 2
    assert counted(functions("y = f.One(x)", function("One", CONV))) == once
    assert counted(functions("a = f.One(x) y = f.One(a)", function("One", CONV))) == 2 * once
    uncalled = functions("y = Relu(x)", function("One", CONV))
    assert counted(uncalled) == 0


def test_calls_within_functions_multiply() -> None:
    twice = function("Two", "a = f.One(x) y = f.One(a)").replace("opset_import: [", 'opset_import: ["f" : 1, ')
    model = functions("a = f.Two(x) b = f.Two(a) y = f.One(b)", twice, function("One", CONV))
    assert counted(model) == 5 * 9 * 9 * 2 * 2


def test_open_sizes_have_no_count_until_they_are_given() -> None:
    model = build("(float[N, 2, H, W] x) => (float[] y) { y = Conv(x, w) }", w=weight(3, 2, 3, 3))
    assert counted(model) is None
    assert counted(model, x=(5, 2, 8, 6)) == 6 * 4 * 3 * 2 * 9


GROUPED = """(float[1, 4, 11, 9] x) => (float[] y) {
    [conv] y = Conv<strides = [2, 2], group = 2>(x, w)
}"""


def test_macs_of_a_site() -> None:
    conv = site_of(build(GROUPED, w=weight(6, 2, 3, 3)), "conv")
    assert operator_macs(conv, conv.output_size) == 5 * 4 * 6 * 2 * 9
    assert operator_macs(conv, (10, None)) is None
    assert operator_macs(dataclasses.replace(conv, channels=None), (5, 4)) is None
    assert operator_macs(dataclasses.replace(conv, input_channels=None), (5, 4)) is None
    nets = three_sites()
    assert operator_macs(site_of(nets, "pool1"), (17, 17)) == 0
    assert operator_macs(site_of(nets, "pool2"), (4, 4)) == 4 * 4 * 4 * 4
