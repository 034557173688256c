"""Finding every place where a model samples: sites that can be rewritten, and other aliasing sources.

Everything a decision needs is read here once and put into immutable values, so that the passes decide without
looking at the graph.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import onnx

from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.shapes import Shapes
from aarewrite.model.types import Node, Tensor, in_default_domain, integer, ints, is_parameter, text
from aarewrite.sites.described_blurs import DescribedBlurs
from aarewrite.sites.existing_blurs import (
    FEWEST_INPUTS,
    is_border,
    is_recorded,
    is_wavelet,
    produced_by_blur,
    read_by_blurs,
    weight_of,
)
from aarewrite.sites.flow import Flow
from aarewrite.sites.other_sources import other_source
from aarewrite.sites.regions import FLOATS, Region, pointwise_region
from aarewrite.sites.site import INTEGERS_8, SITE_KINDS, Located, Site, Source
from aarewrite.windows import Sizes, Window, explicit, leaves_gaps

DOUBLE = 11
MOST_CHANNELS = 2**20  # of a blurred map


def find(editor: GraphEditor, shapes: Shapes, names: Mapping[int, str]) -> tuple[list[Located], list[Source]]:
    """Every site and every other aliasing source of a model, in graph order; `names` are those of `node_names`."""
    flow = Flow(editor, shapes)
    located: list[Located] = []
    sources: list[Source] = []
    blurs = DescribedBlurs(editor, shapes, names)
    for scope in editor.scopes:
        for node in scope.nodes:
            found = _look_at(editor, shapes, flow, blurs, scope, node, names[id(node)])
            if isinstance(found, Located):
                located.append(found)
            elif found is not None:
                sources.append(found)
    return located, sources


def node_names(editor: GraphEditor) -> dict[int, str]:
    """A name for every node: its own where no other node of the scope has it, else its first output's."""
    names = {}
    for scope in editor.scopes:
        counts: dict[str, int] = {}
        for node in scope.nodes:
            counts[node.name] = counts.get(node.name, 0) + 1
        outputs = {node.outputs[0].name for node in scope.nodes if node.outputs}
        for node in scope.nodes:
            output = node.outputs[0].name if node.outputs else node.op
            clear = counts[node.name] == 1 and (node.name == output or node.name not in outputs)
            names[id(node)] = node.name if node.name and clear else output
    return names


def _look_at(
    editor: GraphEditor, shapes: Shapes, flow: Flow, blurs: DescribedBlurs, scope: Scope, node: Node, name: str
) -> Located | Source | None:
    if len(node.inputs) < FEWEST_INPUTS.get(node.op, 1) or not node.outputs or is_border(editor.model, node.name):
        return None
    sizes = shapes.spatial(scope, node.inputs[0]), shapes.spatial(scope, node.outputs[0])

    def source(reason: str) -> Source:
        return Source(scope.name, name, node.op, reason, *sizes, flow.stride(node.inputs[0], sizes[0]))

    if node.op not in SITE_KINDS or not in_default_domain(node):
        reason = other_source(editor, shapes, scope, node)
        return source(reason) if reason else None
    window = _window(editor, shapes, scope, node)
    if isinstance(window, str):
        return source(window)
    if blur := blurs.blur(scope, node, window, source("a blur already: left as it is")):
        return blur
    if not _samples(node, window, *sizes):
        return None
    if node.op == "AveragePool" and is_recorded(editor, node):
        return source("a blur already: left as it is")
    if is_wavelet(editor, node, window):
        return source("a Haar wavelet transform: loses nothing, left as it is")
    return _site(editor, shapes, flow, scope, node, name, window)


def _samples(node: Node, window: Window, input_size: Sizes, output_size: Sizes) -> bool:
    """Whether an operator is worth a row: MaxPool of any stride (recipes may blur stride 1), others when strided;
    global pooling has one output and samples nothing."""
    if SITE_KINDS[node.op] != "conv":
        padded = [(b, e, k) for b, e, k in zip(window.begin, window.end, window.extent, strict=True)]
        fits = len(input_size) == len(padded) and list(input_size) == [k - b - e for b, e, k in padded]
        if fits or (output_size and all(size == 1 for size in output_size)):
            return False
    return node.op == "MaxPool" or any(s > 1 for s in window.strides)


