"""Binomial filters of 1 to 7 taps as depthwise convolutions: the blur of Zhang 2019."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import prod
from typing import Self

from aarewrite import filters
from aarewrite.filters import Blur
from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.types import Node, Tensor
from aarewrite.passes.blur_nodes import blur_nodes
from aarewrite.passes.contract import LowPass, Quantisation, SitePass, Skip
from aarewrite.sites.site import INTEGERS_8, Site
from aarewrite.windows import Axes, Sizes, Window, x


@dataclass(frozen=True)
class Binomial(Blur, LowPass):
    """Fields as in `filters.Blur`."""

    names = tuple(range(1, filters.LARGEST_FILTER + 1))
    takes_strength = names[::2]  # the identity needs a centre

    @classmethod
    def fit(cls, site: Site, do: SitePass, strides: Axes, mapped: Sizes) -> tuple[Self, bool, tuple[str, ...]] | Skip:
        """As the contract says: taps that fit the map's type, and pads that fit its size."""
        taps = do.filter
        assert isinstance(taps, int), "the registry gives each filter its own names"
        every = (2,) * len(strides) if do.every_axis or not any(s > 1 for s in strides) else strides
        sizes = filters.axis_sizes(taps, every)
        centred = begin, end = filters.centred_pads(sizes)
        if do.pad_rule == "symmetric":
            begin, end = filters.symmetric_pads(sizes, strides)
        if site.dtype in INTEGERS_8 and int(filters.integer_kernel(sizes).max()) > 127:
            return Skip(f"the {x(sizes)} taps do not fit int8: choose a smaller --filter for this quantised map")
        if do.strength < 1 and (site.dtype in INTEGERS_8 or taps not in cls.takes_strength):
            return Skip("a strength below 1 needs an odd filter and a float map")
        mode, notes = do.pad, tuple[str, ...]()
        widest = tuple(map(max, begin, end))
        if mode == "reflect" and any(n is not None and p > n - 1 for p, n in zip(widest, mapped, strict=True)):
            mode = "edge"
            notes = (f"reflect needs more than {max(widest)} samples and the map is {x(mapped)}: padded with edge",)
        provable = begin == centred[0]
        if not provable:
            notes += ("its pads move the output by a part of the stride: not proven",)
        return cls(sizes, strides, begin, end, mode, do.strength), provable, notes

    def output(self, size: Sizes) -> Sizes:
        """Spatial size of the filtered map."""
        return Window(self.sizes, self.strides, (1,) * len(self.sizes), self.begin, self.end).output(size)

    def nodes(
        self, editor: GraphEditor, scope: Scope, source: Tensor, target: Tensor, channels: int, dtype: int, name: str,
        quantisation: Quantisation | None = None, bias: Tensor | None = None,
    ) -> list[Node]:  # fmt: skip
        """A Pad where it does not pad with zeros, and a depthwise Conv."""
        return blur_nodes(editor, scope, self, source, target, channels, dtype, name, quantisation, bias)

    def macs(self, size: Sizes) -> int:
        """One for each tap of each output."""
        return prod(n for n in self.output(size) if n is not None) * prod(self.sizes)

    def twin(self) -> Self:
        """All taps but the centre one are 0."""
        return dataclasses.replace(self, identity=True)

    def dense(self) -> Self:
        """At stride 1, padded so that the map keeps its size."""
        begin, end = filters.centred_pads(self.sizes)
        return dataclasses.replace(self, strides=(1,) * len(self.strides), begin=begin, end=end)

    def record(self) -> dict[str, object]:
        """Taps, strength and padding."""
        return {"taps": list(self.sizes), "strength": self.strength, "pad": self.mode}

    def __str__(self) -> str:
        """For example "blur 3x3 stride 2x2 reflect"."""
        mixed = f" strength {self.strength:g}" if self.strength < 1 else ""
        return f"blur {x(self.sizes)}{mixed} stride {x(self.strides)} {self.mode}"

    def against_open_sizes(self, size: Sizes) -> str:
        """Pads that do not add up to f - 1 give one sample more or less at every other size."""
        rows = zip(size, self.begin, self.end, self.sizes, strict=True)
        if any(n is None and b + e != f - 1 for n, b, e, f in rows):
            return f"its pads change the output's size on some inputs: use an odd filter instead of {max(self.sizes)}"
        return ""

    def smallest_map(self, mapped: Sizes) -> int:
        """Reflect padding needs one sample more than it adds; only symbolic sizes have to be told so."""
        rows = zip(self.begin, self.end, mapped, strict=True)
        widest = max((max(b, e) for b, e, n in rows if n is None), default=0)
        return widest + 1 if self.mode == "reflect" else 1

    @property
    def moves(self) -> tuple[float, ...]:
        """Output j of an even filter is centred on input s*j + 1/2."""
        return tuple(0.5 if f % 2 == 0 else 0.0 for f in self.sizes)
