"""A stage a trous: same values at the original's positions, same output shapes, reasons where it cannot be done."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from pairs import Net

from aarewrite.calibration import a_trous, last_stage
from aarewrite.errors import CannotHandle


def two_stages(pool: str = "GlobalAveragePool", size: int = 17, **attributes: object) -> onnx.ModelProto:
    """Two strided stages, the second with a strided shortcut, a depthwise conv and a squeeze-excite branch."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))

    net = Net([1, 3, size, size])
    net.conv("x", "first", weights(4, 3, 3, 3), weights(4), strides=[2, 2], pads=[1] * 4)
    net.node("Relu", ["first"], "first.act")
    net.conv("first.act", "second", weights(6, 4, 3, 3), weights(6), strides=[2, 2], pads=[1] * 4)
    net.conv("first.act", "shortcut", weights(6, 4, 1, 1), strides=[2, 2])
    net.node("Relu", ["second"], "second.act")
    net.conv("second.act", "inner", weights(6, 1, 3, 3), pads=[1] * 4, group=6)
    net.node("GlobalAveragePool", ["second.act"], "squeezed")
    net.node("Sigmoid", ["squeezed"], "gate")
    net.node("Mul", ["inner", "gate"], "gated")
    net.node("Add", ["gated", "shortcut"], "sum")
    net.node(pool, ["sum"], "pooled", **attributes)
    return net.model("pooled")


def values(model: onnx.ModelProto, name: str, x: np.ndarray) -> np.ndarray:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.append(onnx.ValueInfoProto(name=name))
    session = ort.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([name], {"x": x})[0])


def test_values_at_the_originals_positions_are_the_same() -> None:
    model = two_stages()
    assert last_stage(model) == ("second", "shortcut")
    finer = a_trous(model, last_stage(model))
    onnx.checker.check_model(finer, full_check=True)
    x = np.random.default_rng(1).standard_normal((1, 3, 17, 17)).astype(np.float32)
    for name in ("second", "inner", "shortcut"):
        sparse, dense = values(model, name, x), values(finer, name, x)
        assert sparse.shape[2:] == (5, 5)
        assert dense.shape[2:] == (9, 9)
        np.testing.assert_allclose(dense[:, :, ::2, ::2], sparse, atol=1e-5)
    assert values(finer, "pooled", x).shape == values(model, "pooled", x).shape


def test_a_pooling_over_the_whole_map_grows_with_it() -> None:
    finer = a_trous(two_stages("AveragePool", kernel_shape=[5, 5]), ["second", "shortcut"])
    assert values(finer, "pooled", np.zeros((1, 3, 17, 17), np.float32)).shape == (1, 6, 1, 1)


@pytest.mark.parametrize(
    ("model", "convs", "message"),
    [
        (two_stages(), ["second"], "sum: .*the original's grid"),
        (two_stages(), ["first"], "it is strided again"),
        (two_stages(), ["nowhere"], "no strided conv of this name"),
        (two_stages("AveragePool", kernel_shape=[2, 2]), ["second", "shortcut"], "does not cover the whole map"),
        (two_stages("Relu"), ["second", "shortcut"], "ends in a map"),
        (two_stages("Softmax", axis=2), ["second", "shortcut"], "Softmax behind a stage"),
    ],
)
def test_what_cannot_run_a_trous_is_named(model: onnx.ModelProto, convs: list[str], message: str) -> None:
    with pytest.raises(CannotHandle, match=message):
        a_trous(model, convs)