def _site(
    editor: GraphEditor, shapes: Shapes, flow: Flow, scope: Scope, node: Node, name: str, window: Window
) -> Located:
    data, output, kind = node.inputs[0], node.outputs[0], SITE_KINDS[node.op]
    conv, spatial = kind == "conv", len(window.kernel)
    # A pool's blur follows it directly, inside the quantised domain where it is in one.
    region = pointwise_region(editor, scope, output, spatial) if conv else _pool_region(editor, scope, output)
    input_size = shapes.spatial(scope, data, spatial)
    dense = explicit(window, input_size)
    dtype = _map_dtype(shapes, scope, node, region.end)
    integers = dtype in INTEGERS_8 and bool(quantisation_of(editor, region.end))
    site = Site(
        scope=scope.name,
        node=name,
        op=node.op,
        kind=kind,
        window=window,
        dense=dense if isinstance(dense, Window) else None,
        obstacle="",
        input_channels=shapes.of(scope, data).dim(1),
        channels=shapes.of(scope, output).dim(1) or (_weight_channels(editor, shapes, scope, node) if conv else None),
        group=integer(node, "group", 1),
        input_size=input_size,
        output_size=shapes.spatial(scope, output, spatial),
        dtype=dtype,
        input_dtype=shapes.of(scope, data).dtype or _map_dtype(shapes, scope, node, output),
        stride_so_far=flow.stride(data, input_size),
        count_include_pad=bool(integer(node, "count_include_pad")),
        activation=region.nonlinear,
        normalised=region.normalised,
        ends_in_add=_ends_in_add(editor, region.end),
        first_conv=conv and not flow.convolved(data),
        bias=conv and len(node.inputs) > 2 and bool(node.inputs[2].name),
        fused_bias=conv and _fused_bias(node),
        blurred_before=produced_by_blur(editor, data),
        blurred_after=read_by_blurs(editor, region.end),
        quantised="" if not integers else "qlinear" if node.op == "QLinearConv" else "qdq",
    )
    used = any(output.outputs or scope.is_output(output) for output in node.outputs[1:])
    why = "its Indices output is used: they name positions of the strided map" if used else ""
    why = why or (dense if isinstance(dense, str) else _obstacle(site, dense, scope.opset))
    return Located(dataclasses.replace(site, obstacle=why), scope, node, region)


def _obstacle(site: Site, dense: Window, opset: int) -> str:
    """Why a site cannot be rewritten whatever the recipe says, "" where it can.

    1. ONNX Runtime would compute something else, or refuse the pads; 2. the operator's average does not survive the
    change of stride; 3. channels or element type are unknown; 4. the opset has no operator for the blur.
    """
    window, pool = site.window, site.kind != "conv"
    if site.op in ("Conv", "QLinearConv", "LpPool") and leaves_gaps(window, site.input_size):
        return "auto_pad=SAME with a kernel smaller than the stride: ONNX Runtime shifts the window"
    if site.op == "AveragePool" and window.ceil_mode and site.count_include_pad and dense.end != window.end:
        return "ceil_mode=1 with count_include_pad=1: the last windows divide by a count that stride 1 changes"
    if pool and any(max(b, e) >= k for b, e, k in zip(dense.begin, dense.end, dense.kernel, strict=True)):
        return "the pads at stride 1 reach the kernel size, which ONNX Runtime refuses"
    if not site.channels:
        return "its number of channels is not known statically, or differs between calls of the function"
    if (most := max(site.channels, site.input_channels or 0)) > MOST_CHANNELS:
        return f"{most} channels: a blur has taps for each, of {MOST_CHANNELS} at most"
    if site.dtype in INTEGERS_8 and not site.quantised:
        return "an integer map whose scale and zero point are no constant scalars, which a blur needs"
    if not site.dtype:
        return "the element type of its output is not known"
    if site.dtype not in FLOATS | INTEGERS_8:
        kind = onnx.TensorProto.DataType.Name(site.dtype).lower()
        return f"a map of {kind}: blurs take floats, int8 and uint8; rewrite the model before it is quantised"
    if opset < 11 and site.dtype in INTEGERS_8:
        return "quantised maps need opset 11 or newer: Pad takes no integers before"
    if opset < 10 and site.dtype == DOUBLE and site.op == "MaxPool":
        return "pooled float64 maps need opset 10 or newer: Slice takes no steps before"
    return ""


# ---- operators ---------------------------------------------------------------------------------------------


