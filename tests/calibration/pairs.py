"""Small model pairs: an original and its rewrite, with blurs written out by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from aarewrite.data.arrays import Batches

BINOMIAL = np.array([1.0, 2.0, 1.0]) / 4


class Net:
    """Writes a model node by node; every tensor is float."""

    def __init__(self, shape: list[int | str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.shape = shape

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = np.asarray(value, np.float32)
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        name = str(attributes.pop("name", output))
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def conv(
        self, x: str, output: str, weight: np.ndarray, bias: np.ndarray | None = None, **attributes: object
    ) -> str:
        label = str(attributes.get("name", output))
        inputs = [x, self.constant(f"{label}.w", weight)]
        if bias is not None:
            inputs.append(self.constant(f"{label}.b", bias))
        return self.node("Conv", inputs, output, **attributes)

    def blur(self, x: str, output: str, channels: int, stride: int, taps: np.ndarray = BINOMIAL) -> str:
        lo, hi = (len(taps) - 1) // 2, len(taps) // 2
        self.constants[f"{output}.pads"] = np.array([0, 0, lo, lo, 0, 0, hi, hi])
        self.node("Pad", [x, f"{output}.pads"], f"{output}.padded", mode="reflect")
        kernel = np.broadcast_to(np.outer(taps, taps), (channels, 1, len(taps), len(taps)))
        return self.conv(
            f"{output}.padded", output, kernel, name=f"{output}.blur", group=channels, strides=[stride] * 2
        )

    def model(self, output: str, rank: int = 4) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["n"] + [f"d{i}" for i in range(1, rank)])],
            [
                numpy_helper.from_array(value.astype(np.int64) if name.endswith(".pads") else value, name)
                for name, value in self.constants.items()
            ],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def stored(model: onnx.ModelProto, name: str) -> np.ndarray:
    """The value of an initializer."""
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


def noise(*shape: int, batches: int = 4, seed: int = 0, scale: float = 1.0) -> Batches:
    """White noise as calibration data for input `x`."""

    def feeds() -> Iterator[dict[str, np.ndarray]]:
        rng = np.random.default_rng(seed)
        for _ in range(batches):
            yield {"x": (scale * rng.standard_normal(shape)).astype(np.float32)}

    return feeds


def residual_pair(
    taps: np.ndarray = BINOMIAL, edit: Callable[[Net], None] | None = None
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A strided conv, a residual block, a depthwise conv and a linear head; the blur follows the first ReLU."""
    models = []
    for blurred in (False, True):
        rng = np.random.default_rng(7)

        def weights(*shape: int, rng: np.random.Generator = rng) -> np.ndarray:
            return rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))

        net = Net(["n", 3, 16, 16])
        stem = net.conv("x", "stem", weights(8, 3, 3, 3), weights(8), strides=[1 if blurred else 2] * 2, pads=[1] * 4)
        if blurred:
            net.node("Relu", [stem], "act/dense", name="act")
            net.blur("act/dense", "act", 8, 2, taps)
        else:
            net.node("Relu", [stem], "act")
        net.conv("act", "branch1", weights(8, 8, 3, 3), weights(8), pads=[1] * 4)
        net.node("Relu", ["branch1"], "branch1.act")
        net.conv("branch1.act", "branch2", weights(8, 8, 3, 3), pads=[1] * 4)
        net.node("Add", ["branch2", "act"], "sum")
        net.conv("sum", "depthwise", weights(8, 1, 3, 3), weights(8), pads=[1] * 4, group=8)
        net.node("Relu", ["depthwise"], "depthwise.act")
        net.node("GlobalAveragePool", ["depthwise.act"], "pooled")
        net.node("Flatten", ["pooled"], "flat")
        net.constant("head.w", weights(5, 8))
        net.node("Gemm", ["flat", "head.w"], "head", transB=1)
        if edit:
            edit(net)
        models.append(net.model("head", 2))
    return models[0], models[1]
