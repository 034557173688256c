"""The nodes of a blur: padding and a depthwise Conv, in float or inside a quantised region."""

from __future__ import annotations

import numpy as np
import onnx

from aarewrite.filters import Blur
from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.types import Node, Tensor
from aarewrite.passes.contract import Quantisation

INT8 = onnx.TensorProto.INT8
FLOAT = onnx.TensorProto.FLOAT
INT64 = onnx.TensorProto.INT64
DOUBLE = onnx.TensorProto.DOUBLE


def blur_nodes(
    editor: GraphEditor,
    scope: Scope,
    blur: Blur,
    source: Tensor,
    target: Tensor,
    channels: int,
    dtype: int,
    name: str,
    quantisation: Quantisation | None = None,
    bias: Tensor | None = None,
) -> list[Node]:
    """New nodes that write the blurred `source` (N, channels, *spatial) to `target`, in order.

    Reflect and edge padding become a Pad node, zero padding goes into the Conv. In a quantised region the taps
    are int8 at the power-of-two scale that makes them sum to 1, so no float island is left behind; taps that are no
    such integers filter what is dequantised.
    """
    if dtype == DOUBLE and [node.op for node in source.inputs] == ["MaxPool"]:
        return _weighted_slices(editor, scope, blur, source, target, name)
    nodes: list[Node] = []
    n = len(blur.sizes)
    pads = (*blur.begin, *blur.end)
    if any(pads) and blur.mode != "zero":
        padded = editor.variable(f"{name}/padded")
        nodes.append(_pad(editor, scope, blur, source, padded, f"{name}/Pad"))
        source, pads = padded, (0,) * 2 * n
    attributes = {
        "kernel_shape": list(blur.sizes),
        "strides": list(blur.strides),
        "pads": list(pads),
        "dilations": [1] * n,
        "group": channels,
    }
    if quantisation is None:
        kernel = editor.constant(scope, f"{name}/taps", blur.kernel(channels), dtype)
        inputs = [source, kernel] if bias is None else [source, kernel, bias]
        nodes.append(editor.node("Conv", f"{name}/Conv", inputs, [target], **attributes))
        return nodes
    real_type, taps = _scale_type(editor, quantisation), blur.integer_kernel()
    of_map = [quantisation.scale, quantisation.zero_point]
    real, weights, blurred = (editor.variable(f"{name}/{part}") for part in ("real", "weights", "blurred"))
    of_taps: list[Node] = []
    if taps is None:
        assert quantisation.form == "qdq", "a map of integers alone is refused to a filter that has none"
        weights = editor.constant(scope, f"{name}/taps", blur.kernel(channels), real_type)
    else:
        kernel = editor.constant(scope, f"{name}/taps", np.broadcast_to(taps, (channels, 1, *blur.sizes)), INT8)
        scale = editor.constant(scope, f"{name}/taps_scale", np.array(1 / taps.sum()), real_type)
        zero = editor.constant(scope, f"{name}/taps_zero_point", np.array(0), INT8)
        if quantisation.form == "qlinear":
            inputs = [source, *of_map, kernel, scale, zero, *of_map]
            nodes.append(editor.node("QLinearConv", f"{name}/QLinearConv", inputs, [target], **attributes))
            return nodes
        of_taps = [editor.node("DequantizeLinear", f"{name}/DequantizeTaps", [kernel, scale, zero], [weights])]
    nodes += [
        editor.node("DequantizeLinear", f"{name}/Dequantize", [source, *of_map], [real]),
        *of_taps,
        editor.node("Conv", f"{name}/Conv", [real, weights], [blurred], **attributes),
        editor.node("QuantizeLinear", f"{name}/Quantize", [blurred, *of_map], [target]),
    ]
    return nodes


def _weighted_slices(
    editor: GraphEditor, scope: Scope, blur: Blur, source: Tensor, target: Tensor, name: str
) -> list[Node]:
    """A blur behind a MaxPool in float64, the one operator that samples for which ONNX Runtime's CPU provider has a
    float64 kernel: it has no Conv. Along each axis in turn, tap k of f at stride s weights samples k, k + s, ... up to
    f - 1 - k from the end, and the weighted slices are added."""
    nodes: list[Node] = []
    if any((*blur.begin, *blur.end)):
        padded = editor.variable(f"{name}/padded")
        nodes.append(_pad(editor, scope, blur, source, padded, f"{name}/Pad"))
        source = padded
    rows = list(enumerate(zip(blur.axis_taps(), blur.strides, strict=True), start=2))
    filtered = [(axis, taps, stride) for axis, (taps, stride) in rows if len(taps) > 1 or stride > 1]
    for axis, taps, stride in filtered:
        terms = []
        for k, tap in enumerate(taps):
            end = k + 1 - len(taps) or np.iinfo(np.int64).max
            bounds = [editor.constant(scope, f"{name}/bound", np.array([v]), INT64) for v in (k, end, axis, stride)]
            part, term = (editor.variable(f"{name}/{what}_{axis}_{k}") for what in ("slice", "term"))
            weight = editor.constant(scope, f"{name}/tap", np.array(tap), DOUBLE)
            nodes.append(editor.node("Slice", f"{name}/Slice_{axis}_{k}", [source, *bounds], [part]))
            nodes.append(editor.node("Mul", f"{name}/Mul_{axis}_{k}", [part, weight], [term]))
            terms.append(term)
        source = target if axis == filtered[-1][0] else editor.variable(f"{name}/along_{axis}")
        nodes.append(editor.node("Sum", f"{name}/Sum_{axis}", terms, [source]))
    return nodes or [editor.node("Identity", f"{name}/Identity", [source], [target])]


def _scale_type(editor: GraphEditor, quantisation: Quantisation) -> int:
    """Element type of the map's scale, which is that of everything dequantised."""
    value = editor.constant_value(quantisation.scale)
    return FLOAT if value is None else int(onnx.helper.np_dtype_to_tensor_dtype(value.dtype))


def _pad(editor: GraphEditor, scope: Scope, blur: Blur, source: Tensor, target: Tensor, name: str) -> Node:
    """A Pad node in the form of the scope's opset: attributes before 11, an input from then on."""
    mode = "constant" if blur.mode == "zero" else blur.mode
    pads = [0, 0, *blur.begin, 0, 0, *blur.end]
    if scope.opset < 11:
        return editor.node("Pad", name, [source], [target], mode=mode, pads=pads)
    amounts = editor.constant(scope, f"{name}/pads", np.array(pads), INT64)
    return editor.node("Pad", name, [source, amounts], [target], mode=mode)
