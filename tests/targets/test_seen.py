"""Nodes as importers see them: folded constants, inlined functions, versions, types and sizes."""

from __future__ import annotations

import numpy as np
import onnx
from reference import build, function, functions, weight

from aarewrite.targets.seen import Seen, expands, seen_nodes


def seen(text: str, **options: object) -> dict[str, Seen]:
    return {node.name: node for node in seen_nodes(build(text, **options))}  # type: ignore[arg-type]


def test_what_is_known_of_a_nodes_inputs() -> None:
    text = "(float16[n, 2, 9, 9] x) => (float16[] y) { [a] y = Conv<pads = [1, 1, 1, 1], group = 2>(x, w) }"
    node = seen(text, opset=18, w=weight(2, 1, 3, 3, dtype=np.float16))["a"]
    assert (node.type(0), node.dims(0), node.dims(1)) == ("float16", ("n", 2, 9, 9), (2, 1, 3, 3))
    assert (node.op, node.domain, node.version, node.opset) == ("Conv", "", 11, 18)
    assert (node.ints("pads"), node.integer("group", 1), node.text("auto_pad", "NOTSET")) == ((1,) * 4, 2, "NOTSET")
    assert [node.has(k) for k in range(3)] == [True, True, False]
    assert [node.is_constant(k) for k in range(3)] == [False, True, False]
    assert (node.type(2), node.dims(2), node.value(0)) == ("", None, None)


def test_a_node_without_a_name_is_called_by_its_output() -> None:
    assert list(seen("(float[1] x) => (float[] y) { y = Relu(x) }")) == ["y"]


def test_what_constants_alone_make_is_folded() -> None:
    nodes = seen(
        """(float[1, 2, 9, 9] x) => (float[] y) {
        half = Constant<value = int64[4] {0, 0, 1, 1}>()
        pads = Concat<axis = 0>(half, half)
        [pad] padded = Pad<mode = "reflect">(x, pads)
        size = Shape(x)
        [reshape] y = Expand(padded, size)
    }"""
    )
    assert set(nodes) == {"half", "pad", "reshape"}
    assert nodes["pad"].is_constant(1)
    assert nodes["pad"].value(1) is None  # nobody has computed it
    assert nodes["reshape"].is_constant(1)  # the size is static


def test_quantised_weights_stay() -> None:
    nodes = seen(
        "(float[1, 2, 9, 9] x) => (float[] y) { w = DequantizeLinear(q, s)  [conv] y = Conv(x, w) }",
        q=np.ones((2, 2, 1, 1), np.int8),
        s=np.float32(0.5),
    )
    assert set(nodes) == {"w", "conv"}
    assert nodes["conv"].is_constant(1)


def test_functions_are_inlined_and_bodies_seen() -> None:
    model = functions("y = f.half(x)", function("half", "s = Constant<value = float {0.5}>()  y = Mul(x, s)"))
    assert [(node.op, node.type(0)) for node in seen_nodes(model) if node.op != "Constant"] == [("Mul", "float")]
    branch = seen(
        """(bool c, float[4] x) => (float[] y) {
        y = If(c) <
            then_branch = a () => (float[4] t) { t = Relu(x) }, else_branch = b () => (float[4] e) { e = Neg(x) }
        >
    }"""
    )
    assert [(name, node.type(0)) for name, node in branch.items()] == [("y", "bool"), ("t", "float"), ("e", "float")]


def test_a_function_that_calls_itself_stays_a_node() -> None:
    body = '<domain: "f", opset_import: ["f" : 1]> Loop (x) => (y) { y = f.Loop(x) }'
    text = '<ir_version: 8, opset_import: ["" : 13, "f" : 1]> g (float[4] x) => (float[4] y) { y = f.Loop(x) }'
    model = onnx.parser.parse_model(f"{text}\n{body}")
    assert [(node.domain, node.op) for node in seen_nodes(model)] == [("f", "Loop")]


def test_versions_are_the_operators_own() -> None:
    pool = "(float[1, 2, 8, 8] x) => (float[] y) { y = MaxPool<kernel_shape = [2, 2]>(x) }"
    assert [seen(pool, opset=opset)["y"].version for opset in (11, 12, 21, 22)] == [11, 12, 12, 22]
    custom = seen("(float[1] x) => (float[1] y) { y = m.Custom(x) }", imports=', "m" : 1')["y"]
    assert (custom.schema, custom.version, expands(custom)) == (None, 0, False)


def test_some_operators_are_defined_by_others() -> None:
    swish = seen("(float[1] x) => (float[] y) { y = HardSwish(x) }", opset=14)["y"]
    assert expands(swish)
    assert not expands(seen("(float[1] x) => (float[] y) { y = Tanh(x) }")["y"])
