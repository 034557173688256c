"""A windowed sinc of 7 taps as a depthwise convolution: the ideal low-pass, cut short so that it fits every size.

For stride s the taps are sinc(k/s) sinc(k/4), k = -3..3, divided by their sum: a cutoff of 1/(2s) cycles a sample under
Lanczos' window. Source: C. E. Duchon, "Lanczos Filtering in One and Two Dimensions", J. Applied Meteorology 1979. At
stride 2 they are (-.031, 0, .284, .495, .284, 0, -.031). There is no filter of 5 taps: every second tap but the centre
is 0 at stride 2, so that 5 leave the binomial filter of 3 at another strength.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

import numpy as np

from aarewrite.model.types import Array
from aarewrite.passes.binomial import Binomial
from aarewrite.passes.contract import SitePass, Skip
from aarewrite.sites.site import INTEGERS_8, Site
from aarewrite.windows import Axes, Sizes

TAPS = 7


def sinc_taps(cut: int) -> Array:
    """The taps for a stride, sum 1, float64."""
    at = np.arange(TAPS) - TAPS // 2
    found = np.sinc(at / cut) * np.sinc(at / (TAPS // 2 + 1))
    return np.asarray(found / found.sum())


@dataclass(frozen=True)
class WindowedSinc(Binomial):
    """Fields as in `filters.Blur`; `cuts` are the strides that it filters for, 2 where there is none."""

    cuts: Axes = ()

    names = takes_strength = (f"sinc{TAPS}",)

    @classmethod
    def fit(cls, site: Site, do: SitePass, strides: Axes, mapped: Sizes) -> tuple[Self, bool, tuple[str, ...]] | Skip:
        """A float map, padded as for as many binomial taps."""
        if site.dtype in INTEGERS_8:
            return Skip("the windowed sinc has no integer form: choose 3 or another --filter for this quantised map")
        found = Binomial.fit(site, dataclasses.replace(do, filter=TAPS), strides, mapped)
        if isinstance(found, Skip):
            return found
        blur, provable, notes = found
        return cls(**vars(blur), cuts=tuple(max(stride, 2) for stride in strides)), provable, notes

    def axis_taps(self) -> list[Array]:
        """The taps of each axis, mixed with the identity."""
        part = 0.0 if self.identity else self.strength
        rows = zip(self.sizes, self.cuts, strict=True)
        return [
            np.ones(1) if size == 1 else part * sinc_taps(cut) + (1 - part) * np.eye(size)[size // 2]
            for size, cut in rows
        ]

    def integer_kernel(self) -> None:
        """None: its taps are no integers."""

    def record(self) -> dict[str, object]:
        """Name, taps, strength and padding."""
        return {"filter": self.names[0], **super().record()}

    def __str__(self) -> str:
        """For example "windowed sinc 7x7 stride 2x2 reflect"."""
        return super().__str__().replace("blur", "windowed sinc", 1)
