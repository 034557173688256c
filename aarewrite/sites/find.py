"""Finding every place where a model samples: sites that can be rewritten, and other aliasing sources.

Everything a decision needs is read here once and put into immutable values, so that the passes decide without
looking at the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.shapes import Shapes
from aarewrite.sites.existing_blurs import is_blur, is_wavelet, produced_by_blur, read_by_blurs, weight_of
from aarewrite.sites.flow import Flow
from aarewrite.sites.other_sources import other_source
from aarewrite.sites.regions import FLOATS, Region, pointwise_region
from aarewrite.windows import Axes, Sizes, Window, explicit, leaves_gaps

SITE_KINDS = {
    "MaxPool": "max_pool",
    "LpPool": "max_pool",
    "AveragePool": "average_pool",
    "Conv": "conv",
    "QLinearConv": "conv",
}
FEWEST_INPUTS = {"Conv": 2, "QLinearConv": 8}
INTEGERS_8 = frozenset((2, 3))  # UINT8, INT8
DOUBLE = 11


@dataclass(frozen=True)
class Site:
    """An operator that samples, with everything that decides about it.

    Attributes:
        scope: Name of the graph, subgraph or function it is in ("" for the main graph).
        node: Its node name, or its first output's name where the node has none of its own.
        op: ONNX operator.
        kind: "max_pool", "average_pool" or "conv".
        window: Kernel, strides, dilations and pads as written.
        dense: The same with explicit pads for running at stride 1; None where there is an obstacle.
        obstacle: Why it cannot be rewritten at all, "" if it can.
        input_channels, channels: Channels in and out, None where unknown.
        group: Convolution groups.
        input_size, output_size: Spatial sizes, None where symbolic.
        dtype: ONNX element type of the blurred map.
        input_dtype: ONNX element type of the operator's input.
        stride_so_far: Product of the strides in front of it, per axis; None where unknown.
        count_include_pad: Of an AveragePool.
        activation: Whether a nonlinearity lies between it and its blur point.
        normalised: Whether an explicit BatchNormalization follows a Conv.
        ends_in_add: Whether its result goes straight to an Add with another branch.
        first_conv: Whether no other convolution lies between it and the model's input.
        bias: Whether a Conv has a bias.
        fused_bias: Whether that bias is the shift of a BatchNormalization that a PyTorch exporter folded in.
        blurred_before, blurred_after: Whether a blur is there already.
        quantised: "" for float maps, "qdq" inside Quantize/Dequantize pairs, "qlinear" for QLinear operators.
    """

    scope: str
    node: str
    op: str
    kind: str
    window: Window
    dense: Window | None
    obstacle: str
    input_channels: int | None
    channels: int | None
    group: int
    input_size: Sizes
    output_size: Sizes
    dtype: int
    input_dtype: int
    stride_so_far: Axes | None
    count_include_pad: bool = False
    activation: bool = False
    normalised: bool = False
    ends_in_add: bool = False
    first_conv: bool = False
    bias: bool = False
    fused_bias: bool = False
    blurred_before: bool = False
    blurred_after: bool = False
    quantised: str = ""

    @property
    def strides(self) -> Axes:
        """Strides per spatial axis."""
        return self.window.strides

    @property
    def strided(self) -> bool:
        """Whether any axis is subsampled."""
        return any(stride > 1 for stride in self.strides)

    @property
    def patch_embedding(self) -> bool:
        """Whether it cuts the input into patches (kernel equals stride): the stem of a ViT or ConvNeXt."""
        alike = self.window.kernel == self.strides and all(s > 1 for s in self.strides)
        return self.kind == "conv" and alike and (self.first_conv or min(self.strides) >= 4)


@dataclass(frozen=True)
class Source:
    """Something else that samples or has sampled: reported, never rewritten.

    Attributes:
        scope, node, op: As in `Site`.
        reason: What it is and what is possible.
        input_size, output_size: Spatial sizes, None where symbolic.
        stride_so_far: As in `Site`.
    """

    scope: str
    node: str
    op: str
    reason: str
    input_size: Sizes = ()
    output_size: Sizes = ()
    stride_so_far: Axes | None = None


@dataclass(frozen=True)
class Located:
    """A site together with its place in an edited graph."""

    site: Site
    scope: Scope
    node: Any
    region: Region


def find(editor: GraphEditor, shapes: Shapes) -> tuple[list[Located], list[Source]]:
    """Every site and every other aliasing source of a model, in graph order."""
    flow = Flow(editor, shapes)
    located: list[Located] = []
    sources: list[Source] = []
    names = node_names(editor)
    for scope in editor.scopes:
        for node in scope.nodes:
            found = _look_at(editor, shapes, flow, scope, node, names[id(node)])
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
    editor: GraphEditor, shapes: Shapes, flow: Flow, scope: Scope, node: Any, name: str
) -> Located | Source | None:
    if len(node.inputs) < FEWEST_INPUTS.get(node.op, 1) or not node.outputs:
        return None
    kind = SITE_KINDS.get(node.op) if node.domain in (None, "", "ai.onnx") else None
    sizes = shapes.spatial(scope, node.inputs[0]), shapes.spatial(scope, node.outputs[0])
    reason = other_source(editor, shapes, scope, node)
    if kind is not None:
        window = _window(editor, shapes, scope, node)
        if isinstance(window, Window):
            if not _samples(node, window, *sizes):
                return None
            reason = _left_alone(editor, node, window)
            if not reason:
                return _site(editor, shapes, flow, scope, node, name, kind, window)
        else:
            reason = window
    stride = flow.stride(node.inputs[0], sizes[0])
    return Source(scope.name, name, node.op, reason, *sizes, stride) if reason else None


def _samples(node: Any, window: Window, input_size: Sizes, output_size: Sizes) -> bool:
    """Whether an operator is worth a row: MaxPool of any stride (recipes may blur stride 1), others when strided;
    global pooling has one output and samples nothing."""
    if SITE_KINDS[node.op] != "conv" and _covers_everything(window, input_size, output_size):
        return False
    return node.op == "MaxPool" or any(s > 1 for s in window.strides)


def _left_alone(editor: GraphEditor, node: Any, window: Window) -> str:
    """Why a convolution is no site although it is strided, "" if it is one."""
    if is_blur(editor, node):
        return "a blur already: left as it is"
    if is_wavelet(editor, node, window):
        return "a Haar wavelet transform: loses nothing, left as it is"
    return ""


def _site(
    editor: GraphEditor,
    shapes: Shapes,
    flow: Flow,
    scope: Scope,
    node: Any,
    name: str,
    kind: str,
    window: Window,
) -> Located:
    data = node.inputs[0]
    result = shapes.of(scope, node.outputs[0])
    spatial = len(window.kernel)
    region = pointwise_region(editor, scope, node.outputs[0], spatial)
    if kind != "conv":  # a pool's blur follows it directly, inside the quantised domain where it is in one
        region = _pool_region(editor, scope, node.outputs[0])
    weight = weight_of(node) if kind == "conv" else None
    input_size = shapes.spatial(scope, data, spatial)
    dense = explicit(window, input_size)
    group = int(node.attrs.get("group", 1))
    site = Site(
        scope=scope.name,
        node=name,
        op=node.op,
        kind=kind,
        window=window,
        dense=dense if isinstance(dense, Window) else None,
        obstacle=_obstacle(editor, shapes, scope, node, window, dense, region, input_size),
        input_channels=shapes.of(scope, data).dim(1),
        channels=result.dim(1) or _weight_channels(editor, shapes, scope, weight),
        group=group,
        input_size=input_size,
        output_size=shapes.spatial(scope, node.outputs[0], spatial),
        dtype=_map_dtype(editor, shapes, scope, node, region.end),
        input_dtype=shapes.of(scope, data).dtype or _map_dtype(editor, shapes, scope, node, node.outputs[0]),
        stride_so_far=flow.stride(data, input_size),
        count_include_pad=bool(node.attrs.get("count_include_pad", 0)),
        activation=region.nonlinear,
        normalised=region.normalised,
        ends_in_add=_ends_in_add(editor, region.end),
        first_conv=kind == "conv" and not flow.convolved(data),
        bias=kind == "conv" and len(node.inputs) > 2 and bool(node.inputs[2].name),
        fused_bias=kind == "conv" and _fused_bias(node),
        blurred_before=produced_by_blur(editor, data),
        blurred_after=read_by_blurs(editor, region.end),
        quantised=_quantised(editor, shapes, scope, node, region.end),
    )
    return Located(site, scope, node, region)


# ---- operators ---------------------------------------------------------------------------------------------


def _window(editor: GraphEditor, shapes: Shapes, scope: Scope, node: Any) -> Window | str:
    """The operator's window, or why it cannot be read."""
    names = ("kernel_shape", "strides", "dilations", "pads", "auto_pad", "ceil_mode", "group", "count_include_pad")
    parameters = [n for n in names if type(node.attrs.get(n)).__name__ == "AttributeRef"]
    if parameters:
        return f"its {parameters[0]} is a parameter of the function: inline the function to rewrite it"
    kernel = node.attrs.get("kernel_shape")
    if kernel is None and SITE_KINDS[node.op] == "conv":
        weight = weight_of(node)
        kernel = (shapes.of(scope, weight).dims or editor.constant_shape(weight) or ())[2:]
    if not kernel or any(not isinstance(k, int) for k in kernel):
        return "its kernel size is not known statically"
    n = len(kernel)
    lengths = {"strides": n, "dilations": n, "pads": 2 * n}
    wrong = [name for name, count in lengths.items() if len(node.attrs.get(name) or [0] * count) != count]
    if wrong or any(int(s) < 1 for s in node.attrs.get("strides", None) or ()):
        return f"its {(wrong or ['strides'])[0]} do not fit its kernel: the model is not valid"
    pads = [int(p) for p in node.attrs.get("pads", None) or (0,) * 2 * n]
    return Window(
        kernel=tuple(int(k) for k in kernel),
        strides=tuple(int(s) for s in node.attrs.get("strides", None) or (1,) * n),
        dilations=tuple(int(d) for d in node.attrs.get("dilations", None) or (1,) * n),
        begin=tuple(pads[:n]),
        end=tuple(pads[n:]),
        auto_pad=str(node.attrs.get("auto_pad", "NOTSET") or "NOTSET"),
        ceil_mode=bool(node.attrs.get("ceil_mode", 0)),
    )


