"""The streaming graph: names, metadata, bodies, old opsets; what is not needed is not there."""

import numpy as np
import onnx
import pytest
from nets import flow_of, largest_difference, record, written
from reference import build, ops, weight

NET = """(float[N, 2, 32] x) => (float[] y) {
    a = Conv<pads = [1, 1]>(x, w)
    b = Relu(a)
    c = Conv<pads = [1, 1]>(b, v)
    y = GlobalAveragePool(c)
}"""


def net(**more):
    return build(NET, w=weight(4, 2, 3), v=weight(4, 4, 3), **more)


def test_names_shapes_and_metadata() -> None:
    model = net()
    model.producer_name = "someone"
    model.metadata_props.add(key="of", value="theirs")
    streaming, _ = written(flow_of(model), 4)
    onnx.checker.check_model(streaming, full_check=True)
    told = record(streaming)
    states = told.pop("states")
    assert told == {"input": "x", "axis": 2, "window": 32, "step": 4, "form": "exact", "inputs": {"x": 2}}
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*streaming.graph.input, *streaming.graph.output)
    }
    assert shapes["x"] == ["N", 2, 4]
    assert shapes["y"] == ["N", 4, 1]
    assert states == {name: f"{name}/next" for name in ("x/state", "c/state")}
    assert shapes["c/state"] == shapes["c/state/next"] == ["N", 4, 24]
    assert streaming.producer_name == "someone"
    assert {entry.key for entry in streaming.metadata_props} == {"of", "aarewrite.stream"}
    assert {tensor.name for tensor in streaming.graph.initializer} >= {"w", "v"}


@pytest.mark.parametrize("opset", [9, 10, 11, 13, 18, 21])
def test_every_opset_from_9_on(opset: int) -> None:
    model = net(opset=opset, ir=10 if opset > 18 else 8)
    streaming, work = written(flow_of(model), 4)
    assert work < 0.5
    assert largest_difference(model, streaming) < 1e-6


def test_before_free_initializers_constants_are_nodes() -> None:
    model = net(opset=10, ir=3)
    streaming, _ = written(flow_of(model), 4)
    inputs = {value.name for value in streaming.graph.input}
    assert {tensor.name for tensor in streaming.graph.initializer} <= inputs
    assert "Constant" in ops(streaming)
    assert largest_difference(model, streaming) < 1e-6


def test_whole_tensors_keep_their_names_and_reach_bodies() -> None:
    model = build(
        """(float[1, 2, 32] x, bool c) => (float[1, 4, 32] b, float[] y) {
        a = Conv<pads = [1, 1]>(x, w)
        b = Relu(a)
        i = If(c) <then_branch = t () => (float[1, 2, 32] q) { q = Relu(x) },
                   else_branch = e () => (float[1, 2, 32] r) { r = Neg(x) }>
        y = GlobalAveragePool(i)
    }""",
        w=weight(4, 2, 3),
    )  # fmt: skip
    streaming, _ = written(flow_of(model), 4)
    assert [value.name for value in streaming.graph.output][:2] == ["b", "y"]
    for condition in (True, False):
        assert largest_difference(model, streaming, c=np.array(condition)) < 1e-6


def test_an_output_that_is_a_piece_keeps_its_name() -> None:
    model = build("(float[1, 2, 32] x) => (float[] y, float[] z) { y = Relu(x) z = Neg(x) }")
    streaming, _ = written(flow_of(model), 32)
    assert [value.name for value in streaming.graph.output] == ["y", "z"]
    assert largest_difference(model, streaming) == 0


def test_what_nobody_reads_is_left_out() -> None:
    model = build(
        """(float[1, 2, 32] x) => (float[] y) {
        a = Conv<pads = [1, 1]>(x, w)
        unread = Conv(a, u)
        y = GlobalAveragePool(a)
    }""",
        w=weight(4, 2, 3), u=weight(4, 4, 3),
    )  # fmt: skip
    streaming, _ = written(flow_of(model), 4)
    assert {tensor.name for tensor in streaming.graph.initializer} & {"w", "u"} == {"w"}
    assert ops(streaming).count("Conv") == 2
