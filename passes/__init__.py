"""One rewrite a file. Each has `apply`, which edits the graph for one site.

The passes know the graph, the geometry and the blur, never the command line.
"""

from __future__ import annotations

from typing import Protocol

from aarewrite.model.graph import GraphEditor
from aarewrite.passes import blur_input, blur_instead, blur_then_strided, dense_then_blur
from aarewrite.passes.blur_geometry import Rewrite
from aarewrite.sites.find import Located


class Pass(Protocol):
    """What every rewrite offers."""

    def __call__(self, editor: GraphEditor, located: Located, rewrite: Rewrite) -> str:
        """Apply the rewrite to a site and return the name of its blur node, "" where none was needed."""


BY_PLACEMENT: dict[str, Pass] = {
    "after": dense_then_blur.apply,
    "before": blur_then_strided.apply,
    "input": blur_input.apply,
    "instead": blur_instead.apply,
}
