"""A rewrite that makes a valid model invalid, or changes its inputs and outputs, is refused."""

from __future__ import annotations

import onnx
import pytest
from reference import build

import aarewrite
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model.model_file import load
from aarewrite.rewriting.checks import check, explained


def relu() -> onnx.ModelProto:
    return build("(float[1, 2] x) => (float[1, 2] y) { [relu] y = Relu(x) }")


def without_an_operator() -> onnx.ModelProto:
    model = relu()
    model.graph.node[0].op_type = "NoSuchOperator"
    return model


def test_an_equal_model_passes_without_warnings() -> None:
    assert check(load(relu()), load(relu())) == ()


def test_what_the_original_fails_too_is_a_warning() -> None:
    (warning,) = check(load(without_an_operator()), load(without_an_operator()))
    assert warning.startswith("the original already fails onnx.checker: No Op registered for NoSuchOperator")


def test_a_model_made_invalid_is_refused() -> None:
    with pytest.raises(aarewrite.CheckFailed, match=r"fails onnx\.checker: No Op registered for NoSuchOperator"):
        check(load(relu()), load(without_an_operator()))


def test_a_model_whose_shapes_contradict_each_other_is_refused() -> None:
    model = build("(float[1, 2] x) => (float[1, 2] y) { y = Transpose<perm = [1, 0]>(x) }")
    with pytest.raises(aarewrite.CheckFailed, match="fails strict shape inference"):
        check(load(relu()), load(model))


@pytest.mark.parametrize("kind", ["input", "output"])
def test_another_signature_is_refused(kind: str) -> None:
    model = relu()
    getattr(model.graph, kind)[0].type.tensor_type.shape.dim[0].dim_param = "N"
    with pytest.raises(aarewrite.CheckFailed, match=f"the rewritten model's {kind}s differ in name, type or shape"):
        check(load(relu()), load(model))


def test_an_input_that_may_be_resized_and_outputs_that_may_be_added() -> None:
    model = build("""(float[1, 4] x) => (float[1, 2] y, float[1, 4] z) {
        a, b = Split<axis = 1>(x)
        y = Relu(a)
        z = Neg(x)
    }""")
    assert check(load(relu()), load(model), resized=("x",), more_outputs=1) == ()
    for allowed in ({"resized": ("x",)}, {"more_outputs": 1}, {"resized": ("x",), "more_outputs": 2}):
        with pytest.raises(aarewrite.CheckFailed, match=r"the rewritten model's (inputs|outputs) differ"):
            check(load(relu()), load(model), **allowed)


def test_sizes_that_a_file_states_wrongly_are_no_fault_of_the_rewrite() -> None:
    """Below opset 22 onnx infers 3 where ONNX Runtime gives 2, and an exporter wrote that into the file."""
    text = """(float[1, 2, 5, 5] x) => (float[1, 2, 3, 3] y) {{
        [pool] a = MaxPool<kernel_shape = [3, 3], strides = {}, pads = [1, 1, {}]{}>(x)
        {} y = Relu(a)
    }}"""
    original = onnx.shape_inference.infer_shapes(build(text.format([3, 3], "1, 1", ", ceil_mode = 1", "")))
    rewritten = build(text.format([1, 1], "2, 2", "", "[sub] b = Slice(a, zero, five, axes, step)"), zero=[0, 0],
                      five=[9, 9], axes=[2, 3], step=[3, 3])  # fmt: skip
    rewritten.graph.node[-1].input[0] = "b"
    assert check(load(original), load(rewritten)) == ()
    with pytest.raises(aarewrite.CheckFailed, match="fails strict shape inference"):
        check(load(build(text.format([2, 2], "1, 1", "", ""))), load(rewritten))


def test_an_error_that_nobody_foresaw_is_explained_by_what_onnx_says_of_the_model() -> None:
    sound = load(build("(float[1, 2, 8, 8] x) => (float[] y) { y = Relu(x) }"))
    with pytest.raises(KeyError), explained(sound):
        raise KeyError("ours")
    wrong = load(build("(float[1, 2, 8, 8] x) => (float[1, 2, 8, 8] y) { y = Relu<mine = 1>(x) }"))
    with pytest.raises(CannotHandle, match=r"not valid ONNX \(onnx.checker\): Unrec"), explained(wrong):
        raise KeyError("its")
    with pytest.raises(CannotHandle, match="more memory"), explained(sound):
        raise MemoryError
    with pytest.raises(UsageError, match="as it is"), explained(wrong):
        raise UsageError("as it is")
