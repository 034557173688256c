"""op of stride s -> blur of stride 1 -> the unchanged op of stride s (MosaicML Composer's blur_first)."""

from __future__ import annotations

from aarewrite.model.graph import GraphEditor
from aarewrite.passes.blur_geometry import Rewrite
from aarewrite.passes.blur_input import blur_on_input
from aarewrite.sites.find import Located


def apply(editor: GraphEditor, located: Located, rewrite: Rewrite) -> str:
    """Blur the operator's input at stride 1."""
    return blur_on_input(editor, located, rewrite)
