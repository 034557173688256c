"""Values computed from constants alone: what they are, where they stop, and that nothing grows without a bound."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from reference import build

from aarewrite.model import constants
from aarewrite.model.constants import LARGEST, LONGEST, Constants
from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.model_file import load
from aarewrite.model.shapes import Shapes
from aarewrite.model.types import Array, Tensor


def tensor(editor: GraphEditor, name: str) -> Tensor:
    made = (t for scope in editor.scopes for node in scope.nodes for t in (*node.inputs, *node.outputs))
    return next(t for t in made if t.name == name)


def value(text: str, opset: int = 17, **constants: Array) -> Array | None:
    """The value of k, in a graph of x besides."""
    editor = GraphEditor(
        load(build(f"(float[N, 3, 8, 8] x) => (float[] y) {{ {text} y = Neg(x) }}", opset=opset, **constants))
    )
    found = editor.constant_value(tensor(editor, "k"))
    assert editor.is_constant(tensor(editor, "k")) or found is None
    return found


GAUSSIAN = """two = Constant<value_float = 2.0>() places = Constant<value = float[5] {-4, -1, 0, -1, -4}>()
    square = Pow(sigma, two) twice = Mul(square, two) over = Div(places, twice) bell = Exp(over)
    all = ReduceSum<keepdims = 0>(bell) taps = Div(bell, all) k = Einsum<equation = "i,j->ij">(taps, taps)"""


def test_a_gaussian_from_its_sigma() -> None:
    bell = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 1.2**2))
    found = value(GAUSSIAN, sigma=np.float32(1.2))
    assert found is not None
    assert found.dtype == np.float32
    assert np.abs(found - np.outer(bell, bell) / bell.sum() ** 2).max() < 1e-7


@pytest.mark.parametrize(
    ("text", "opset", "expected"),
    [
        ("k = Slice(a, back, first, zero, back)", 13, [3, 2]),  # flipped, but for the first
        ("k = Unsqueeze<axes = [0]>(a)", 11, [[1, 2, 3]]),  # the reference implementation has no such version
        ("one = Constant<value_int = 1>() k = Add(a, one)", 17, [2, 3, 4]),
        ("s = Shape(a) k = ConstantOfShape<value = int64[1] {7}>(s)", 17, [7, 7, 7]),
        ("n = ConstantOfShape<value = int64[1] {-1}>(zero) k = Concat<axis = 0>(n, a)", 17, [1, 2, 3]),
        ("c, k = Split<axis = 0>(a, lengths)", 13, [2, 3]),
        ("k = Where(b, a, back)", 17, [-1, 2, -1]),
        ("k = Conv<pads = [1, 1]>(row, pair)", 17, [[[1.0, 3.0, 3.0, 1.0]]]),  # binomial taps from shorter ones
    ],
)
def test_any_operator_of_constants_has_a_value(text: str, opset: int, expected: object) -> None:
    known = {"a": np.array([1, 2, 3]), "zero": np.array([0]), "back": np.array([-1]), "first": np.array([0])}
    known |= {"row": np.float32([[[1, 2, 1]]]), "pair": np.float32([[[1, 1]]])}
    known |= {"lengths": np.array([1, 2]), "b": np.array([False, True, False])}
    words = set(text.replace(",", " ").replace(")", " ").replace("(", " ").split())
    found = value(text, opset, **{name: given for name, given in known.items() if name in words})
    assert found is not None
    assert found.tolist() == expected


@pytest.mark.parametrize(
    "text",
    [
        "k = RandomNormalLike(a)",
        "k = Bernoulli(a)",
        "s = Shape(x) k = Cast<to = 1>(s)",  # without the shapes of maps
        "k = Mul(x, a)",
        "k = Reshape(a, wrong)",  # not valid
        "k = Expand(a, huge)",
    ],
)
def test_what_is_no_constant_has_no_value(text: str) -> None:
    known = {"a": np.float32([1]), "wrong": np.array([3]), "huge": np.array([2**40])}
    assert value(text, **{name: given for name, given in known.items() if name in text}) is None


@pytest.mark.parametrize("op", ["ConstantOfShape(n)", "Range(zero, n, one)", "Tile(one, n)", "OneHot(zero, n, two)"])
def test_nothing_larger_than_the_bound_is_computed(op: str) -> None:
    known = {"zero": np.array(0), "one": np.array(1), "n": np.array(LARGEST + 1), "two": np.array([0, 1])}
    if "Tile" in op or "OfShape" in op:
        known |= {"one": np.array([1]), "n": np.array([LARGEST + 1])}
    assert value(f"k = {op}", **{name: v for name, v in known.items() if f"{name})" in op or f"{name}," in op}) is None


def test_what_takes_long_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contractions of many elements, windows; and no more than so many elements in all."""
    many = np.ones(2**12, np.float32)
    assert value('k = Einsum<equation = "i,j->">(a, b)', a=many, b=many[:1000]) is not None
    assert value('k = Einsum<equation = "i,j->">(a, b)', a=many, b=many) is None
    assert value("k = MaxPool<kernel_shape = [900]>(a)", a=many.reshape(1, 4, 1024)) is None
    chain = "b = Exp(a) c = Neg(b) d = Neg(c) k = ReduceMax(d)"
    assert value(chain, a=many) is not None
    monkeypatch.setattr(constants, "MOST", 3 * 2**12)
    assert value(chain, a=many) is None


