"""What a recipe does with a site, and the exact geometry of doing it. Pure functions over `Site` values.

Size law: a dense operator followed by a blur of f taps with pads floor and ceil of (f-1)/2 has the size of the
strided operator in floor mode. Identity law: with the single tap 1, it is the strided operator. Zhang 2019.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from aarewrite import filters
from aarewrite.filters import Blur
from aarewrite.recipe import Recipe, SiteOverride
from aarewrite.sites.find import INTEGERS_8, Site
from aarewrite.windows import Axes, Sizes, Window

PLACEMENTS = ("after", "before", "input", "instead")
A_TROUS = "a trous"  # the action and the recipe's word for it
EVEN_SIZES = (64, 66)


@dataclass(frozen=True)
class Choice:
    """What is to be done with a site: the editable part of a plan.

    Attributes:
        action: "blur", "keep" or "a trous": the stride is removed and what follows is dilated.
        reason: Why it is kept, "" when it is not.
        placement: "after" the operator (and its activation), "before" it at stride 1, "input": on a 1x1 conv's
            input with the stride, "instead" of an AveragePool.
        filter: Taps per subsampled axis, 1..7.
        pad: "reflect", "edge" or "zero".
        pad_rule, every_axis: As in `Recipe`.
        max_window: Largest kernel of a MaxPool, 0 keeps it.
        keep_stride: Stride that the operator keeps; the blur takes the rest. 1: the operator runs dense.
        after: "activation" or "conv".
        strength: As in `Recipe`.
        second_phase: Whether what follows is computed on a second, interleaved grid, too, and averaged.
    """

    action: str = "blur"
    reason: str = ""
    placement: str = "after"
    filter: int = 3
    pad: str = "reflect"
    pad_rule: str = "centred"
    every_axis: bool = False
    max_window: int = 0
    keep_stride: int = 1
    after: str = "activation"
    strength: float = 1.0
    second_phase: bool = False


@dataclass(frozen=True)
class Rewrite:
    """A choice with its geometry worked out.

    Attributes:
        placement: As in `Choice`.
        window: How the operator runs now (explicit pads, strides included).
        blur: The filter inserted.
        proven: Whether the identity proof covers it; a changed operator is outside.
        notes: What the user should know.
        bias_behind: Whether the conv's bias moves behind the blur (a fused BatchNormalization's shift).
        after: As in `Choice`.
        smallest_map: Where the blurred map's size is symbolic: the smallest size that the padding works with.
    """

    placement: str
    window: Window
    blur: Blur
    proven: bool = True
    notes: tuple[str, ...] = ()
    bias_behind: bool = False
    after: str = "activation"
    smallest_map: int = 1


def keep(reason: str, choice: Choice | None = None) -> Choice:
    """Leave a site as it is; `choice` is what would be done if the plan were edited to blur it after all."""
    return dataclasses.replace(choice or Choice(), action="keep", reason=reason)


def choose(site: Site, recipe: Recipe) -> Choice:
    """What the recipe does with a site, or why it leaves it.

    1. What cannot be rewritten is left. 2. What is blurred already is left. 3. An override speaks.
    4. The recipe speaks.
    """
    override = recipe.override_for(site.node, site.scope)
    forced = override is not None and override.action == "blur"
    choice = _overridden(site, _PLACES[site.kind](site, recipe), override)
    return keep(reason, choice) if (reason := _reason_to_keep(site, recipe, choice, override, forced)) else choice


def _reason_to_keep(site: Site, recipe: Recipe, choice: Choice, override: SiteOverride | None, forced: bool) -> str:
    if site.obstacle:
        return site.obstacle
    in_front = site.blurred_before and (site.kind == "conv" or choice.placement == "before")
    if site.blurred_after or in_front:
        return "a blur is next to it already"
    if override is not None and override.action == "keep":
        return f"the recipe's override for {override.match!r} keeps it"
    if not site.strided and not (recipe.unit_stride_max_pool or forced):
        return "stride 1: nothing is sampled"
    if choice.placement == "before" and choice.filter == 1:
        return "a single tap in front of it changes nothing"
    return "" if forced else _REASONS[site.kind](site, recipe)


def _choice(recipe: Recipe, placement: str, **changes: Any) -> Choice:
    base = Choice(
        placement=placement,
        filter=recipe.filter,
        pad=recipe.pad,
        pad_rule=recipe.pad_rule,
        every_axis=recipe.every_axis,
        after=recipe.after,
        strength=recipe.strength,
    )
    return dataclasses.replace(base, **changes)


def _place_max_pool(site: Site, recipe: Recipe) -> Choice:
    shrinks = site.op == "MaxPool" and 0 < recipe.max_window < max(site.window.kernel)
    return _choice(recipe, "after", max_window=recipe.max_window if shrinks else 0)


def _place_average_pool(site: Site, recipe: Recipe) -> Choice:
    return _choice(recipe, "instead" if recipe.average_pool == "replace" else "after")


def _place_conv(site: Site, recipe: Recipe) -> Choice:
    if recipe.conv == "before":
        return _choice(recipe, "before")
    pointwise = all(k == 1 for k in site.window.kernel) and not any(site.window.begin + site.window.end)
    commutes = recipe.pad != "zero" or not (site.bias or site.normalised)  # zero pads and a bias do not commute
    if pointwise and commutes and not site.activation and recipe.shortcut == "blur-first":
        return _choice(recipe, "input")
    stem = recipe.halve_stem and site.first_conv and all(s == 4 for s in site.strides)
    return _choice(recipe, "after", keep_stride=2 if stem else 1)


def _keep_max_pool(site: Site, recipe: Recipe) -> str:
    return "the recipe keeps max pooling" if recipe.max_pool == "keep" else ""


def _keep_average_pool(site: Site, recipe: Recipe) -> str:
    return "the recipe keeps average pooling" if recipe.average_pool == "keep" else ""


def _keep_conv(site: Site, recipe: Recipe) -> str:
    if site.patch_embedding:
        return "patch embedding (kernel equals stride): dense evaluation costs the stride squared"
    if site.first_conv and not recipe.first_conv:
        return "first conv: left strided by the recipe, use --first-conv to blur it"
    if recipe.conv == "keep":
        return "the recipe keeps strided convs"
    if recipe.min_channels > 1 and (site.input_channels or 0) < recipe.min_channels:
        return f"fewer than {recipe.min_channels} input channels"
    if recipe.shortcut == "keep" and not site.activation and site.ends_in_add:
        return "residual shortcut: the recipe keeps it"
    return ""


_PLACES = {"max_pool": _place_max_pool, "average_pool": _place_average_pool, "conv": _place_conv}
_REASONS = {"max_pool": _keep_max_pool, "average_pool": _keep_average_pool, "conv": _keep_conv}


def _overridden(site: Site, choice: Choice, override: SiteOverride | None) -> Choice:
    if override is None:
        return choice
    fields = ["filter", "pad", "placement", "strength", *(["max_window"] if site.op == "MaxPool" else [])]
    changes = {name: value for name in fields if (value := getattr(override, name)) is not None}
    return dataclasses.replace(choice, **changes)


# ---- geometry ----------------------------------------------------------------------------------------------


def realise(site: Site, choice: Choice) -> Rewrite | str:
    """The geometry of a choice, or the reason why the site must be kept after all."""
    if site.obstacle or site.dense is None:
        return site.obstacle or "its pads are not known"
    if choice.placement == "input" and (site.kind != "conv" or any(k > 1 for k in site.window.kernel)):
        return "only a 1x1 conv can be blurred on its input instead of behind it"
    if choice.placement == "instead" and site.kind != "average_pool":
        return "only an AveragePool can be replaced by a blur"
    if choice.placement == "instead" and site.quantised:
        return "inside a quantised region the pooling stays: use placement after"
    if choice.placement in ("before", "input") and site.input_channels is None:
        return "its number of input channels is not known statically"
    if choice.placement == "before":
        return _before(site, choice)
    dense = _strided(site.dense, (1,) * len(site.strides))
    notes: tuple[str, ...] = ()
    proven = True
    if choice.placement == "after" and choice.max_window:
        if site.op != "MaxPool":
            return "only a MaxPool has a window that can shrink"
        dense = _shrink(dense, choice.max_window)
        proven = False
        notes += (f"max window {_x(site.window.kernel)} -> {_x(dense.kernel)}: a changed operator, not proven",)
    blur_strides = site.strides
    if choice.keep_stride > 1:
        if any(s % choice.keep_stride for s in site.strides):
            return f"stride {_x(site.strides)} cannot be split into {choice.keep_stride} and a blur"
        dense = _strided(dense, (choice.keep_stride,) * len(site.strides))
        blur_strides = tuple(s // choice.keep_stride for s in site.strides)
    if choice.placement == "instead":
        proven = choice.filter == 1 and all(k == 1 for k in site.window.kernel)
        notes += ("average pooling replaced by the blur: a changed operator, not proven",)
    mapped = dense.output(site.input_size) if choice.placement == "after" else site.input_size
    if all(n == 1 for n, s in zip(mapped, blur_strides, strict=True) if s > 1) and any(s > 1 for s in blur_strides):
        return "the map to blur is a single sample wide"
    found = _blur(site, choice, blur_strides, mapped)
    if isinstance(found, str):
        return found
    blur, more = found
    if choice.pad_rule == "symmetric" and blur.begin != filters.centred_pads(blur.sizes)[0]:
        proven = False
        more += ("its pads move the output by a part of the stride: not proven",)
    wrong = _size_mismatch(site, blur, dense if choice.placement == "after" else None, proven)
    if wrong:
        return wrong
    if not proven and any(size is None for size in mapped):
        more += ("the map's size is symbolic: on odd sizes the output can differ by one from the original",)
    behind = choice.after == "conv" and site.fused_bias and choice.placement == "after" and not site.quantised
    if behind:
        more += ("the conv's bias is a folded BatchNormalization's shift: it moves behind the blur",)
    smallest = _smallest_map(blur, mapped)
    return Rewrite(choice.placement, dense, blur, proven, notes + more, behind, choice.after, smallest)


def twin(rewrite: Rewrite) -> Rewrite:
    """The structural twin: the same rewrite whose filter passes one tap through; it must equal the original."""
    return dataclasses.replace(rewrite, blur=dataclasses.replace(rewrite.blur, identity=True), notes=())


def _before(site: Site, choice: Choice) -> Rewrite | str:
    assert site.dense is not None
    found = _blur(site, choice, site.strides, site.input_size)
    if isinstance(found, str):
        return found
    blur, notes = found
    begin, end = filters.centred_pads(blur.sizes)  # a stride-1 blur must keep the map's size
    ones = (1,) * len(site.strides)
    same = dataclasses.replace(blur, strides=ones, begin=begin, end=end)
    return Rewrite("before", site.window, same, True, notes, smallest_map=_smallest_map(same, site.input_size))


def _blur(site: Site, choice: Choice, strides: Axes, mapped: Sizes) -> tuple[Blur, tuple[str, ...]] | str:
    every = (2,) * len(strides) if choice.every_axis else strides
    if not any(s > 1 for s in strides) and not choice.every_axis:
        every = (2,) * len(strides)  # a stride-1 site that is blurred on purpose
    sizes = filters.axis_sizes(choice.filter, every)
    if choice.pad_rule == "symmetric":
        begin, end = filters.symmetric_pads(sizes, strides)
    else:
        begin, end = filters.centred_pads(sizes)
    if site.dtype in INTEGERS_8 and int(filters.integer_kernel(sizes).max()) > 127:
        return f"the {_x(sizes)} taps do not fit int8: choose a smaller --filter for this quantised map"
    if choice.strength < 1 and (site.dtype in INTEGERS_8 or choice.filter % 2 == 0):
        return "a strength below 1 needs an odd filter and a float map"
    mode = choice.pad
    notes: tuple[str, ...] = ()
    widest = tuple(max(b, e) for b, e in zip(begin, end, strict=True))
    if mode == "reflect" and any(n is not None and p > n - 1 for p, n in zip(widest, mapped, strict=True)):
        mode = "edge"
        notes = (f"reflect needs more than {max(widest)} samples and the map is {_x(mapped)}: padded with edge",)
    return Blur(sizes, strides, begin, end, mode, choice.strength), notes


def _smallest_map(blur: Blur, mapped: Sizes) -> int:
    """Reflect padding needs one sample more than it adds; only symbolic sizes have to be told so."""
    rows = zip(blur.begin, blur.end, mapped, strict=True)
    widest = max((max(b, e) for b, e, n in rows if n is None), default=0)
    return widest + 1 if blur.mode == "reflect" else 1


def _size_mismatch(site: Site, blur: Blur, dense: Window | None, proven: bool) -> str:
    """Why the result would not have the original's size, "" where it has. `dense` is None where no operator runs in
    front of the blur. Symbolic sizes: a proven rewrite must keep every size, a changed operator the even ones."""
    assert site.dense is not None
    if proven and any(
        n is None and b + e != f - 1
        for n, b, e, f in zip(site.input_size, blur.begin, blur.end, blur.sizes, strict=True)
    ):
        return f"its pads change the output's size on some inputs: use an odd filter instead of {max(blur.sizes)}"
    filtered = Window(blur.sizes, blur.strides, (1,) * len(blur.sizes), blur.begin, blur.end)
    for even in EVEN_SIZES:
        size = tuple(even if n is None else n for n in site.input_size)
        after = filtered.output(dense.output(size) if dense is not None else size)
        known = all(n is not None for n in site.input_size) and all(n is not None for n in site.output_size)
        before = site.output_size if known else site.dense.output(size)
        if before != after:
            return f"a {_x(size)} map would become {_x(after)} instead of {_x(before)}, which breaks what follows"
    return ""


def _strided(window: Window, strides: Axes) -> Window:
    return dataclasses.replace(window, strides=strides)


def _shrink(window: Window, largest: int) -> Window:
    """Cut every axis' kernel to `largest`, and its pads by the same amount: 3x3 p1 becomes 2x2 p0."""
    cut = tuple(max(k - largest, 0) for k in window.kernel)
    return dataclasses.replace(
        window,
        kernel=tuple(min(k, largest) for k in window.kernel),
        begin=tuple(max(b - c, 0) for b, c in zip(window.begin, cut, strict=True)),
        end=tuple(max(e - c, 0) for e, c in zip(window.end, cut, strict=True)),
    )


def _x(values: Axes | Sizes) -> str:
    return "x".join("?" if value is None else str(value) for value in values)
