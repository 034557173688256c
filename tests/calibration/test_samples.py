"""Rows times weights must be what ONNX Runtime's Conv computes, at every position, for every geometry."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from aarewrite.calibration.samples import choose_positions, conv_rows, value_rows


@settings(max_examples=60, deadline=None)
@given(
    rank=st.integers(1, 3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    group=st.sampled_from([1, 2, 4]),
    pads=st.sampled_from(["explicit", "SAME_UPPER", "SAME_LOWER", "VALID"]),
    step=st.integers(1, 3),
    data=st.data(),
)
def test_rows_reproduce_the_convolution(
    rank: int, kernel: int, stride: int, dilation: int, group: int, pads: str, step: int, data: st.DataObject
) -> None:
    if pads.startswith("SAME"):
        dilation = 1  # ONNX Runtime and the standard differ beyond
    size = [data.draw(st.integers(6, 9)) for _ in range(rank)]
    attributes: dict[str, object] = {"strides": [stride] * rank, "dilations": [dilation] * rank, "group": group}
    if pads == "explicit":
        attributes["pads"] = [data.draw(st.integers(0, kernel - 1)) for _ in range(2 * rank)]
    else:
        attributes["auto_pad"] = pads
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 4, *size)).astype(np.float32)
    weight = rng.standard_normal((8, 4 // group, *[kernel] * rank)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "conv",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "w")],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y = session.run(None, {"x": x, "w": weight})[0]
    # The target grid: every `step`-th position, as where the original is strided and the rewrite dense.
    if min(y.shape[2:]) <= step * (step - 1):
        step = 1
    target = y[(slice(None), slice(None), *[slice(None, None, step)] * rank)]
    image, positions = choose_positions(target.shape[2:], 2, 1000, rng)
    values = {name: value.encode() if name == "auto_pad" else value for name, value in attributes.items()}
    rows = conv_rows(x, [kernel] * rank, values, image, positions, target.shape[2:])
    matrices = weight.reshape(group, 8 // group, -1).transpose(0, 2, 1)
    np.testing.assert_allclose(rows @ matrices, value_rows(target, image, positions, group), atol=1e-4)


def test_positions_are_different_places_of_each_image() -> None:
    image, (row, column) = choose_positions((5, 6), 3, 10, np.random.default_rng(0))
    assert image.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    for number in range(3):
        assert len({*zip(row[image == number], column[image == number], strict=True)}) == 10
    everything, (row, column) = choose_positions((2, 2), 2, 10, np.random.default_rng(0))
    assert len(everything) == 8
    assert row.tolist() == [0, 0, 1, 1] * 2
    assert column.tolist() == [0, 1, 0, 1] * 2
