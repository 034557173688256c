"""Conv 1x1 of stride s with no activation behind it -> blur of stride s -> Conv 1x1 of stride 1.

A pointwise convolution and a blur commute (with zero pads only where there is no bias), and subsampling first
makes the convolution s*s times cheaper. This is where residual shortcuts are blurred.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from aarewrite.model.graph import GraphEditor
from aarewrite.passes import operators
from aarewrite.passes.contract import Match, SiteOptions, SitePass, Skip
from aarewrite.passes.geometry import fitted, with_strides
from aarewrite.sites.site import Located, Site
from aarewrite.windows import Window


@dataclass(frozen=True)
class BlurInput(SitePass):
    """The blur on the conv's input, with the conv's stride."""

    name = "input"
    in_front = True

    @classmethod
    def wanted(cls, site: Site, options: SiteOptions) -> Self | None:
        """1. A 1x1 conv without pads or activation. 2. Zero pads and a bias do not commute."""
        pointwise = site.kind == "conv" and all(k == 1 for k in site.window.kernel)
        pads = any(site.window.begin + site.window.end)
        commutes = options.pad != "zero" or not (site.bias or site.normalised)
        fits = pointwise and not pads and commutes and not site.activation
        return cls.of(options) if fits and options.shortcut == "blur-first" else None

    def fit(self, site: Site, dense: Window) -> Match | Skip:
        """1. A 1x1 conv. 2. The input's channels are known."""
        if site.kind != "conv" or any(k > 1 for k in site.window.kernel):
            return Skip("only a 1x1 conv can be blurred on its input instead of behind it")
        if site.input_channels is None:
            return Skip("its number of input channels is not known statically")
        dense = with_strides(dense, (1,) * len(site.strides))
        return fitted(site, self, site.input_size, dense, runs=False)

    def says(self, site: Site, match: Match) -> str:
        """For example "blur 3x3 stride 2x2 reflect -> Conv stride 1"."""
        return f"{match.blur} -> {site.op} stride 1"

    def apply(self, editor: GraphEditor, located: Located, match: Match) -> str:
        """Blur the conv's input with the conv's stride, then run it dense."""
        operators.run_with_window(editor, located, match.window)
        return operators.blur_input(editor, located, match)
