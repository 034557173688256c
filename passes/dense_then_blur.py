"""MaxPool, LpPool, AveragePool or Conv at stride s -> the operator at stride 1 [-> activation] -> blur of stride s.

R. Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019, section 3.2.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import prod
from typing import Self

from aarewrite.model.graph import GraphEditor
from aarewrite.options import option, whole
from aarewrite.passes.contract import Match, Quantisation, SiteOptions, SitePass, Skip
from aarewrite.passes.geometry import fitted, with_strides
from aarewrite.passes.operators import run_with_window, scaling
from aarewrite.sites.find import quantisation_of
from aarewrite.sites.site import Located, Site
from aarewrite.windows import Sizes, Window, x


@dataclass(frozen=True)
class DenseThenBlur(SitePass):
    """The blur behind the operator.

    Attributes:
        max_window: Largest kernel of a MaxPool, 0 keeps it.
        keep_stride: Stride that the operator keeps; the blur takes the rest. 1: the operator runs dense.
        after: "activation" or "conv".
    """

    max_window: int = whole(0)
    keep_stride: int = whole(1)
    after: str = option("activation", choices=("activation", "conv"))

    name = "after"
    offered = ("average_pool", "conv", "max_pool")

    @classmethod
    def wanted(cls, site: Site, options: SiteOptions) -> Self:
        """Whatever no other pass wants."""
        shrinks = site.op == "MaxPool" and 0 < options.max_window < max(site.window.kernel)
        stem = site.kind == "conv" and options.halve_stem and site.first_conv and all(s == 4 for s in site.strides)
        return cls.of(options, max_window=options.max_window if shrinks else 0, keep_stride=2 if stem else 1)

    def fit(self, site: Site, dense: Window) -> Match | Skip:
        """1. Only a MaxPool's window shrinks. 2. The stride can be split."""
        if self.max_window and site.op != "MaxPool":
            return Skip("only a MaxPool has a window that can shrink")
        if self.keep_stride > 1 and any(s % self.keep_stride for s in site.strides):
            return Skip(f"stride {x(site.strides)} cannot be split into {self.keep_stride} and a blur")
        keep, notes = max(self.keep_stride, 1), tuple[str, ...]()
        dense = with_strides(dense, (keep,) * len(site.strides))
        if self.max_window:
            dense = _shrink(dense, self.max_window)
            notes = (f"max window {x(site.window.kernel)} -> {x(dense.kernel)}: a changed operator, not proven",)
        strides = tuple(s // keep for s in site.strides)
        mapped = dense.output(site.input_size)
        found = fitted(site, self, mapped, dense, strides, runs=True, proven=not self.max_window, notes=notes)
        if isinstance(found, Skip) or self.after != "conv" or not site.fused_bias or site.quantised:
            return found
        if found.blur.keeps_constants:
            return found
        note = "the conv's bias is a folded BatchNormalization's shift: it moves behind the blur"
        return dataclasses.replace(found, notes=(*found.notes, note), bias_behind=True)

    def macs(self, site: Site, match: Match, before: int, input_size: Sizes, output_size: Sizes) -> int:
        """The operator at every position, and the blur at those that stay."""
        mapped = match.window.output(input_size)
        positions = prod(n for n in mapped if n is not None)
        strided = prod(n for n in output_size if n is not None)
        return before * positions // max(strided, 1) + match.blur.macs(mapped) * (site.channels or 0)

    def says(self, site: Site, match: Match) -> str:
        """For example "Conv stride 1x1 -> blur 3x3 stride 2x2 reflect"."""
        return f"{site.op} stride {x(match.window.strides)} -> {match.blur}"

    def apply(self, editor: GraphEditor, located: Located, match: Match) -> str:
        """Run the operator with the match's window and blur the last tensor that all of its readers share."""
        site, scope, node, region = located.site, located.scope, located.node, located.region
        end, inner, dtype = region.end, region.inner, site.dtype
        if self.after == "conv" and site.kind == "conv" and not site.quantised:
            end, inner, dtype = node.outputs[0], (), site.input_dtype
        run_with_window(editor, located, match.window)
        for tensor in inner:
            editor.mark_stale(scope, tensor)
        bias = editor.drop_last_input(node) if match.bias_behind else None
        quantisation = None
        if site.quantised:
            given = quantisation_of(editor, end)
            of_map = scaling(editor, scope, given, dtype, f"{site.node}/blur")
            quantisation = Quantisation(*of_map, form=site.quantised)
        producer = end.inputs[0]
        dense = editor.take_over(scope, end)
        assert site.channels is not None, "a site of unknown channels is never planned"
        name = f"{site.node}/blur"
        nodes = match.blur.nodes(editor, scope, dense, end, site.channels, dtype, name, quantisation, bias)
        editor.insert_after(scope, producer, nodes)
        return match.blur.filtering_node(nodes).name


def _shrink(window: Window, largest: int) -> Window:
    """Cut every axis' kernel to `largest`, and its pads by the same amount: 3x3 p1 becomes 2x2 p0."""
    cut = tuple(max(k - largest, 0) for k in window.kernel)
    return dataclasses.replace(
        window,
        kernel=tuple(min(k, largest) for k in window.kernel),
        begin=tuple(max(b - c, 0) for b, c in zip(window.begin, cut, strict=True)),
        end=tuple(max(e - c, 0) for e, c in zip(window.end, cut, strict=True)),
    )
