"""MaxPool, LpPool, AveragePool or Conv at stride s -> the operator at stride 1 [-> activation] -> blur of stride s.

R. Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019, section 3.2.
"""

from __future__ import annotations

from aarewrite.model.graph import GraphEditor
from aarewrite.passes.blur_geometry import Rewrite
from aarewrite.passes.blur_nodes import Quantisation, blur_nodes, conv_name
from aarewrite.sites.find import Located, quantisation_of


def apply(editor: GraphEditor, located: Located, rewrite: Rewrite) -> str:
    """Run the operator with `rewrite.window` and blur the last tensor that all of its readers share."""
    site, scope, node, region = located.site, located.scope, located.node, located.region
    end, inner, dtype = region.end, region.inner, site.dtype
    if rewrite.after == "conv" and site.kind == "conv" and not site.quantised:
        end, inner, dtype = node.outputs[0], (), site.input_dtype
    run_with_window(editor, located, rewrite)
    for tensor in inner:
        editor.mark_stale(scope, tensor)
    bias = editor.drop_last_input(node) if rewrite.bias_behind else None
    quantisation = None
    if site.quantised:
        scale_and_zero = quantisation_of(editor, end)
        assert scale_and_zero is not None, "a site without scalar scale and zero point is never planned"
        quantisation = Quantisation(*scale_and_zero, form=site.quantised)
    producer = end.inputs[0]
    dense = editor.take_over(scope, end)
    assert site.channels is not None, "a site of unknown channels is never planned"
    nodes = blur_nodes(
        editor, scope, rewrite.blur, dense, end, site.channels, dtype,
        f"{site.node}/blur", quantisation, bias,
    )  # fmt: skip
    editor.insert_after(scope, producer, nodes)
    return conv_name(nodes)


def run_with_window(editor: GraphEditor, located: Located, rewrite: Rewrite) -> None:
    """Set the operator's strides and pads, explicitly; drop an unread Indices output."""
    node, window = located.node, rewrite.window
    changes = {"strides": list(window.strides)}
    if located.site.kind != "conv":
        changes["kernel_shape"] = list(window.kernel)
    editor.set_attributes(
        node,
        **changes,
        pads=list(window.begin + window.end) if any(window.begin + window.end) or "pads" in node.attrs else None,
        auto_pad=None if located.site.window.auto_pad != "NOTSET" else node.attrs.get("auto_pad"),
        ceil_mode=None if located.site.window.ceil_mode else node.attrs.get("ceil_mode"),
    )
    if len(node.outputs) > 1:
        editor.drop_outputs(node, keep=1)
