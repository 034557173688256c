"""A float32 copy has no bfloat16 or float64 left anywhere, and computes the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from reference import build, run, weight

from aarewrite.model.model_file import load
from aarewrite.model.precision import in_float32, types_agree

FLOAT = onnx.TensorProto.FLOAT


def nested() -> onnx.ModelProto:
    """Float64 as input, output, initializer small and large, Constant, Cast, and inside a branch."""
    return build(
        """(double[1, 300] x, bool flip) => (double[1, 300] y) {
        a = Mul(x, large)
        half = Constant<value = double {0.5}>()
        whole = Cast<to = 7>(a)
        b = Cast<to = 11>(whole)
        c = Mul(b, half)
        y = If (flip) <
            then_branch = yes () => (double[1, 300] d) {
                two = Constant<value = double {2.0}>()
                d = Mul(c, two) },
            else_branch = no () => (double[1, 300] e) { e = Add(c, small) }
        >
    }""",
        large=weight(1, 300, dtype=np.float64) * 9,
        small=np.float64(0.25),
    )


@pytest.mark.parametrize("flip", [True, False])
def test_a_float32_copy_computes_the_same(flip: bool) -> None:
    model = load(nested())
    assert set(model.weights) == {"large"}, "one weight is set aside"
    copy = in_float32(model).to_proto()
    onnx.checker.check_model(copy, full_check=True)
    assert b"double" not in onnx.printer.to_text(copy).encode()
    x = weight(1, 300, seed=1)
    (found,) = run(copy, x=x, flip=np.array(flip))
    (expected,) = run(nested(), x=x.astype(np.float64), flip=np.array(flip))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_the_original_is_left_as_it_is() -> None:
    model = load(nested())
    in_float32(model)
    assert model.to_proto().SerializeToString() == nested().SerializeToString()
    assert len(model.weights["large"]) == 300 * 8


@pytest.mark.filterwarnings("error")
def test_what_float32_does_not_hold_is_infinite_without_a_warning() -> None:
    model = build("(double[2] x) => (double[2] y) { y = Add(x, b) }", b=np.array([1e300, -1e300]))
    (found,) = in_float32(load(model)).to_proto().graph.initializer
    assert onnx.numpy_helper.to_array(found).tolist() == [np.inf, -np.inf]


def test_bfloat16_keeps_its_values() -> None:
    model = build("(bfloat16[2] x) => (bfloat16[2] y) { y = Add(x, b) }", opset=13)
    raw = np.array([1.5, -3], onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16))
    model.graph.initializer.append(onnx.numpy_helper.from_array(raw, "b"))
    copy = in_float32(load(model)).to_proto()
    assert copy.graph.initializer[0].data_type == FLOAT
    np.testing.assert_array_equal(run(copy, x=np.float32([1, 1]))[0], np.float32([2.5, -2]))


def test_a_model_without_either_is_returned_itself() -> None:
    model = load(build("(float[2] x) => (float[2] y) { y = Relu(x) }"))
    assert in_float32(model) is model


def mixed(op: str = "Conv(x, w)", out: str = "float") -> onnx.ModelProto:
    """A model with a float64 weight on a float input."""
    text = f"(float[1, 2, 8, 8] x) => ({out}[1, n, h, w] y) {{ y = {op} }}"
    model = build(text, imports=', "local" : 1', w=weight(3, 2, 3, 3))
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight(3, 2, 3, 3, dtype=np.float64), "w"))
    return model


@pytest.mark.parametrize(
    ("model", "agree"),
    [
        (mixed(), False),
        (mixed("Concat<axis = 1>(x, x, w)"), False),
        (mixed("Identity(x)", "double"), False),
        (mixed("Identity(x)"), True),
        (mixed("local.Unheard(x, w)"), True),
        (nested(), True),
    ],
    ids=["operands", "variadic", "output", "none", "unknown", "nested"],
)
def test_operators_of_two_types_where_onnx_wants_one(model: onnx.ModelProto, agree: bool) -> None:
    assert types_agree(load(model)) == agree
