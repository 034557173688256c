"""Conv 1x1 of stride s with no activation behind it -> blur of stride s -> Conv 1x1 of stride 1.

A pointwise convolution and a blur commute, and subsampling first makes the convolution s*s times cheaper. This is where
residual shortcuts are blurred. With zero pads a bias b does not commute: behind it, the blur would meet b inside and 0
outside of the map, so that b counts by m, the blur of a map of ones. m is known where the map's size is:

    blur(W x + b) = W blur(x) + b m
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import onnx

from aarewrite.filters import Blur, outer
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
        """1. A 1x1 conv without pads or activation. 2. Zero pads and a bias commute where the size of the map is known,
        but not with a normalisation behind, nor in integers."""
        pointwise = site.kind == "conv" and all(k == 1 for k in site.window.kernel)
        pads = any(site.window.begin + site.window.end)
        corrected = not (site.normalised or site.quantised or None in site.input_size)
        commutes = options.pad != "zero" or corrected or not (site.bias or site.normalised)
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
        name = operators.blur_input(editor, located, match)
        if located.site.bias and isinstance(match.blur, Blur) and match.blur.mode == "zero":
            _shift_less_at_the_border(editor, located, match.blur)
        return name


def _shift_less_at_the_border(editor: GraphEditor, located: Located, blur: Blur) -> None:
    """Add the bias times the blur of ones in place of the bias."""
    site, scope, node = located.site, located.scope, located.node
    axes = zip(site.input_size, blur.axis_taps(), blur.strides, blur.begin, blur.end, strict=True)
    shares = [
        np.correlate(np.pad(np.ones(size or 0), (begin, end)), taps, "valid")[::step]
        for size, taps, step, begin, end in axes
    ]
    name, rank = f"{site.node}/blur", len(shares)
    share = editor.constant(scope, f"{name}/share", outer(shares)[None, None], site.input_dtype)
    each = editor.constant(scope, f"{name}/each", np.array([1, -1, *[1] * rank]), onnx.TensorProto.INT64)
    bias = editor.drop_last_input(node)
    target = node.outputs[0]
    unshifted = editor.take_over(scope, target, "unshifted")
    column, shift = editor.variable(f"{name}/bias"), editor.variable(f"{name}/shift")
    nodes = [
        editor.node("Reshape", f"{name}/Reshape", [bias, each], [column]),
        editor.node("Mul", f"{name}/Mul", [column, share], [shift]),
        editor.node("Add", f"{name}/Add", [unshifted, shift], [target]),
    ]
    editor.insert_after(scope, node, nodes)
