"""Weights are read as matrices and stored in the layer's own layout, type and place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from pairs import Net, noise, residual_pair, stored
from reference import run

from aarewrite.calibration.layers import find_layers
from aarewrite.calibration.repair import repair
from aarewrite.calibration.weights import read_weights, write_weights


def heads(kind: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    models = []
    for blurred in (False, True):
        net, rng = Net(["n", 4, 3, 3]), np.random.default_rng(0)
        source = net.blur("x", "blurred", 4, 1) if blurred else "x"
        if kind == "grouped":
            net.conv(source, "y", rng.standard_normal((6, 2, 3, 3)), rng.standard_normal(6), group=2)
            models.append(net.model("y"))
            continue
        net.node("Flatten", [source], "flat", name="flatten")
        net.constant("w", rng.standard_normal((5, 36) if kind == "transposed" else (36, 5)))
        net.constant("b", rng.standard_normal(5))
        if kind == "product":
            net.node("MatMul", ["flat", "w"], "product")
            net.node("Add", ["product", "b"], "y")
        else:
            net.node("Gemm", ["flat", "w", "b"], "y", alpha=0.5, beta=2.0, transB=int(kind == "transposed"))
        models.append(net.model("y", 2))
    return models[0], models[1]


@pytest.mark.parametrize("kind", ["grouped", "gemm", "transposed", "product"])
def test_matrices_compute_what_the_layer_computes_and_go_back_where_they_came_from(kind: str) -> None:
    original, rewritten = heads(kind)
    (layer,), _ = find_layers(original, rewritten)
    weight, bias = read_weights(original, replace(layer, index=layer.original_index))
    x = np.random.default_rng(1).standard_normal((3, 4, 3, 3)).astype(np.float32)
    rows = x.reshape(3, layer.group, -1).transpose(1, 0, 2)  # a 3x3 kernel on a 3x3 map: one position
    expected = (rows @ weight + bias[:, None]).transpose(1, 0, 2).reshape(3, -1)
    np.testing.assert_allclose(run(original, x=x)[0].reshape(3, -1), expected, atol=1e-4)
    before, given = run(rewritten, x=x)[0], rewritten.SerializeToString()
    write_weights(rewritten, layer, weight, bias)
    assert rewritten.SerializeToString() == given
    write_weights(rewritten, layer, 2 * weight, 2 * bias)
    np.testing.assert_allclose(run(rewritten, x=x)[0], 2 * before, atol=1e-4)


def test_equal_biases_shared_between_layers_part_ways() -> None:
    def share(net: Net) -> None:
        for node in net.nodes:
            if node.name == "depthwise":
                node.input[2] = "branch1.b"

    original, rewritten = residual_pair(edit=share)
    repaired, layers = repair(original, rewritten, noise(8, 3, 16, 16))
    assert all(layer.repaired for layer in layers if layer.name in ("branch1", "depthwise"))
    nodes = {node.name: node for node in repaired.graph.node}
    assert nodes["branch1"].input[2] != nodes["depthwise"].input[2]


def test_a_bias_that_a_body_reads_too_stays_as_it_is_there() -> None:
    original, rewritten = residual_pair()
    held = helper.make_tensor_value_info("held", onnx.TensorProto.FLOAT, [8])
    body = helper.make_graph([helper.make_node("Identity", ["depthwise.b"], ["held"])], "body", [], [held])
    choice = helper.make_node("If", ["yes"], ["old"], name="if", then_branch=body, else_branch=body)
    for model in (original, rewritten):
        model.graph.initializer.append(helper.make_tensor("yes", onnx.TensorProto.BOOL, [], [True]))
        model.graph.node.append(choice)
        model.graph.output.append(helper.make_tensor_value_info("old", onnx.TensorProto.FLOAT, [8]))
    repaired, layers = repair(original, rewritten, noise(8, 3, 16, 16))
    assert any(layer.repaired for layer in layers if layer.name == "depthwise")
    x = np.zeros((1, 3, 16, 16), np.float32)
    np.testing.assert_array_equal(run(repaired, x=x)[-1], run(original, x=x)[-1])
    node = next(node for node in repaired.graph.node if node.name == "depthwise")
    assert (stored(repaired, node.input[2]) != stored(original, "depthwise.b")).any()


def test_weights_in_constant_nodes_and_half_precision_are_stored_in_place() -> None:
    original, rewritten = residual_pair()
    for model in (original, rewritten):
        tensor = next(t for t in model.graph.initializer if t.name == "branch1.w")
        model.graph.initializer.remove(tensor)
        model.graph.node.insert(0, helper.make_node("Constant", [], ["branch1.w"], value=tensor))
        half = next(t for t in model.graph.initializer if t.name == "head.w")
        half.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(half).astype(np.float16), "head.w"))
        head = next(node for node in model.graph.node if node.op_type == "Gemm")
        place = list(model.graph.node).index(head)
        head.input[0], head.output[0] = "flat16", "head16"
        model.graph.node.insert(place, helper.make_node("Cast", ["flat"], ["flat16"], to=onnx.TensorProto.FLOAT16))
        model.graph.node.append(helper.make_node("Cast", ["head16"], ["head"], to=onnx.TensorProto.FLOAT))
    repaired, layers = repair(original, rewritten, noise(32, 3, 16, 16, batches=16))
    assert {layer.name for layer in layers if layer.repaired} >= {"branch1", "head"}
    assert stored(repaired, "head.w").dtype == np.float16
    assert repaired.graph.node[0].attribute[0].t != rewritten.graph.node[0].attribute[0].t
    assert len(repaired.graph.node) == len(rewritten.graph.node)
    assert np.isfinite(run(repaired, x=np.zeros((1, 3, 16, 16), np.float32))[0]).all()
