"""Reading protos: constants, readers, what a tensor depends on, and graphs with concrete sizes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from reference import build, weight

from aarewrite.model.index import Constants, OpenGraph, ancestors, attributes, consumed, label, only_reader, open_graph
from aarewrite.model.runner import Model


@pytest.fixture
def model() -> onnx.ModelProto:
    return build(
        """(float[1, 2, 8, 8] x, bool flag) => (float[] y, float[] z) {
        k = Constant<value_float = 2.0>()
        two = Constant<value = float[1] {2.0}>()
        also = Identity(two)
        [conv] a = Conv<strides = [2, 2]>(x, w)
        b = Mul(a, also)
        c = Relu(b)
        y = If (flag) <then_branch = left () => (float[] p) { p = Identity(c) },
                       else_branch = right () => (float[] q) { n = Neg(x) q = Mul(n, k) }>
        z = Neg(c)
    }""",
        w=weight(4, 2, 3, 3),
    )


def by_output(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if name in node.output)


def test_labels_and_attributes(model: onnx.ModelProto) -> None:
    assert [label(by_output(model, name)) for name in "ab"] == ["conv", "b"]
    assert attributes(by_output(model, "a")) == {"strides": [2, 2]}


def test_what_a_body_captures_is_consumed(model: onnx.ModelProto) -> None:
    assert consumed(by_output(model, "y")) == {"flag", "c", "x", "k"}


def test_only_readers(model: onnx.ModelProto) -> None:
    reader = only_reader(model, "b")
    assert reader is not None
    assert reader.op_type == "Relu"
    assert only_reader(model, "c") is None  # the If's body reads it, too
    assert only_reader(model, "z") is None  # an output


def test_ancestors(model: onnx.ModelProto) -> None:
    outputs = [node.output[0] for node in model.graph.node]
    assert sorted(outputs[index] for index in ancestors(model, ["c"])) == ["a", "also", "b", "c", "two"]


def test_constants_are_found_through_identity_and_shared_with_the_model(model: onnx.ModelProto) -> None:
    constants = Constants(model)
    assert [constants.source(name) for name in ("w", "also", "two")] == ["w", "two", "two"]
    assert [constants.source(name) for name in ("k", "a", "x")] == [None] * 3  # no tensor of its own; computed; given
    assert constants.array("two").tolist() == [2.0]
    constants.tensor("w").CopyFrom(onnx.numpy_helper.from_array(np.ones((4, 2, 3, 3), np.float32), "w"))
    assert onnx.numpy_helper.to_array(model.graph.initializer[0]).min() == 1


@pytest.mark.parametrize("written", ["N", -1, 0, 8])
def test_an_open_graph_has_the_sizes_it_is_opened_with(written: int | str) -> None:
    net = build(
        """(float[1, 2, 8, 8] x) => (float[1, 4, 8, 8] y) {
        a = Relu(x)
        k = Identity(w)
        y = Conv<pads = [1, 1, 1, 1]>(a, k)
    }""",
        w=weight(4, 2, 3, 3),
    )
    for value in (net.graph.input[0], net.graph.output[0]):
        for dim in value.type.tensor_type.shape.dim[2:]:
            dim.Clear()
            if isinstance(written, str):
                dim.dim_param = written
            else:
                dim.dim_value = written
    size = (8, 8) if written == 8 else (20, 12)
    opened: OpenGraph = open_graph(Model(net), size)
    assert opened.spatial("y") == size
    constant = opened.constant("k")
    assert constant is not None
    assert constant.shape == (4, 2, 3, 3)
