"""A ResNet-50 with random weights as an ONNX file of about 100 MB: what the benchmarks run on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

BLOCKS = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride of the first
EXPANSION = 4


class Builder:
    """Appends nodes and He-scaled random weights to a graph, and hands tensor names on."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(seed)

    def weight(self, *shape: int) -> str:
        """Add an initializer of the given shape, zero for vectors."""
        name = f"weight_{len(self.weights)}"
        scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.0
        array = (self.rng.standard_normal(shape) * scale).astype(np.float32)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        """Append a node with one output."""
        output = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=f"node_{output}", **attributes))
        return output

    def conv(self, x: str, cin: int, cout: int, kernel: int, stride: int = 1, relu: bool = True) -> str:
        """Append a square Conv with bias, then a Relu."""
        half = kernel // 2
        y = self.node(
            "Conv", x, self.weight(cout, cin, kernel, kernel), self.weight(cout),
            kernel_shape=[kernel, kernel], strides=[stride, stride], pads=[half] * 4,
        )  # fmt: skip
        return self.node("Relu", y) if relu else y


def build() -> onnx.ModelProto:
    """The model: input (1, 3, 224, 224) float32, output (1, 1000), opset 17, 25.5 M parameters."""
    b = Builder()
    x = b.conv("input", 3, 64, 7, 2)
    x = b.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for width, blocks, first_stride in BLOCKS:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            y = b.conv(x, channels, width, 1)
            y = b.conv(y, width, width, 3, stride)
            y = b.conv(y, width, width * EXPANSION, 1, relu=False)
            if block == 0:
                x = b.conv(x, channels, width * EXPANSION, 1, stride, relu=False)
            x = b.node("Relu", b.node("Add", x, y))
            channels = width * EXPANSION
    x = b.node("Flatten", b.node("GlobalAveragePool", x))
    b.nodes.append(helper.make_node("Gemm", [x, b.weight(1000, channels), b.weight(1000)], ["output"], transB=1))
    graph = helper.make_graph(
        b.nodes,
        "resnet50",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, (1, 3, 224, 224))],
        [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, (1, 1000))],
        b.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    onnx.save(build(), Path(sys.argv[1]))