def _covers_everything(window: Window, input_size: Sizes, output_size: Sizes) -> bool:
    if output_size and all(size == 1 for size in output_size):
        return True
    return (
        bool(input_size)
        and len(input_size) == len(window.kernel)
        and all(
            n is not None and n + b + e == k
            for n, k, b, e in zip(input_size, window.extent, window.begin, window.end, strict=True)
        )
    )


def _obstacle(
    editor: GraphEditor,
    shapes: Shapes,
    scope: Scope,
    node: Any,
    window: Window,
    dense: Window | str,
    region: Region,
    input_size: Sizes,
) -> str:
    """Why a site cannot be rewritten whatever the recipe says, "" where it can.

    1. the result is read as indices; 2. the pads cannot be known; 3. ONNX Runtime would refuse the pads;
    4. the operator's average does not survive the change of stride; 5. channels or element type are unknown.
    """
    result = shapes.of(scope, node.outputs[0])
    if len(node.outputs) > 1 and (node.outputs[1].outputs or scope.is_output(node.outputs[1])):
        return "its Indices output is used: they name positions of the strided map"
    if isinstance(dense, str):
        return dense
    if node.op in ("Conv", "QLinearConv", "LpPool") and leaves_gaps(window, input_size):
        return "auto_pad=SAME with a kernel smaller than the stride: ONNX Runtime shifts the window"
    if node.op == "AveragePool" and window.ceil_mode and node.attrs.get("count_include_pad", 0):
        grown = any(a != b for a, b in zip(dense.end, window.end, strict=True))
        if grown:
            return "ceil_mode=1 with count_include_pad=1: the last windows divide by a count that stride 1 changes"
    if node.op in ("MaxPool", "AveragePool", "LpPool"):
        rows = zip(dense.begin, dense.end, dense.kernel, strict=True)
        if any(b >= k or e >= k for b, e, k in rows):
            return "the pads at stride 1 reach the kernel size, which ONNX Runtime refuses"
    if node.op == "LpPool" and scope.opset < 2:
        return "LpPool before opset 2 has one norm attribute that no runtime implements"
    weight = weight_of(node) if SITE_KINDS[node.op] == "conv" else None
    if not (result.dim(1) or _weight_channels(editor, shapes, scope, weight)):
        return "its number of channels is not known statically, or differs between calls of the function"
    dtype = _map_dtype(editor, shapes, scope, node, region.end)
    if dtype in INTEGERS_8 and not _quantised(editor, shapes, scope, node, region.end):
        return "an integer map without constant scalar scale and zero point: a blur needs both"
    if dtype not in FLOATS | INTEGERS_8:
        return "the element type of its output is not known or not a float"
    if scope.opset < 11 and dtype in INTEGERS_8:
        return "quantised maps need opset 11 or newer: Pad takes no integers before"
    if scope.opset < 10 and dtype == DOUBLE and node.op == "MaxPool":
        return "pooled float64 maps need opset 10 or newer: Slice takes no steps before"
    return ""


