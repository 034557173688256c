"""AveragePool of stride s -> a blur of stride s in its place (antialiased-cnns' DenseNet transitions)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from aarewrite.model.graph import GraphEditor
from aarewrite.passes.contract import Match, SiteOptions, SitePass, Skip
from aarewrite.passes.geometry import fitted, with_strides
from aarewrite.sites.site import Located, Site
from aarewrite.windows import Sizes, Window


@dataclass(frozen=True)
class BlurInstead(SitePass):
    """The blur in place of the pooling."""

    name = "instead"

    @classmethod
    def wanted(cls, site: Site, options: SiteOptions) -> Self | None:
        """Average pools, where the recipe says so."""
        return cls.of(options) if site.kind == "average_pool" and options.average_pool == "replace" else None

    def fit(self, site: Site, dense: Window) -> Match | Skip:
        """1. An AveragePool. 2. Not quantised: the blur would need its scale twice."""
        if site.kind != "average_pool":
            return Skip("only an AveragePool can be replaced by a blur")
        if site.quantised:
            return Skip("inside a quantised region the pooling stays: use placement after")
        same = self.filter == 1 and all(k == 1 for k in site.window.kernel)
        notes = ("average pooling replaced by the blur: a changed operator, not proven",)
        dense = with_strides(dense, (1,) * len(site.strides))
        return fitted(site, self, site.input_size, dense, runs=False, proven=same, notes=notes)

    def macs(self, site: Site, match: Match, before: int, input_size: Sizes, output_size: Sizes) -> int:
        """The blur's alone."""
        return match.blur.macs(input_size) * (site.channels or 0)

    def says(self, site: Site, match: Match) -> str:
        """For example "blur 4x4 stride 2x2 reflect instead of AveragePool"."""
        return f"{match.blur} instead of {site.op}"

    def apply(self, editor: GraphEditor, located: Located, match: Match) -> str:
        """Remove the pooling and write the blurred input under the name of its output."""
        site, scope, node = located.site, located.scope, located.node
        source, target = node.inputs[0], node.outputs[0]
        assert site.channels is not None, "a site of unknown channels is never planned"
        nodes = match.blur.nodes(editor, scope, source, target, site.channels, site.dtype, f"{site.node}/blur")
        editor.insert_before(scope, node, nodes)
        editor.remove(scope, node)
        return match.blur.filtering_node(nodes).name
