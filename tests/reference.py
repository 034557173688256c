"""An independent reference in plain numpy, and helpers that build models from text.

Nothing here uses the package: dense operators are evaluated window by window, blurs by numpy padding and a
correlation along each axis, so that a mistake in the package cannot repeat itself here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import product
from math import ceil, comb, prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import onnxruntime as ort

Array = npt.NDArray[Any]
ONNXRUNTIME = tuple(map(int, ort.__version__.split(".")[:2]))
POOL = "[pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)"


def build(text: str, *, opset: int = 13, ir: int = 8, imports: str = "", **initializers: Array) -> onnx.ModelProto:
    """A model from the textual form of a graph, `(inputs) => (outputs) { nodes }`, functions behind it.

    Initializers are given as arrays; outputs declared without a shape, `float[] y`, get the inferred one.
    """
    header = f'<ir_version: {ir}, opset_import: ["" : {opset}{imports}]>'
    model = onnx.parser.parse_model(f"{header}\ntested {text}")
    for name, value in initializers.items():
        tensor = onnx.numpy_helper.from_array(np.asarray(value), name)
        model.graph.initializer.append(tensor)
        if ir < 4:
            model.graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
    return with_inferred_outputs(model)


def with_inferred_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    blank = copy.deepcopy(model)
    for output in blank.graph.output:
        if not output.type.tensor_type.shape.dim:
            output.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(blank, data_prop=True)
    for output, found in zip(model.graph.output, inferred.graph.output, strict=True):
        if not output.type.tensor_type.shape.dim and output.type.HasField("tensor_type"):
            output.type.CopyFrom(found.type)
    return model


def weight(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    """Normally distributed values, the same for the same seed."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def functions(
    calls: str, *bodies: str, inputs: str = "float[1, 2, 9, 9] x", outputs: str = "float[] y"
) -> onnx.ModelProto:
    """A model of calls of functions in the domains f and g, `function`s given as text."""
    return build(f"({inputs}) => ({outputs}) {{ {calls} }}\n" + "\n".join(bodies), imports=', "f" : 1, "g" : 1')


def overloads(calls: str, first: str, second: str, **signature: str) -> onnx.ModelProto:
    """A model of two overloads of the function f.Down with these bodies, called as f.First and f.Second."""
    model = functions(calls, function("First", first), function("Second", second), **signature)
    for called in model.functions:
        called.name, called.overload = "Down", called.name
    for node in (*model.graph.node, *(node for called in model.functions for node in called.node)):
        if node.op_type in ("First", "Second"):
            node.op_type, node.overload = "Down", node.op_type
    model.ir_version = 10
    return model


def function(name: str, body: str, domain: str = "f", parameters: str = "") -> str:
    """The text of a function of x and y."""
    return f'<domain: "{domain}", opset_import: ["" : 13]> {name}{parameters} (x) => (y) {{ {body} }}'


QDQ = """(float[1, 3, 12, 12] x) => (float[] y) {{
    xq = QuantizeLinear(x, sx, zx)
    xd = DequantizeLinear(xq, sx, zx)
    wd = DequantizeLinear(w, sw, zw)
    [conv] a = Conv<strides = {strides}, pads = {pads}>(xd, wd)
    b = Relu(a)
    bq = QuantizeLinear(b, sy, zy)
    y = DequantizeLinear(bq, sy, zy)
}}"""


