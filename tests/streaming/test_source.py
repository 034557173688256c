"""A model laid open: sizes, what is constant, values."""

import numpy as np
import pytest
from nets import flow_of, largest_difference, written
from reference import build, function, functions, weight

from aarewrite.errors import UsageError
from aarewrite.model.model_file import load
from aarewrite.streaming.source import Source, captures

RESHAPED = """(float[N, 2, 16] x) => (float[] y) {
    s = Shape(x)
    b = Gather(s, zero)
    bu = Unsqueeze(b, zeros)
    target = Concat<axis = 0>(bu, rest)
    y = Reshape(x, target)
}"""


def source(model, **shapes):
    return Source(load(model), shapes)


def test_sizes_are_known_behind_a_reshape_that_leaves_the_batch_open() -> None:
    model = build(
        "(float[N, 2, 16] x) => (float[] y) { a = Reshape(x, s) y = Relu(a) }",
        s=np.array([-1, 1, 2, 16]),
    )  # fmt: skip
    assert source(model).dims("y") == ("N", 1, 2, 16)


def test_the_shape_of_a_window_does_not_become_that_of_a_piece() -> None:
    """The batch is read off the input, everything else is a constant."""
    model = build(RESHAPED, zero=np.array(0), zeros=np.array([0]), rest=np.array([2, 4, 4]))
    found = source(model)
    kinds = [node.op_type for node in found.nodes]
    assert kinds == ["Shape", "Constant", "Gather", "Constant", "Constant", "Concat", "Gather", "Unsqueeze", "Concat",
                     "Reshape"]  # fmt: skip
    assert "target" in found.constant
    assert found.value("target") is None  # the batch size is open
    settled = source(model, x=(3, 2, 16))
    assert settled.value("target").tolist() == [3, 2, 4, 4]
    assert [node.op_type for node in settled.nodes if node.output[0] == "target"] == ["Constant"]


def test_a_shape_that_reaches_the_stream_is_that_of_the_window() -> None:
    model = build(
        """(float[N, 2, 32] x) => (float[] y) {
        a = Conv<pads = [1, 1]>(x, w)
        s = Shape(a)
        l = Gather(s, two)
        f = Cast<to = 1>(l)
        b = Div(a, f)
        y = GlobalAveragePool(b)
    }""",
        w=weight(4, 2, 3),
        two=np.array(2),
    )
    streaming, work = written(flow_of(model), 4)
    assert work < 0.3
    assert largest_difference(model, streaming) < 1e-6


def test_constants_are_worked_out_through_nodes() -> None:
    model = build(
        """(float[1, 2, 16] x) => (float[] y) {
        w = DequantizeLinear(q, scale)
        pads = Concat<axis = 0>(front, back)
        p = Pad(x, pads)
        y = Conv(p, w)
    }""",
        q=np.ones((3, 2, 3), np.int8),
        scale=np.float32(0.5),
        front=np.array([0, 0, 2]),
        back=np.array([0, 0, 0]),
    )
    found = source(model)
    assert found.value("pads").tolist() == [0, 0, 2, 0, 0, 0]
    assert found.value("w").max() == 0.5
    assert found.value("p") is None
    assert found.dims("p") == (1, 2, 18)
    assert [node.op_type for node in found.readers["w"]] == ["Conv"]


def test_random_numbers_are_no_constants() -> None:
    model = build("(float[1, 2, 16] x) => (float[] y) { r = RandomNormal<shape = [1]>() y = Mul(x, r) }")
    assert source(model).constant == set()


def test_functions_are_inlined_and_an_open_batch_gets_a_name() -> None:
    found = source(functions("y = f.twice(x)", function("twice", "y = Add(x, x)"), inputs="float[?, 2, 9] x"))
    assert [node.op_type for node in found.nodes] == ["Add"]
    assert found.dims("y") == ("batch", 2, 9)


def test_what_bodies_capture() -> None:
    model = build(
        """(float[1, 2, 8] x, bool c) => (float[1, 2, 8] y) {
        y = If(c) <then_branch = t () => (float[1, 2, 8] a) { a = Relu(x) },
                   else_branch = e () => (float[1, 2, 8] b) { b = Neg(x) }>
    }"""
    )
    assert captures(model.graph.node[0]) == {"x"}


def test_shapes_that_contradict_the_model_are_refused() -> None:
    model = build("(float[1, 2, 16] x) => (float[] y) { y = Relu(x) }")
    with pytest.raises(UsageError, match="contradicts"):
        source(model, x=(1, 3, 16))


def test_a_known_size_is_taken_out_of_a_shape_whose_batch_is_open() -> None:
    model = build(
        "(float[N, 2, 16] x) => (float[] y) { s = Shape(x) c = Gather(s, place) f = Cast<to = 1>(c) y = Mul(x, f) }",
        place=np.array(2),
    )
    assert source(model).value("f") == 16


def test_a_cast_like_is_a_cast() -> None:
    model = build("(float[N, 2, 16] x) => (float[] y) { f = CastLike(c, x) y = Mul(x, f) }", opset=15, c=np.array(3))
    found = source(model)
    assert [node.op_type for node in found.nodes] == ["Cast", "Mul"]
    assert found.value("f") == 3


def test_the_batch_stays_open_behind_resizes() -> None:
    model = build(
        """(float[N, 2, 16] x) => (float[] y) {
        a = Resize<mode = "nearest">(x, , s)
        y = Resize<mode = "nearest">(a, , s)
    }""",
        s=np.array([1, 1, 2], np.float32),
    )
    assert source(model).dims("y") == ("N", 2, 64)
