"""Conv 1x1 of stride s with no activation behind it -> blur of stride s -> Conv 1x1 of stride 1.

A pointwise convolution and a blur commute (with zero pads only where there is no bias), and subsampling first
makes the convolution s*s times cheaper. This is where residual shortcuts are blurred.
"""

from __future__ import annotations

from aarewrite.model.graph import GraphEditor
from aarewrite.passes.blur_geometry import Rewrite
from aarewrite.passes.blur_nodes import Quantisation, blur_nodes, conv_name
from aarewrite.passes.dense_then_blur import run_with_window
from aarewrite.sites.find import Located, quantisation_of


def apply(editor: GraphEditor, located: Located, rewrite: Rewrite) -> str:
    """Blur the conv's input with the conv's stride, then run it dense."""
    run_with_window(editor, located, rewrite)
    return blur_on_input(editor, located, rewrite)


def blur_on_input(editor: GraphEditor, located: Located, rewrite: Rewrite) -> str:
    """Feed the operator from a blurred copy of its input, which other readers keep as it was."""
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
    nodes = blur_nodes(
        editor, scope, rewrite.blur, source, target, site.input_channels, site.input_dtype,
        f"{site.node}/blur", quantisation,
    )  # fmt: skip
    editor.insert_before(scope, node, [*nodes, *behind])
    editor.set_input(node, 0, blurred)
    return conv_name(nodes)
