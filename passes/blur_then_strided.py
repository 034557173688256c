"""op of stride s -> blur of stride 1 -> the unchanged op of stride s (MosaicML Composer's blur_first).

An AveragePool that pads nothing is itself a box filter: box and blur are then merged into one depthwise Conv.
"""

from __future__ import annotations

from aarewrite.decide import Rewrite
from aarewrite.graph import GraphEditor
from aarewrite.passes.blur_input import blur_on_input
from aarewrite.sites import Located


def apply(editor: GraphEditor, located: Located, rewrite: Rewrite) -> str:
    """Blur the operator's input at stride 1; with a single tap nothing changes."""
    if all(size == 1 for size in rewrite.blur.sizes):
        return ""
    return blur_on_input(editor, located, rewrite)
