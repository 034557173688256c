"""Finding blurs in their plain form, and what they are replaced with."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from padded import padded

from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import load
from aarewrite.model.shapes import Shapes
from aarewrite.passes.lowering import PaddedBlur, blocked, padded_blurs, replace
from aarewrite.passes.sliced_blur import SlicedBlur


def found(model: onnx.ModelProto) -> list[PaddedBlur]:
    editor = GraphEditor(load(model))
    return list(padded_blurs(editor, Shapes(editor, {}), lambda _: True))


@pytest.mark.parametrize("opset", [7, 10, 13, 21])
def test_what_is_read_of_a_blur(opset: int) -> None:
    (blur,) = found(padded((12, 9), (5, 3), (2, 3), mode="edge", strength=0.5, opset=opset))
    assert [t.tolist() for t in blur.taps] == [[0.03125, 0.125, 0.6875, 0.125, 0.03125], [0.125, 0.75, 0.125]]
    assert (blur.strides, blur.begin, blur.end, blur.mode) == ((2, 3), (2, 1), (2, 1), "edge")
    assert (blur.channels, blur.size, blur.dtype, blur.name) == (16, (12, 9), onnx.TensorProto.FLOAT, "blur/blur")


def changed(part: str) -> onnx.ModelProto:
    model = padded((12, 12), (3, 3), (2, 2))
    pad, conv = model.graph.node
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    if part == "the padded map is an output":
        model.graph.output.append(onnx.helper.make_tensor_value_info("padded", 1, None))
    elif part == "another reader":
        model.graph.node.add(op_type="Relu", input=["padded"], output=["z"])
    elif part == "a bias":
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(16, np.float32), "b"))
        conv.input.append("b")
    elif part == "pads of its own":
        conv.attribute.append(onnx.helper.make_attribute("pads", [1, 1, 1, 1]))
    elif part == "constant padding":
        pad.attribute[0].s = b"constant"
    elif part == "channels are padded":
        weights["pads"].CopyFrom(onnx.numpy_helper.from_array(np.array([0, 1, 1, 1, 0, 0, 1, 1]), "pads"))
    elif part == "computed pads":
        weights["pads"].name = "half"
        model.graph.node.insert(0, onnx.helper.make_node("Mul", ["half", "x_size"], ["pads"]))
        model.graph.input.append(onnx.helper.make_tensor_value_info("x_size", 7, [8]))
    else:
        kernel = np.zeros((16, 1, 3, 3), np.float32)
        kernel[..., [0, 1, 1, 1, 2], [1, 0, 1, 2, 1]] = 0.2  # a cross: a low-pass, and no outer product
        weights["w"].CopyFrom(onnx.numpy_helper.from_array(kernel, "w"))
    return model


@pytest.mark.parametrize(
    "part",
    [
        "the padded map is an output", "another reader", "a bias", "pads of its own", "constant padding",
        "channels are padded", "computed pads", "no outer product",
    ],
)  # fmt: skip
def test_others_are_left(part: str) -> None:
    assert found(changed(part)) == []


def test_a_replaced_blur_leaves_no_constant_that_nobody_reads() -> None:
    editor = GraphEditor(load(padded((12, 12), (3, 3), (2, 2))))
    (blur,) = padded_blurs(editor, Shapes(editor, {}), lambda _: True)
    replace(editor, blur, SlicedBlur)
    graph = editor.export().to_proto().graph
    read = {name for node in graph.node for name in node.input}
    assert "pads" not in {tensor.name for tensor in graph.initializer}
    assert {tensor.name for tensor in graph.initializer} < read
    assert graph.node[-1].output == ["y"]


@pytest.mark.parametrize(("channels", "whole"), [(16, True), (48, True), (24, False)])
def test_whole_blocks_of_channels(channels: int, whole: bool) -> None:
    (blur,) = found(padded((12, 12), (3, 3), (2, 2), channels=channels))
    assert blocked(blur) == whole