def qdq(kind: Any, k: int = 3) -> onnx.ModelProto:
    """A strided k x k conv between Quantize/Dequantize pairs of an integer type, Relu behind it."""
    zero = 128 if kind is np.uint8 else 0
    low = np.random.default_rng(0).integers(-127, 128, (4, 3, k, k)).astype(np.int8)
    return build(
        QDQ.format(strides=[2, 2], pads=[k // 2] * 4), w=low, sw=np.float32(0.01), zw=np.int8(0), sx=np.float32(0.03),
        zx=kind(zero), sy=np.float32(0.05), zy=kind(0 if kind is np.uint8 else -128),
    )  # fmt: skip


def session(model: onnx.ModelProto) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto, **feeds: Array) -> list[Array]:
    """All outputs of a model on the CPU, optimisations off."""
    return [np.asarray(value) for value in session(model).run(None, feeds)]


def ops(model: onnx.ModelProto) -> list[str]:
    """Operators of the main graph, in order."""
    return [node.op_type for node in model.graph.node]


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    """The main graph's node of a name."""
    return next(node for node in model.graph.node if node.name == name)


def initializer(model: onnx.ModelProto, name: str) -> Array:
    """The value of an initializer."""
    return onnx.numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


def attributes(proto: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as Python values."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}


# ---- semantics ---------------------------------------------------------------------------------------------


def output_size(n: int, k: int, s: int, d: int, b: int, e: int, auto_pad: str, ceil_mode: bool) -> int:
    """The ONNX operators' output size along one axis."""
    extent = (k - 1) * d + 1
    if auto_pad.startswith("SAME"):
        return ceil(n / s)
    if auto_pad == "VALID":
        b = e = 0
    windows = (n + b + e - extent) / s
    out = (ceil(windows) if ceil_mode else int(windows // 1)) + 1
    if ceil_mode and (out - 1) * s >= n + b:
        out -= 1
    return out


def dense_pads(n: int, k: int, s: int, d: int, b: int, e: int, auto_pad: str, ceil_mode: bool) -> tuple[int, int]:
    """Begin and end pads along one axis with which the operator at stride 1 computes every original output."""
    extent = (k - 1) * d + 1
    out = output_size(n, k, s, d, b, e, auto_pad, ceil_mode)
    if auto_pad.startswith("SAME"):
        total = max((out - 1) * s + extent - n, 0)
        halves = total // 2, total - total // 2
        return halves if auto_pad == "SAME_UPPER" else halves[::-1]
    if auto_pad == "VALID":
        return 0, 0
    return b, max(e, (out - 1) * s + extent - n - b)


def dense(
    op: str,
    x: Array,
    kernel: Sequence[int],
    pads: Sequence[tuple[int, int]],
    dilations: Sequence[int] = (),
    w: Array | None = None,
    bias: Array | None = None,
    group: int = 1,
    count_include_pad: bool = False,
    p: int = 2,
) -> Array:
    """A pooling or convolution at stride 1, window offset by window offset, in float64."""
    dilations = dilations or (1,) * len(kernel)
    x = x.astype(np.float64)
    widths = [(0, 0), (0, 0), *pads]
    padded = np.pad(x, widths, constant_values=-np.inf if op == "MaxPool" else 0.0)
    inside = np.pad(np.ones_like(x), widths)
    sizes = [n + sum(pad) - (k - 1) * d for n, k, d, pad in zip(x.shape[2:], kernel, dilations, pads, strict=True)]
    views, counts, offsets = [], [], []
    for offset in product(*(range(k) for k in kernel)):
        starts = [o * d for o, d in zip(offset, dilations, strict=True)]
        view = (..., *(slice(start, start + size) for start, size in zip(starts, sizes, strict=True)))
        views.append(padded[view])
        counts.append(inside[view])
        offsets.append(offset)
    if op == "MaxPool":
        return np.max(views, axis=0)
    if op == "LpPool":
        return np.asarray(np.sum(np.abs(views) ** p, axis=0) ** (1 / p))
    if op == "AveragePool":
        return np.asarray(np.sum(views, axis=0) / (prod(kernel) if count_include_pad else np.sum(counts, axis=0)))
    assert w is not None
    outs, ins = w.shape[0] // group, w.shape[1]
    result = np.zeros((x.shape[0], w.shape[0], *sizes))
    for view, offset in zip(views, offsets, strict=True):
        for g in range(group):
            taps = w.astype(np.float64)[(slice(g * outs, (g + 1) * outs), slice(None), *offset)]
            result[:, g * outs : (g + 1) * outs] += np.einsum("oi,ni...->no...", taps, view[:, g * ins : (g + 1) * ins])
    if bias is not None:
        result += bias.astype(np.float64).reshape(1, -1, *(1,) * len(kernel))
    return result


def blur(x: Array, f: int, strides: Sequence[int], mode: str = "reflect", every_axis: bool = False) -> Array:
    """Binomial blur of f taps per subsampled axis, then subsampling; reflect falls back to edge where it must."""
    sizes = [f if s > 1 or every_axis else 1 for s in strides]
    if mode == "reflect" and any(k // 2 > n - 1 for k, n in zip(sizes, x.shape[2:], strict=True)):
        mode = "edge"
    how: Any = {"reflect": "reflect", "edge": "edge", "zero": "constant"}[mode]
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *(((k - 1) // 2, k // 2) for k in sizes)], mode=how)
    for axis, (k, s) in enumerate(zip(sizes, strides, strict=True), start=2):
        taps = np.array([comb(k - 1, j) for j in range(k)]) / 2 ** (k - 1)
        n = x.shape[axis] - k + 1
        x = np.sum([tap * x.take(range(j, j + n), axis) for j, tap in enumerate(taps)], axis=0)
        x = x.take(range(0, n, s), axis)
    return x


def relative_difference(actual: Array, expected: Array) -> float:
    """The largest difference relative to the expected array's scale; infinite where the shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    scale = float(np.max(np.abs(expected), initial=1e-30))
    return float(np.max(np.abs(actual.astype(np.float64) - expected), initial=0.0)) / scale


def equal_but(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """Keys whose values differ."""
    return {key for key in {*before, *after} if before.get(key) != after.get(key)}
