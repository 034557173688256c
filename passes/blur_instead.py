"""AveragePool of stride s -> a blur of stride s in its place (antialiased-cnns' DenseNet transitions)."""

from __future__ import annotations

from aarewrite.model.graph import GraphEditor
from aarewrite.passes.blur_geometry import Rewrite
from aarewrite.passes.blur_nodes import blur_nodes, conv_name
from aarewrite.sites.find import Located


def apply(editor: GraphEditor, located: Located, rewrite: Rewrite) -> str:
    """Remove the pooling and write the blurred input under the name of its output."""
    site, scope, node = located.site, located.scope, located.node
    source, target = node.inputs[0], node.outputs[0]
    assert site.channels is not None, "a site of unknown channels is never planned"
    nodes = blur_nodes(
        editor, scope, rewrite.blur, source, target, site.channels, site.dtype,
        f"{site.node}/blur",
    )  # fmt: skip
    editor.insert_before(scope, node, nodes)
    editor.remove(scope, node)
    return conv_name(nodes)
