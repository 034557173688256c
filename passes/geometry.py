"""The geometry that the site passes share.

Size law: a dense operator followed by a blur of f taps with pads floor and ceil of (f-1)/2 has the size of the
strided operator in floor mode. Identity law: with the single tap 1, it is the strided operator. Zhang 2019.
"""

from __future__ import annotations

import dataclasses

from aarewrite.passes.contract import LowPass, Match, SitePass, Skip
from aarewrite.passes.low_passes import FILTERS
from aarewrite.sites.site import Site
from aarewrite.windows import Axes, Sizes, Window, x

EVEN_SIZES = (64, 66)  # what stands for an open size where only even ones must fit


def fitted(
    site: Site, do: SitePass, mapped: Sizes, dense: Window, strides: Axes | None = None,
    *, runs: bool, proven: bool = True, notes: tuple[str, ...] = (),
) -> Match | Skip:  # fmt: skip
    """The filter over a map, checked to give the original's size.

    Args:
        site: The site.
        do: The pass with its options.
        mapped: Size of the map that is filtered.
        dense: How the operator runs now.
        strides: What the filter samples by; None: all of the site's.
        runs: Whether the operator runs in front of the filter.
        proven: Whether the operator is the same one.
        notes: What the user should know of it.
    """
    strides = site.strides if strides is None else strides
    if all(n == 1 for n, s in zip(mapped, strides, strict=True) if s > 1) and any(s > 1 for s in strides):
        return Skip("the map to blur is a single sample wide")
    found = FILTERS[do.filter].fit(site, do, strides, mapped)
    if isinstance(found, Skip):
        return found
    blur, provable, more = found
    proven = proven and provable
    if wrong := _size_mismatch(site, blur, dense if runs else None, proven):
        return Skip(wrong)
    if not proven and any(size is None for size in mapped):
        more += ("the map's size is symbolic: on odd sizes the output can differ by one from the original",)
    return Match(dense, blur, proven, notes + more, smallest_map=blur.smallest_map(mapped))


def _size_mismatch(site: Site, blur: LowPass, dense: Window | None, proven: bool) -> str:
    """Why the result would not have the original's size, "" where it has. `dense` is None where no operator runs in
    front of the blur. Symbolic sizes: a proven rewrite must keep every size, a changed operator the even ones."""
    assert site.dense is not None
    if proven and (against := blur.against_open_sizes(site.input_size)):
        return against
    for even in EVEN_SIZES:
        size = tuple(even if n is None else n for n in site.input_size)
        after = blur.output(dense.output(size) if dense is not None else size)
        known = all(n is not None for n in (*site.input_size, *site.output_size))
        before = site.output_size if known else site.dense.output(size)
        if before != after:
            return f"a {x(size)} map would become {x(after)} instead of {x(before)}, which breaks what follows"
    return ""


def with_strides(window: Window, strides: Axes) -> Window:
    """The window at other strides."""
    return dataclasses.replace(window, strides=strides)