def _map_dtype(editor: GraphEditor, shapes: Shapes, scope: Scope, node: Any, end: Any) -> int:
    """Element type of the blurred map; where inference stops at a custom operator, that of the weight or of the
    zero point, which ONNX requires to be the same."""
    candidates = [end, node.outputs[0], node.inputs[0]]
    if node.op == "Conv":
        candidates.append(node.inputs[1])
    if node.op == "QLinearConv":
        candidates = [node.inputs[7]]
    return next((dtype for tensor in candidates if (dtype := shapes.of(scope, tensor).dtype)), 0)


def _pool_region(editor: GraphEditor, scope: Scope, output: Any) -> Region:
    readers = output.outputs
    alone = len(readers) == 1 and not scope.is_output(output)
    if alone and readers[0].op == "QuantizeLinear" and _scalar_constants(editor, readers[0].inputs[1:]):
        return Region(readers[0].outputs[0], (output,), False, False)
    return Region(output, (), False, False)


def _scalar_constants(editor: GraphEditor, tensors: Any) -> bool:
    values = [editor.constant_value(tensor) for tensor in tensors if tensor.name]
    return all(value is not None and value.size == 1 for value in values)


def _weight_channels(editor: GraphEditor, shapes: Shapes, scope: Scope, weight: Any) -> int | None:
    if weight is None:
        return None
    shape = editor.constant_shape(weight)
    return shape[0] if shape else shapes.of(scope, weight).dim(0)


