"""The edits that the site passes share: an operator with another window, an operator fed from a blurred input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.types import Node, Tensor, integer
from aarewrite.passes.contract import Match, Quantisation
from aarewrite.sites.find import quantisation_of
from aarewrite.sites.site import INTEGERS_8, Located
from aarewrite.windows import Window

UINT8 = onnx.TensorProto.UINT8


def run_with_window(editor: GraphEditor, located: Located, window: Window) -> None:
    """Set an operator's strides and pads, explicitly; drop an unread Indices output."""
    node, written = located.node, located.site.window
    changes = {"strides": list(window.strides)}
    if located.site.kind != "conv":
        changes["kernel_shape"] = list(window.kernel)
    editor.set_attributes(
        node,
        **changes,
        pads=list(window.begin + window.end) if any(window.begin + window.end) or "pads" in node.attrs else None,
        auto_pad=None if written.auto_pad != "NOTSET" else node.attrs.get("auto_pad"),
        ceil_mode=None if written.ceil_mode else node.attrs.get("ceil_mode"),
    )
    if len(node.outputs) > 1:
        editor.drop_outputs(node, keep=1)


def blur_input(editor: GraphEditor, located: Located, match: Match) -> str:
    """Feed an operator from a blurred copy of its input, which other readers keep as it was; returns the name of the
    filtering node."""
    site, scope, node = located.site, located.scope, located.node
    source = node.inputs[0]
    assert site.input_channels is not None, "an input of unknown channels is never planned"
    blurred = editor.variable(f"{site.node}/blurred_input")
    quantisation, behind, target = None, [], blurred
    producer = source.inputs[0] if source.inputs else None
    if producer is not None and (dtype := _dequantised_type(editor, producer)):
        # stay in the quantised domain: blur the integers, dequantise once more
        scale, zero_point = scaling(editor, scope, producer.inputs[1:3], dtype, f"{site.node}/blur")
        quantisation = Quantisation(scale, zero_point, form="qdq")
        target = editor.variable(f"{site.node}/blurred_quantised")
        source = producer.inputs[0]
        again = [target, scale, zero_point]
        behind = [editor.node("DequantizeLinear", f"{site.node}/blur/DequantizeInput", again, [blurred])]
    elif site.quantised == "qlinear":
        quantisation = Quantisation(node.inputs[1], node.inputs[2], form="qlinear")
    nodes = match.blur.nodes(
        editor, scope, source, target, site.input_channels, site.input_dtype, f"{site.node}/blur", quantisation
    )
    editor.insert_before(scope, node, [*nodes, *behind])
    editor.set_input(node, 0, blurred)
    return match.blur.filtering_node(nodes).name


def scaling(editor: GraphEditor, scope: Scope, given: Sequence[Tensor], dtype: int, name: str) -> tuple[Tensor, Tensor]:
    """The scale of a quantised map of an element type, and its zero point: a new constant where none is `given`."""
    scale, *rest = (tensor for tensor in given if tensor.name)
    return scale, rest[0] if rest else editor.constant(scope, f"{name}/zero_point", np.array(0), dtype)


def _dequantised_type(editor: GraphEditor, node: Node) -> int:
    """Element type of the 8-bit map with a constant scalar scale that a node dequantises, 0 where it does no such."""
    given = quantisation_of(editor, node.inputs[0]) if node.op == "DequantizeLinear" else ()
    zero_point = editor.constant_value(given[1]) if len(given) == 2 else None
    writers = [writer for writer in node.inputs[0].inputs if writer.op == "QuantizeLinear"] if given else []
    if zero_point is not None:
        dtype = int(onnx.helper.np_dtype_to_tensor_dtype(zero_point.dtype))
    else:  # the writer says it, or takes uint8
        dtype = integer(writers[0], "output_dtype") or UINT8 if writers else 0
    return dtype if dtype in INTEGERS_8 else 0