def _window(editor: GraphEditor, shapes: Shapes, scope: Scope, node: Node) -> Window | str:
    """The operator's window, or why it cannot be read."""
    names = ("kernel_shape", "strides", "dilations", "pads", "auto_pad", "ceil_mode", "group", "count_include_pad")
    if parameters := [name for name in names if is_parameter(node, name)]:
        return f"its {parameters[0]} is a parameter of the function: inline the function to rewrite it"
    kernel: Sequence[object] = ints(node, "kernel_shape")
    if not kernel and SITE_KINDS[node.op] == "conv":
        weight = weight_of(node)
        kernel = (shapes.of(scope, weight).dims or editor.constant_shape(weight) or ())[2:]
    known = tuple(k for k in kernel if isinstance(k, int))
    n = len(known)
    if not n or n < len(kernel):
        return "its kernel size is not known statically"
    defaults = {"strides": [1] * n, "dilations": [1] * n, "pads": [0] * 2 * n}
    found = {name: ints(node, name, default) for name, default in defaults.items()}
    wrong = [name for name, default in defaults.items() if len(found[name]) != len(default)]
    if wrong or min(found["strides"]) < 1:
        return f"its {(wrong or ['strides'])[0]} do not fit its kernel: the model is not valid"
    strides, dilations, pads = (tuple(values) for values in found.values())
    ceil_mode = bool(integer(node, "ceil_mode"))
    return Window(known, strides, dilations, pads[:n], pads[n:], text(node, "auto_pad", "NOTSET"), ceil_mode)


def _map_dtype(shapes: Shapes, scope: Scope, node: Node, end: Tensor) -> int:
    """Element type of the blurred map; where inference stops at a custom operator, that of the weight or of the
    zero point, which ONNX requires to be the same."""
    candidates = [end, node.outputs[0], node.inputs[0], *(node.inputs[1:2] if node.op == "Conv" else ())]
    if node.op == "QLinearConv":
        candidates = [node.inputs[7]]
    return next((dtype for tensor in candidates if (dtype := shapes.of(scope, tensor).dtype)), 0)


def _pool_region(editor: GraphEditor, scope: Scope, output: Tensor) -> Region:
    readers = output.outputs
    alone = len(readers) == 1 and not scope.is_output(output)
    if alone and readers[0].op == "QuantizeLinear" and _scalar_constants(editor, readers[0].inputs[1:]):
        return Region(readers[0].outputs[0], (output,), False, False)
    return Region(output, (), False, False)


def _scalar_constants(editor: GraphEditor, tensors: Iterable[Tensor]) -> bool:
    values = [editor.constant_value(tensor) for tensor in tensors if tensor.name]
    return all(value is not None and value.size == 1 for value in values)


def _weight_channels(editor: GraphEditor, shapes: Shapes, scope: Scope, node: Node) -> int | None:
    shape = editor.constant_shape(weight_of(node))
    return shape[0] if shape else shapes.of(scope, weight_of(node)).dim(0)


def _fused_bias(node: Node) -> bool:
    """Whether a bias carries the name PyTorch's exporters give to a folded BatchNormalization's shift: TorchScript
    numbers it (onnx::Conv_123), dynamo appends _bias to the weight's name."""
    if len(node.inputs) < 3:
        return False
    weight, bias = node.inputs[1].name, node.inputs[2].name
    return bool(bias.startswith("onnx::Conv_") or bias == f"{weight}_bias")


def _ends_in_add(editor: GraphEditor, end: Tensor) -> bool:
    """Whether every reader adds the map to another branch; a constant, such as a position embedding, is none."""
    return bool(end.outputs) and all(
        node.op in ("Add", "Sum") and not any(editor.is_constant(tensor) for tensor in node.inputs)
        for node in end.outputs
    )


def quantisation_of(editor: GraphEditor, tensor: Tensor) -> tuple[Tensor, ...]:
    """The scalar scale of a quantised map and its zero point, if it has one, from the node that writes or those that
    read it; () where there is no constant scalar scale."""
    producer = tensor.inputs[0] if tensor.inputs else None
    pair: list[Tensor] = []
    if producer is not None and producer.op == "QuantizeLinear":
        pair = producer.inputs[1:3]
    elif producer is not None and producer.op == "QLinearConv":
        pair = producer.inputs[6:8]
    else:
        reader = next((node for node in tensor.outputs if node.op == "DequantizeLinear"), None)
        pair = reader.inputs[1:3] if reader is not None else []
    given = tuple(one for one in pair if one.name)
    return given if _scalar_constants(editor, given) else ()