def test_a_long_chain_has_no_value_and_is_no_recursion() -> None:
    steps = [onnx.helper.make_node("Neg", [f"t{k}"], [f"t{k + 1}"]) for k in range(5000)]
    graph = onnx.helper.make_graph(
        [*steps, onnx.helper.make_node("Add", ["x", "t5000"], ["y"])], "chain",
        [onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [onnx.numpy_helper.from_array(np.float32([1]), "t0")],
    )  # fmt: skip
    editor = GraphEditor(
        load(onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)]))
    )
    assert editor.is_constant(tensor(editor, "t5000"))
    assert editor.constant_value(tensor(editor, "t5000")) is None
    assert editor.constant_value(tensor(editor, f"t{LONGEST}")) is not None


# ---- with the sizes of maps ----------------------------------------------------------------------------------


def known(text: str) -> Array | None:
    """The value of k where the sizes of maps are known."""
    text = f"(float[N, 3, 8, 9] x) => (float[] y) {{ {text} y = Neg(x) }}"
    editor = GraphEditor(load(build(text, opset=17, zero=np.array([0]), one=np.array(1), two=np.array([2]))))
    shapes = Shapes(editor)

    def types(scope: Scope, of: Tensor) -> tuple[int, tuple[int | str | None, ...] | None]:
        found = shapes.of(scope, of)
        return found.dtype, found.dims

    found: Constants = editor.constants(types)
    return found.value(tensor(editor, "k"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s = Shape(x) k = Gather(s, one)", 3),
        ("s = Shape(x) k = Gather(s, two)", [8]),
        ("k = Shape<start = 2>(x)", [8, 9]),
        ("s = Shape<start = 1, end = 2>(x) i = Squeeze(s) k = Mul(i, one)", 3),
        ("s = Shape(x) c = Gather(s, two) d = Gather(s, two) k = Concat<axis = 0>(c, d)", [8, 8]),
        ("s = Shape(x) k = Gather(s, zero)", None),  # the batch is open
        ("s = Shape(x) b = Gather(s, zero) k = Add(b, one)", None),
        ("k = CastLike(two, x)", [2.0]),
        ("s = Shape(x) b = Gather(s, zero) k = Concat<axis = 0>(b, two)", None),
    ],
)
def test_known_sizes_are_constants_and_open_ones_are_not(text: str, expected: object) -> None:
    found = known(text)
    assert (found if found is None else found.tolist()) == expected
