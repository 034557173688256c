"""op of stride s -> blur of stride 1 -> the unchanged op of stride s (MosaicML Composer's blur_first)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from aarewrite.model.graph import GraphEditor
from aarewrite.passes.contract import Match, SiteOptions, SitePass, Skip
from aarewrite.passes.low_passes import FILTERS
from aarewrite.passes.operators import blur_input
from aarewrite.sites.site import Located, Site
from aarewrite.windows import Window


@dataclass(frozen=True)
class BlurThenStrided(SitePass):
    """The blur in front of the operator, which stays as it is."""

    name = "before"
    in_front = True
    offered = ("conv",)  # what follows can sharpen what it needs again

    @classmethod
    def wanted(cls, site: Site, options: SiteOptions) -> Self | None:
        """Convs, where the recipe says so."""
        return cls.of(options) if site.kind == "conv" and options.conv == "before" else None

    def fit(self, site: Site, dense: Window) -> Match | Skip:
        """1. The input's channels are known. 2. The filter does filter."""
        if site.input_channels is None:
            return Skip("its number of input channels is not known statically")
        if self.filter == 1:
            return Skip("a single tap in front of it changes nothing")
        found = FILTERS[self.filter].fit(site, self, site.strides, site.input_size)
        if isinstance(found, Skip):
            return found
        blur, _, notes = found
        blur = blur.dense()
        return Match(site.window, blur, True, notes, smallest_map=blur.smallest_map(site.input_size))

    def says(self, site: Site, match: Match) -> str:
        """For example "blur 3x3 stride 1x1 reflect -> Conv as it is"."""
        return f"{match.blur} -> {site.op} as it is"

    def apply(self, editor: GraphEditor, located: Located, match: Match) -> str:
        """Blur the operator's input at stride 1."""
        return blur_input(editor, located, match)
