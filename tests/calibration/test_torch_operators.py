"""Every operator that has a translation computes in PyTorch what ONNX Runtime computes; what has none is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from reference import build, relative_difference, run, weight

from aarewrite.errors import CannotHandle

torch = pytest.importorskip("torch", reason="the extra aarewrite[distill] is not installed")
TorchGraph = pytest.importorskip("aarewrite.calibration.torch_graph").TorchGraph
operators = pytest.importorskip("aarewrite.calibration.torch_operators")

MAP = "float[2, 4, 9, 8] x"
SEQUENCE = "float[2, 4, 11] x"
MATRIX = "float[3, 6] x"
W = {"w": weight(6, 4, 3, 3)}
NORM = {"s": weight(4), "b": weight(4, seed=1), "m": weight(4, seed=2), "v": abs(weight(4, seed=3)) + 0.1}


def ints(*values: int) -> Any:
    return np.asarray(values, np.int64)


CASES: list[tuple[str, str, int, dict[str, Any]]] = [
    # convolutions
    (MAP, "y = Conv(x, w)", 13, W),
    (MAP, "y = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w, b)", 13, {**W, "b": weight(6)}),
    (MAP, "y = Conv<pads = [0, 2, 1, 1], strides = [2, 1], dilations = [2, 1]>(x, w)", 13, W),
    (MAP, 'y = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w)', 13, W),
    (MAP, 'y = Conv<auto_pad = "SAME_LOWER", strides = [2, 2]>(x, w)', 13, W),
    (MAP, 'y = Conv<auto_pad = "VALID", strides = [2, 2]>(x, w)', 13, W),
    (MAP, "y = Conv<group = 2, pads = [1, 1, 1, 1]>(x, w)", 13, {"w": weight(6, 2, 3, 3)}),
    (SEQUENCE, "y = Conv<pads = [2, 1], strides = [2]>(x, w)", 13, {"w": weight(6, 4, 5)}),
    (SEQUENCE, 'y = Conv<auto_pad = "SAME_UPPER", strides = [3]>(x, w)', 13, {"w": weight(6, 4, 5)}),
    ("float[1, 2, 5, 6, 7] x", "y = Conv<pads = [1, 0, 1, 1, 1, 1]>(x, w)", 13, {"w": weight(3, 2, 3, 3, 3)}),
    (MAP, "y = ConvTranspose<strides = [2, 2]>(x, w, b)", 13, {"w": weight(4, 5, 3, 3), "b": weight(5)}),
    (
        MAP,
        "y = ConvTranspose<strides = [2, 2], pads = [1, 0, 0, 1], output_padding = [1, 0], group = 2>(x, w, b)",
        13,
        {"w": weight(4, 3, 3, 3), "b": weight(6)},
    ),
    (SEQUENCE, "y = ConvTranspose<strides = [3], dilations = [2]>(x, w)", 13, {"w": weight(4, 5, 3)}),
    # products
    (MATRIX, "y = Gemm(x, w)", 13, {"w": weight(6, 5)}),
    (MATRIX, "y = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, w, b)", 13, {"w": weight(5, 6), "b": weight(5)}),
    (MATRIX, "y = Gemm<transA = 1, alpha = 0.5>(x, w, b)", 13, {"w": weight(3, 5), "b": weight(6, 1)}),
    (MATRIX, "y = MatMul(x, w)", 13, {"w": weight(6, 5)}),
    (MATRIX, "y = MatMul(w, x)", 13, {"w": weight(5, 3)}),
    (SEQUENCE, "y = MatMul(x, w)", 13, {"w": weight(4, 11, 3)[:1]}),
    # arithmetic
    *((MAP, f"y = {op}(x, w)", 13, {"w": weight(4, 1, 1)}) for op in ("Add", "Sub", "Mul", "Div")),
    *((MAP, f"a = Abs(x) y = {op}(a)", 13, {}) for op in ("Abs", "Sqrt")),
    *((MAP, f"y = {op}(x)", 13, {}) for op in ("Neg", "Exp", "Relu", "Sigmoid", "Tanh", "Erf", "Identity")),
    (MAP, "y = Pow(x, w)", 13, {"w": np.float32(2)}),
    (MAP, "y = HardSwish(x)", 14, {}),
    (MAP, "y = Elu(x)", 13, {}),
    (MAP, "y = Elu<alpha = 0.5>(x)", 13, {}),
    (MAP, "y = LeakyRelu(x)", 13, {}),
    (MAP, "y = LeakyRelu<alpha = 0.3>(x)", 13, {}),
    (MAP, "y = PRelu(x, w)", 13, {"w": weight(4, 1, 1)}),
    (MAP, "y = HardSigmoid(x)", 13, {}),
    (MAP, "y = HardSigmoid<alpha = 0.16, beta = 0.4>(x)", 13, {}),
    (MAP, "y = Clip<min = -0.5, max = 0.7>(x)", 10, {}),
    (MAP, "y = Clip<min = -0.5>(x)", 10, {}),
    (MAP, "y = Clip(x, low, high)", 13, {"low": np.float32(-0.5), "high": np.float32(0.7)}),
    (MAP, 'y = Clip(x, "", high)', 13, {"high": np.float32(0.7)}),
    (MAP, "y = Softmax(x)", 13, {}),
    (MAP, "y = Softmax<axis = 1>(x)", 13, {}),
    (MAP, "y = Softmax(x)", 11, {}),
    (MAP, "y = LogSoftmax<axis = 2>(x)", 11, {}),
    (MAP, "y = LogSoftmax<axis = 2>(x)", 13, {}),
    (MAP, "y = BatchNormalization<epsilon = 0.01>(x, s, b, m, v)", 13, NORM),
    (SEQUENCE, "y = BatchNormalization(x, s, b, m, v)", 15, NORM),
    (MAP, "y = LRN<size = 3, alpha = 0.1, beta = 0.6, bias = 2.0>(x)", 13, {}),
    (MAP, "y = LRN<size = 5>(x)", 13, {}),
    (MAP, "y = Dropout<ratio = 0.3>(x)", 10, {}),
    # pools
    (MAP, "y = GlobalAveragePool(x)", 13, {}),
    (MAP, "y = GlobalMaxPool(x)", 13, {}),
    *(
        (MAP, f"y = {op}<kernel_shape = [3, 3], {how}>(x)", 19, {})
        for op in ("MaxPool", "AveragePool")
        for how in (
            "strides = [2, 2]",
            "strides = [2, 2], pads = [1, 1, 1, 1]",
            "strides = [2, 3], pads = [0, 1, 1, 2]",
            "strides = [2, 2], ceil_mode = 1",
            "strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1",
            "strides = [3, 3], pads = [0, 2, 1, 1], ceil_mode = 1",
            'strides = [2, 2], auto_pad = "SAME_UPPER"',
            'strides = [2, 2], auto_pad = "SAME_LOWER"',
            'strides = [2, 2], auto_pad = "VALID"',
        )
    ),
    *(
        (MAP, f"y = AveragePool<kernel_shape = [3, 3], count_include_pad = 1, {how}>(x)", 19, {})
        for how in (
            "strides = [2, 2], pads = [1, 1, 1, 1]",
            "strides = [2, 3], pads = [0, 1, 1, 2]",
            "strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1",
            "strides = [3, 3], pads = [0, 2, 1, 1], ceil_mode = 1",
        )
    ),
    (MAP, "y = MaxPool<kernel_shape = [2, 3], dilations = [2, 2], pads = [1, 1, 0, 1]>(x)", 13, {}),
    (SEQUENCE, "y = MaxPool<kernel_shape = [2], strides = [2], ceil_mode = 1>(x)", 13, {}),
    (SEQUENCE, "y = AveragePool<kernel_shape = [4], strides = [3], pads = [1, 2]>(x)", 13, {}),
    # shapes
    (MAP, "y = Flatten(x)", 13, {}),
    *((MAP, f"y = Flatten<axis = {axis}>(x)", 13, {}) for axis in (0, 2, 4, -1)),
    (MAP, "y = Reshape(x, to)", 13, {"to": ints(0, 2, -1, 8)}),
    (MAP, "y = Transpose(x)", 13, {}),
    (MAP, "y = Transpose<perm = [0, 2, 3, 1]>(x)", 13, {}),
    (MAP, "a = Relu(x) y = Concat<axis = 1>(x, a, w)", 13, {"w": weight(2, 1, 9, 8)}),
    (MAP, "a, b = Split<axis = 1>(x) y = Sub(a, b)", 13, {}),
    (MAP, "a, b = Split<axis = 1, split = [1, 3]>(x) y = Sub(a, b)", 11, {}),
    (MAP, "a, b = Split<axis = -3>(x, of) y = Sub(a, b)", 13, {"of": ints(1, 3)}),
    (MAP, "a, b, c = Split<axis = 3, num_outputs = 3>(x) y = Concat<axis = 3>(c, b, a)", 18, {}),
    (MAP, "y = Slice<starts = [1, -4], ends = [9, -1], axes = [2, 3]>(x)", 9, {}),
    (
        MAP,
        "y = Slice(x, from, to, of, by)",
        13,
        {"from": ints(7, 1), "to": ints(-(2**63), 2**62), "of": ints(2, -1), "by": ints(-2, 3)},
    ),
    (MAP, "y = Slice(x, from, to)", 13, {"from": ints(0, 1), "to": ints(1, 3)}),
    ("float[2, 1, 3, 1] x", "y = Squeeze(x)", 13, {}),
    ("float[2, 1, 3, 1] x", "y = Squeeze<axes = [-1]>(x)", 11, {}),
    ("float[2, 1, 3, 1] x", "y = Squeeze(x, at)", 13, {"at": ints(1, 3)}),
    (SEQUENCE, "y = Unsqueeze<axes = [0, 3]>(x)", 11, {}),
    (SEQUENCE, "y = Unsqueeze(x, at)", 13, {"at": ints(-1, 1)}),
    (MAP, "y = ReduceMean<axes = [2, 3], keepdims = 0>(x)", 13, {}),
    (MAP, "y = ReduceMean(x)", 13, {}),
    (MAP, "y = ReduceMean(x, at)", 18, {"at": ints(-1, 1)}),
    (MAP, "y = ReduceMean<noop_with_empty_axes = 1>(x)", 18, {}),
    (MAP, "y = Pad<pads = [0, 1, 2, 0, 0, 0, 1, 3], value = 0.5>(x)", 10, {}),
    (MAP, "y = Pad(x, by, with)", 13, {"by": ints(0, 0, 2, 0, 0, 1, -1, 3), "with": np.float32(0.5)}),
    (MAP, 'y = Pad<mode = "reflect">(x, by)', 13, {"by": ints(0, 0, 2, 0, 0, 0, 1, 3)}),
    (MAP, 'y = Pad<mode = "edge">(x, by)', 13, {"by": ints(0, 0, 2, 0, 0, 0, 1, 3)}),
    (MAP, 'y = Pad<mode = "reflect">(x, by)', 13, {"by": ints(0, 2, 2, 0, 0, 0, 1, 3)}),
    (MATRIX, 'y = Pad<mode = "edge">(x, by)', 13, {"by": ints(1, 2, 0, 1)}),
    (MAP, 'y = Pad<mode = "wrap">(x, by)', 19, {"by": ints(0, 0, 2, 0, 0, 0, 1, 3)}),
    (MAP, 'y = Pad<mode = "edge">(x, by, "", at)', 18, {"by": ints(2, 0, 1, 3), "at": ints(-2, 3)}),
    # what computes sizes and constants
    (
        MAP,
        "a = Shape(x) b = Gather(a, zero) c = Unsqueeze<axes = [0]>(b) d = Concat<axis = 0>(c, rest) y = Reshape(x, d)",
        11,
        {"zero": np.int64(0), "rest": ints(-1)},
    ),
    (MAP, "a = Shape<start = 0, end = 2>(x) b = Concat<axis = 0>(a, rest) y = Reshape(x, b)", 15, {"rest": ints(-1)}),
    (MAP, "a = Shape(x) b = Cast<to = 1>(a) c = ReduceMean<keepdims = 0>(b) y = Mul(x, c)", 13, {}),
    (
        MAP,
        "a = Shape(x) b = Div(a, two) c = Mul(b, two) d = Gather(c, at) y = Cast<to = 1>(d)",
        14,
        {"two": ints(2), "at": ints(-1, 0)},
    ),
    (MAP, "y = Gather<axis = 1>(x, at)", 13, {"at": ints(2, -1, 0, 2).reshape(2, 2)}),
    (MAP, "a = Constant<value = float[1] {2.5}>() y = Mul(x, a)", 13, {}),
    (MAP, "a = Constant<value_float = 2.5>() y = Mul(x, a)", 13, {}),
    (MAP, "a = Constant<value_ints = [2, -1]>() y = Reshape(x, a)", 13, {}),
    (MAP, "a = Shape(x) b = ConstantOfShape<value = float[1] {2.0}>(a) y = Mul(x, b)", 13, {}),
]


@pytest.mark.parametrize(("given", "nodes", "opset", "constants"), CASES, ids=[f"{c[1]} ({c[2]})" for c in CASES])
def test_operator_computes_what_onnx_runtime_computes(
    given: str, nodes: str, opset: int, constants: dict[str, Any]
) -> None:
    model = build(f"({given}) => (float[] y) {{ {nodes} }}", opset=opset, **constants)
    x = weight(*(dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim), seed=7)
    actual = TorchGraph(model)(torch.from_numpy(x))
    assert relative_difference(actual.detach().numpy(), run(model, x=x)[0]) < 1e-5


def test_every_translation_is_compared() -> None:
    compared = {operator for _, nodes, _, _ in CASES for operator in re.findall(r"= ([A-Z]\w+)[<(]", nodes)}
    assert compared - {"Constant"} == operators.TRANSLATIONS.keys()


REFUSED = [
    ("y = NonMaxSuppression(x, x)", 13, "NonMaxSuppression"),
    ("y = com.microsoft.Gelu(x)", 13, "com.microsoft.Gelu"),
    ("y = If<then_branch = a () => (float[1] b) { b = Abs(x) }>(x)", 13, "If"),
    ('y = Constant<value_string = "text">()', 13, "Constant of text or sparse values"),
    ("a, y = MaxPool<kernel_shape = [2, 2]>(x)", 13, "the second output of MaxPool"),
    ("y = AveragePool<kernel_shape = [2, 2], dilations = [2, 2]>(x)", 19, "AveragePool with dilations"),
    ("y = BatchNormalization<training_mode = 1>(x, s, s, s, s)", 15, "BatchNormalization in training mode"),
    ("y = BatchNormalization<spatial = 0>(x, s, s, s, s)", 7, "BatchNormalization per position"),
    ("y = Cast<to = 10>(x)", 13, "Cast to another type than float, double, int32, int64 and bool"),
    ('y = Conv<auto_pad = "SAME_UPPER", dilations = [2, 2]>(x, w)', 13, "Conv with auto_pad=SAME and dilations"),
    ('y = ConvTranspose<auto_pad = "SAME_UPPER">(x, w)', 13, "ConvTranspose with auto_pad=SAME"),
    ("y = ConvTranspose<output_shape = [9, 9]>(x, w)", 13, "ConvTranspose with output_shape"),
    ("y = LRN<size = 4>(x)", 13, "LRN of even size"),
    (
        'y = MaxPool<kernel_shape = [2, 2], auto_pad = "SAME_LOWER", dilations = [2, 2]>(x)',
        13,
        "MaxPool with auto_pad=SAME and dilations",
    ),
]


@pytest.mark.parametrize(("call", "opset", "what"), REFUSED, ids=[case[2] for case in REFUSED])
def test_what_has_no_translation_is_refused_by_name(call: str, opset: int, what: str) -> None:
    nodes = f"[before] r = Relu(x) [unknown] {call}" + (" z = Cast<to = 1>(y)" if call.startswith("a,") else "")
    text = f"(float[1, 4, 8, 8] x) => (float {'z' if call.startswith('a,') else 'y'}) {{ {nodes} }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]> g {text}')
    for name in ("s", "w"):
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight(4, 4, 3, 3), name))
    with pytest.raises(CannotHandle) as refused:
        TorchGraph(model)
    assert refused.value.message == f"node 'unknown': {what} cannot be trained"
    assert refused.value.next_step == "take a float32 classifier of common operators"


def test_every_unsuited_form_is_refused() -> None:
    assert {f"{op} {what}" for op, what, _ in operators.UNSUITED} <= {what for _, _, what in REFUSED}
