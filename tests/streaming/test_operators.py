"""Which operator has which rule; int8 and fp16 graphs stream."""

import numpy as np
import pytest
from nets import flow_of, largest_difference, written
from reference import build, qdq, weight

from aarewrite.streaming.operators import OF_MICROSOFT, RULES


def fit(body: str, opset: int = 18, imports: str = "", **constants):
    return flow_of(build(f"(float[1, 2, 32] x) => (float[] y) {{ {body} }}", opset=opset, imports=imports, **constants),
                   2).parts[-1].fit  # fmt: skip


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = GlobalAveragePool(x)", "it averages the whole window"),
        ("y = InstanceNormalization(x, s, s)", "its statistics are the whole window's"),
        ("y = Resize<mode = \"linear\">(x, , z)", "it resamples the whole window"),
        ("y = Einsum<equation = \"abc->abc\">(x)", "no rule for Einsum along the stream"),
        ("y = other.Thing(x)", "no rule for Thing along the stream"),
    ],
)  # fmt: skip
def test_operators_without_a_rule(body: str, reason: str) -> None:
    constants = {"s": weight(2), "z": np.array([1, 1, 2], np.float32)}
    used = {name: value for name, value in constants.items() if f"{name})" in body or f" {name}," in body}
    assert fit(body, imports=', "other" : 1', **used) == reason


def test_the_tables_hold_what_the_docs_promise() -> None:
    assert {"Conv", "ConvTranspose", "QLinearConv", "MaxPool", "Slice", "Pad", "LayerNormalization"} <= RULES.keys()
    assert "QLinearAdd" in OF_MICROSOFT


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_a_quantised_graph_keeps_its_integers(kind) -> None:
    model = qdq(kind)
    streaming, work = written(flow_of(model, 3), 2)
    assert work < 1
    assert largest_difference(model, streaming) == 0
    weights = [tensor for tensor in streaming.graph.initializer if tensor.name == "w"]
    assert [tensor.data_type for tensor in weights] == [3]  # int8, as it was


def test_operators_on_integers() -> None:
    model = build(
        """(uint8[1, 2, 40] x) => (uint8[] y) {
        a = QLinearConv<pads = [1, 1]>(x, s, z, w, s, zw, s, z)
        b = MaxPool<kernel_shape = [2], strides = [2]>(a)
        t = Transpose<perm = [0, 2, 1]>(b)
        y = QLinearMatMul(t, s, z, m, s, zw, s, z)
    }""",
        s=np.float32(0.05), z=np.uint8(7), w=weight(4, 2, 3).clip(-1, 1).astype(np.int8), zw=np.int8(0),
        m=(weight(4, 3) * 3).astype(np.int8),
    )  # fmt: skip
    streaming, work = written(flow_of(model), 4)
    assert work < 0.5
    assert largest_difference(model, streaming) == 0


def test_half_precision_streams() -> None:
    model = build(
        """(float16[N, 2, 40] x) => (float16[] y) {
        a = Conv<pads = [1, 1]>(x, w)
        b = Relu(a)
        c = Conv<pads = [2, 2], strides = [2]>(b, v)
        y = GlobalAveragePool(c)
    }""",
        w=weight(4, 2, 3, dtype=np.float16), v=weight(3, 4, 5, dtype=np.float16),
    )  # fmt: skip
    streaming, work = written(flow_of(model), 4)
    assert work < 0.5
    assert largest_difference(model, streaming) <= 2e-3  # two units in the last place of float16
    states = [value for value in streaming.graph.input if value.name.endswith("/state")]
    assert {value.type.tensor_type.elem_type for value in states} == {10}
