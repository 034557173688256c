"""Which layers are behind a blur, what surrounds them, and why one is left alone."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import helper
from pairs import Net, residual_pair
from stages import two_stages

from aarewrite import rewrite
from aarewrite.calibration.layers import Layer, find_layers
from aarewrite.recipe import Recipe


def by_name(original: onnx.ModelProto, rewritten: onnx.ModelProto) -> dict[str, Layer]:
    layers, left = find_layers(original, rewritten)
    assert left == []
    return {layer.name: layer for layer in layers}


def test_layers_behind_the_blur_are_found_with_their_sums_and_activations() -> None:
    found = by_name(*residual_pair())
    assert list(found) == ["branch1", "branch2", "depthwise", "head"]  # the stem is in front of it
    assert [layer.kind for layer in found.values()] == ["Conv", "Conv", "Conv", "Gemm"]
    assert [layer.group for layer in found.values()] == [1, 1, 8, 1]
    assert [layer.bias for layer in found.values()] == ["branch1.b", "", "depthwise.b", ""]
    assert [layer.total for layer in found.values()] == ["", "sum", "", ""]
    assert found["branch2"].addend == "act"
    clipped = {name: (layer.low, layer.high) for name, layer in found.items()}
    free = (-math.inf, math.inf)
    assert clipped == {"branch1": (0, math.inf), "branch2": free, "depthwise": (0, math.inf), "head": free}


def test_a_normalisation_and_a_clip_behind_a_layer_are_read() -> None:
    models = []
    for blurred in (False, True):
        net = Net(["n", 2, 9, 9])
        source = net.blur("x", "blurred", 2, 1) if blurred else "x"
        net.conv(source, "y", np.ones((2, 2, 1, 1)))
        for name, value in (("gain", [2.0, 3.0]), ("beta", [0.5, -1]), ("mean", [1.0, 2]), ("variance", [3.0, 8.0])):
            net.constant(name, np.array(value))
        norm = ["y", "gain", "beta", "mean", "variance"]
        net.node("BatchNormalization", norm, "normal", epsilon=1.0)
        net.constant("six", np.array(6.0))
        net.node("Clip", ["normal", "", "six"], "z")
        models.append(net.model("z"))
    layer = by_name(*models)["y"]
    assert layer.scale is not None
    assert layer.shift is not None
    np.testing.assert_allclose(layer.scale, [1, 1])  # gain / sqrt(variance + 1)
    np.testing.assert_allclose(layer.shift, [-0.5, -3])  # beta - mean
    assert (layer.low, layer.high) == (-math.inf, 6)


def test_a_normalisation_with_computed_statistics_leaves_the_layer_without_surroundings() -> None:
    models = []
    for blurred in (False, True):
        net = Net(["n", 2, 9, 9])
        source = net.blur("x", "blurred", 2, 1) if blurred else "x"
        net.conv(source, "y", np.ones((2, 2, 1, 1)))
        for name in ("gain", "beta", "variance"):
            net.constant(name, np.ones(2))
        net.node("ReduceMean", ["x"], "mean", axes=[0, 2, 3], keepdims=0)
        net.node("BatchNormalization", ["y", "gain", "beta", "mean", "variance"], "normal")
        net.node("Relu", ["normal"], "z")
        models.append(net.model("z"))
    layer = by_name(*models)["y"]
    assert (layer.scale, layer.shift, layer.low) == (None, None, -math.inf)


def test_the_copies_for_further_views_belong_to_their_layer() -> None:
    rewritten = rewrite(two_stages(), Recipe(conv="before", shortcut="conv", views="2")).model
    found = by_name(two_stages(), rewritten)
    assert set(found) == {"second", "shortcut", "inner"}
    for name, layer in found.items():
        assert [rewritten.graph.node[place].output[0] for place in layer.bias_nodes[1:]] == [f"{name}/view2"]


def shared(net: Net) -> None:
    next(node for node in net.nodes if node.name == "branch2").input[1] = "branch1.w"


def computed_bias(net: Net) -> None:
    mean = helper.make_node("ReduceMean", ["sum"], ["computed"], axes=[0, 2, 3], keepdims=0, name="mean")
    depthwise = next(node for node in net.nodes if node.name == "depthwise")
    depthwise.input[2] = "computed"
    net.nodes.insert(net.nodes.index(depthwise), mean)


def computed_weights(net: Net) -> None:
    depthwise = next(node for node in net.nodes if node.name == "depthwise")
    depthwise.input[1] = "halved"
    net.constant("half", np.array(0.5))
    net.nodes.insert(0, helper.make_node("Mul", ["depthwise.w", "half"], ["halved"], name="halve"))


def inside_a_body(net: Net) -> None:
    place = next(i for i, node in enumerate(net.nodes) if node.name == "depthwise")
    value = helper.make_tensor_value_info("deep", onnx.TensorProto.FLOAT, None)
    inner = helper.make_node("Conv", ["sum", "depthwise.w"], ["deep"], name="inner", group=8, pads=[1] * 4)
    body = helper.make_graph([inner], "body", [], [value])
    net.nodes[place] = helper.make_node("If", ["yes"], ["depthwise"], name="if", then_branch=body, else_branch=body)
    net.nodes.insert(0, helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("yes", 9, [], [True])))


@pytest.mark.parametrize(
    ("edit", "reasons"),
    [
        (shared, {"branch1": "its weights are shared with branch2", "branch2": "its weights are shared with branch1"}),
        (computed_bias, {"depthwise": "its bias is no constant with one value per output"}),
        (computed_weights, {"depthwise": "its weights are computed in the graph"}),
        (inside_a_body, {"inner": "it is inside an If, Loop or Scan body"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_repaired_is_left_with_the_reason(edit, reasons: dict[str, str]) -> None:
    layers, left = find_layers(*residual_pair(edit=edit))
    assert {one.name: one.reason for one in left} == reasons
    assert not {layer.name for layer in layers} & set(reasons)
