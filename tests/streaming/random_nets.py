"""Random nets of one and two dimensions: kernels, strides, dilations, pads, branches, poolings, windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

Draw = Any
SOME = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


class Builder:
    """A net that grows node by node; what onnx's shape inference refuses is not added."""

    def __init__(self, draw: Draw, spatial: int) -> None:
        self.draw, self.spatial = draw, spatial
        self.opset = draw(st.sampled_from([9, 11, 13, 18]))
        self.shape = [1, draw(st.integers(1, 3)), *[5] * (spatial - 1), draw(st.integers(14, 60))]
        self.tensors = {"x": self.shape[1:]}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def whole(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def along(self, value: int, other: int) -> list[int]:
        return [other] * (self.spatial - 1) + [value]

    def weight(self, *shape: int) -> str:
        values = np.random.default_rng(len(self.constants)).standard_normal(shape).astype(np.float32)
        return self.constant(values)

    def constant(self, value: Any) -> str:
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def add(self) -> None:
        source = self.draw(st.sampled_from(list(self.tensors)[-3:]))
        channels, name = self.tensors[source][0], f"t{len(self.nodes)}"
        kind = self.draw(st.sampled_from(
            ["Conv", "Conv", "Conv", "pool", "pool", "Relu", "Pad", "Slice", "ConvTranspose", "join", "join"]
        ))  # fmt: skip
        getattr(self, f"_{kind.lower()}")(source, name, channels)
        model = self.model([name])
        try:
            found = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.output[0].type.tensor_type.shape
        except onnx.shape_inference.InferenceError:
            found = None
        sizes = [] if found is None else [dim.dim_value for dim in found.dim]
        if len(sizes) == self.spatial + 2 and min(sizes) > 0:
            self.tensors[name] = sizes[1:]
        else:
            del self.nodes[-1]

    def node(self, op: str, inputs: list[str], name: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))

    def _conv(self, source: str, name: str, channels: int) -> None:
        kernel, strides = self.along(self.whole(1, 5), 2), self.along(self.draw(st.sampled_from([1, 1, 1, 2, 3])), 1)
        dilation, auto = self.whole(1, 3), self.draw(st.sampled_from(["", "", "", "SAME_UPPER", "SAME_LOWER", "VALID"]))
        pads = [*self.along(self.whole(0, 4), 1), *self.along(self.whole(0, 4), 0)]
        how = {"auto_pad": auto} if auto else {"pads": pads, "dilations": self.along(dilation, 1)}
        weight = self.weight(self.whole(1, 3), channels, *kernel)
        self.node("Conv", [source, weight], name, strides=strides, **how)

    def _pool(self, source: str, name: str, channels: int) -> None:
        op, k = self.draw(st.sampled_from(["MaxPool", "AveragePool", "LpPool"])), self.whole(1, 4)
        pads = [*self.along(self.whole(0, k - 1), 0), *self.along(self.whole(0, k - 1), 0)]
        more = {"count_include_pad": self.whole(0, 1)} if op == "AveragePool" else {}
        if op != "LpPool" and self.opset >= 10:
            more["ceil_mode"] = self.whole(0, 1)
        how = {"kernel_shape": self.along(k, 1), "strides": self.along(self.whole(1, 2), 1), "pads": pads}
        self.node(op, [source], name, **how, **more)

    def _relu(self, source: str, name: str, channels: int) -> None:
        self.node("Relu", [source], name)

    def _pad(self, source: str, name: str, channels: int) -> None:
        mode = self.draw(st.sampled_from(["constant", "reflect", "edge"]))
        low = -2 if mode == "constant" else 0
        pads = [0] * (self.spatial + 1) + [self.whole(low, 3)] + [0] * (self.spatial + 1) + [self.whole(low, 3)]
        if self.opset < 11:
            self.node("Pad", [source], name, mode=mode, pads=pads)
        else:
            self.node("Pad", [source, self.constant(pads)], name, mode=mode)

    def _slice(self, source: str, name: str, channels: int) -> None:
        start, end, axis = [self.whole(0, 3)], [-self.whole(1, 3)], [self.spatial + 1]
        if self.opset < 10:
            self.node("Slice", [source], name, starts=start, ends=end, axes=axis)
        else:
            inputs = [self.constant(value) for value in (start, end, axis, [self.whole(1, 2)])]
            self.node("Slice", [source, *inputs], name)

    def _convtranspose(self, source: str, name: str, channels: int) -> None:
        stride = self.whole(1, 3)
        self.node(
            "ConvTranspose", [source, self.weight(channels, 2, *self.along(self.whole(1, 4), 1))], name,
            strides=self.along(stride, 1), output_padding=self.along(self.whole(0, stride - 1), 0),
            pads=[*self.along(self.whole(0, 1), 0), *self.along(self.whole(0, 1), 0)],
        )  # fmt: skip

    def _join(self, source: str, name: str, channels: int) -> None:
        alike = [other for other, sizes in self.tensors.items() if sizes[1:] == self.tensors[source][1:]]
        other = self.draw(st.sampled_from(alike))
        if self.tensors[other] == self.tensors[source]:
            self.node(self.draw(st.sampled_from(["Add", "Mul"])), [source, other], name)
        else:
            self.node("Concat", [source, other], name, axis=1)

    def model(self, outputs: list[str]) -> onnx.ModelProto:
        info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        graph = helper.make_graph(self.nodes, "net", [x], info, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


@st.composite
def nets(draw: Draw, spatial: int) -> onnx.ModelProto:
    made = Builder(draw, spatial)
    for _ in range(draw(st.integers(2, 7))):
        made.add()
    last = list(made.tensors)[-1]
    assume(last != "x")
    outputs = [last]
    if draw(st.booleans()):
        made.node("GlobalAveragePool", [last], "mean")
        outputs = ["mean"]
    if draw(st.integers(0, 3)) == 0:
        outputs.append(draw(st.sampled_from([name for name in made.tensors if name != "x" and name not in outputs])))
    return made.model(outputs)
