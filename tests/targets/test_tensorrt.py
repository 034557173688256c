"""TensorRT's table and each of its restrictions."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from lacking import lacking, reflect_pad
from reference import weight

from aarewrite.targets.support import unsupported


@pytest.mark.parametrize("opset", [9, 11, 17, 22])
def test_blurs_are_imported(opset: int) -> None:
    assert opset < 11 or reflect_pad("tensorrt", opset) == ""
    assert lacking("tensorrt", "Conv<group = 4>(x, w)", opset=opset, w=weight(4, 1, 3, 3)) == ""
    assert lacking("tensorrt", "AveragePool<kernel_shape = [2, 2], pads = [1, 1, 1, 1]>(x)", opset=opset) == ""


def test_opsets_of_the_whole_model() -> None:
    line = lacking("tensorrt", "Relu(x)", opset=8)
    assert line == "the model's opset 8: TensorRT 10.15 takes opset 9 to 24; export with one of these"


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("MaxPool<kernel_shape = [2, 2], dilations = [2, 2]>(x)", "takes no dilated pool"),
        ('Resize<mode = "cubic">(x, , s)', "takes no Resize of mode cubic"),
        ('Resize<coordinate_transformation_mode = "tf_crop_and_resize">(x, r, s)', "coordinate_transformation_mode"),
        ("Resize<antialias = 1>(x, , s)", "takes no Resize with antialias"),
        ('Resize<mode = "linear">(x, , s)', ""),
        ("QLinearConv(x, s, z, w, s, z, s, z)", "has no QLinearConv"),
        ("LayerNormalization(x, s)", ""),
    ],
)
def test_restrictions(call: str, reason: str) -> None:
    constants = {"s": np.ones(4, np.float32), "r": np.zeros(8, np.float32)}
    found = lacking("tensorrt", call, opset=18, **constants)  # type: ignore[arg-type]
    assert bool(found) == bool(reason)
    assert reason in found


def test_axes_are_constants() -> None:
    axes = "size = Shape<start = 3>(x) "
    assert lacking("tensorrt", "ReduceMax(x, a)", opset=18, a=np.array([2])) == ""
    found = lacking("tensorrt", "ReduceMax(x, size)", shape="1, 2, n, m", before=axes, opset=18)
    assert found == "TensorRT 10.15 needs constant axes; fold the model's constants first"


@pytest.mark.parametrize(("zero", "reason"), [(np.int8(0), ""), (np.int8(3), "symmetric"), (np.uint8(0), "no uint8")])
def test_quantisation_is_symmetric(zero: object, reason: str) -> None:
    found = lacking("tensorrt", "QuantizeLinear(x, s, z)", out="int8", s=np.float32(0.5), z=zero)
    assert bool(found) == bool(reason)
    assert reason in found


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ("y, i = TopK<sorted = 0>(x, k)", "takes no TopK that is not sorted"),
        ('y = ScatterND<reduction = "add">(x, at, x)', "takes no ScatterND with a reduction"),
        ("y, state = LSTM<hidden_size = 4, layout = 1>(x, w, w)", "takes no LSTM with input_forget or layout"),
        ("y, mean = LayerNormalization(x, scale)", "gives only the first output of LayerNormalization"),
    ],
)
def test_attributes_and_outputs(node: str, reason: str) -> None:
    inputs = "float[2, 3, 4] x, int64[1] k, int64[2, 1] at, float[1, 16, 4] w, float[4] scale"
    text = f'<ir_version: 8, opset_import: ["" : 18]> g ({inputs}) => (float[a, b, c] y) {{ {node} }}'
    model = onnx.parser.parse_model(text)
    (line,) = unsupported(model, "tensorrt")
    assert f"TensorRT 10.15 {reason}; " in line