def _fused_bias(node: Any) -> bool:
    """Whether a bias carries the name PyTorch's exporters give to a folded BatchNormalization's shift: TorchScript
    numbers it (onnx::Conv_123), dynamo appends _bias to the weight's name."""
    if len(node.inputs) < 3:
        return False
    weight, bias = node.inputs[1].name, node.inputs[2].name
    return bool(bias.startswith("onnx::Conv_") or bias == f"{weight}_bias")


def _ends_in_add(editor: GraphEditor, end: Any) -> bool:
    """Whether every reader adds the map to another branch; a constant, such as a position embedding, is none."""
    adds = [
        node
        for node in end.outputs
        if node.op in ("Add", "Sum") and not any(editor.is_constant(tensor) for tensor in node.inputs)
    ]
    return bool(adds) and len(adds) == len(end.outputs)


def _quantised(editor: GraphEditor, shapes: Shapes, scope: Scope, node: Any, end: Any) -> str:
    """How the blurred map is quantised: its scale and zero point must be scalar constants of the graph."""
    if _map_dtype(editor, shapes, scope, node, end) not in INTEGERS_8:
        return ""
    return "" if quantisation_of(editor, end) is None else ("qlinear" if node.op == "QLinearConv" else "qdq")


def quantisation_of(editor: GraphEditor, tensor: Any) -> tuple[Any, Any] | None:
    """The scalar scale and zero-point tensors of a quantised map, from the node that writes or those that read it;
    None where there are none."""
    producer = tensor.inputs[0] if tensor.inputs else None
    if producer is not None and producer.op == "QuantizeLinear":
        pair = tuple(producer.inputs[1:3])
    elif producer is not None and producer.op == "QLinearConv":
        pair = tuple(producer.inputs[6:8])
    else:
        reader = next((node for node in tensor.outputs if node.op == "DequantizeLinear"), None)
        pair = tuple(reader.inputs[1:3]) if reader is not None else ()
    return pair if len(pair) == 2 and _scalar_constants(editor, pair) else None
