"""The edits that the site passes share: an operator with another window, an operator fed from a blurred input."""

from __future__ import annotations

from aarewrite.model.graph import GraphEditor
from aarewrite.passes.contract import Match, Quantisation
from aarewrite.sites.find import quantisation_of
from aarewrite.sites.site import Located
from aarewrite.windows import Window


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
    if producer is not None and producer.op == "DequantizeLinear" and quantisation_of(editor, producer.inputs[0]):
        # stay in the quantised domain: blur the integers, dequantise once more
        scale, zero_point = producer.inputs[1:3]
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
