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


@pytest.mark.parametrize("batch", ["N", "1"])
@pytest.mark.parametrize("opset", [9, 13])
def test_states_are_packed_behind_the_batch(batch: str, opset: int) -> None:
    model = build(NET.replace("N,", f"{batch},"), w=weight(4, 2, 3), v=weight(4, 4, 3), opset=opset)
    streaming, _ = written(flow_of(model), 4, pack=True)
    onnx.checker.check_model(streaming, full_check=True)
    assert record(streaming)["states"] == {"states/float32": "states/float32/next"}
    state = streaming.graph.input[1].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in state] == [batch if batch == "N" else 1, 2 * 28 + 4 * 24]
    assert largest_difference(model, streaming) < 1e-6


def test_states_of_several_types_are_packed_by_type() -> None:
    model = build(
        """(float[1, 2, 32] x) => (float[] y) {
        a = Conv<pads = [1, 1]>(x, w)
        q = QuantizeLinear(a, s, z)
        d = DequantizeLinear(q, s, z)
        c = Conv<pads = [2, 2]>(d, v)
        m = MaxPool<kernel_shape = [3], strides = [2]>(q)
        n = DequantizeLinear(m, s, z)
        e = GlobalMaxPool(n)
        f = GlobalMaxPool(c)
        y = Add(e, f)
    }""",
        w=weight(4, 2, 3), v=weight(4, 4, 5), s=np.float32(0.05), z=np.uint8(128),
    )  # fmt: skip
    streaming, _ = written(flow_of(model), 4, pack=True)
    assert set(record(streaming)["states"]) == {"states/float32", "states/uint8"}
    assert largest_difference(model, streaming) < 1e-6


def test_states_whose_batches_differ_are_packed_flat_where_sizes_are_known() -> None:
    body = """(float[N, 4, 32] x) => (float[] y) {
        a = Reshape(x, apart)
        b = Conv<pads = [1, 1]>(a, w)
        c = Reshape(b, together)
        y = GlobalAveragePool(c)
    }"""
    shapes = {"apart": np.array([4, 2, 32]), "together": np.array([2, 8, 32])}
    model = build(body.replace("N,", "2,"), w=weight(4, 2, 3), **shapes)
    streaming, _ = written(flow_of(model), 4, pack=True)
    assert len(streaming.graph.input[1].type.tensor_type.shape.dim) == 1
    assert largest_difference(model, streaming) < 1e-6


def test_a_split_keeps_the_outputs_that_nobody_reads() -> None:
    """Without one of them ONNX Runtime crashes."""
    model = build(
        """(float[1, 2, 32] x) => (float[] y) {
        a = Conv<pads = [1, 1]>(x, w)
        b, unread = Split<axis = 1, num_outputs = 2>(a)
        c = Conv<pads = [1, 1]>(b, v)
        y = GlobalAveragePool(c)
    }""",
        w=weight(4, 2, 3), v=weight(4, 2, 3), opset=18,
    )  # fmt: skip
    streaming, _ = written(flow_of(model), 4)
    assert [len(node.output) for node in streaming.graph.node if node.op_type == "Split"] == [2, 2]
    assert largest_difference(model, streaming) < 1e-6
