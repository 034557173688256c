"""Recipes: what is blurred, where, with which filter. A recipe is a frozen dataclass and a TOML file alike.

The built-in ones are the files in `aarewrite/recipes/`, in the very format users write their own in.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any

from aarewrite.errors import UsageError
from aarewrite.filters import LARGEST_FILTER, PADS

BUILT_IN = ("aligned", "calibrated", "zhang2019", "zhang2019-resnet", "timm", "composer")


def matches_glob(name: str, glob: str) -> bool:
    """Whether a node's name is the text of a glob or matches it, case-sensitive; names may hold brackets."""
    return name == glob or fnmatchcase(name, glob)


@dataclass(frozen=True)
class SiteOverride:
    """What a recipe says about the sites whose node name matches a glob; None leaves the recipe's general word.

    Attributes:
        match: Glob over node names, case-sensitive; also matched against "scope/node".
        action: "blur" or "keep". "blur" also lifts the recipe's own reasons for leaving a site alone.
        filter: Taps per subsampled axis, 1..7.
        pad: "reflect", "edge" or "zero".
        placement: "after" or "before".
        max_window: Window of a MaxPool in the rewritten model.
        strength: As in `Recipe`.
    """

    match: str
    action: str | None = None
    filter: int | None = None
    pad: str | None = None
    placement: str | None = None
    max_window: int | None = None
    strength: float | None = None


@dataclass(frozen=True)
class Recipe:
    """A complete description of how a model is anti-aliased.

    Attributes:
        name: Shown in plans and recorded in the model.
        filter: Taps per subsampled axis, 1..7; 1 is plain subsampling, the structural twin.
        pad: How the map is padded for the blur: "reflect", "edge" or "zero".
        pad_rule: "centred": floor and ceil of (f-1)/2; "symmetric": ((s-1)+(f-1))//2 on both sides (timm).
        every_axis: Blur also the spatial axes whose stride is 1 (Composer's fixed 2-D kernel).
        max_pool: "blur" or "keep".
        max_window: Largest MaxPool window that is kept; larger ones shrink to it, 0 keeps all. 2 turns the
            3x3 stem window of a ResNet into the published 2x2.
        unit_stride_max_pool: Blur MaxPools of stride 1 as well.
        conv: "after", "before" or "keep": where a strided Conv's blur goes.
        after: "activation" or "conv": what "after" means.
        first_conv: Whether the first Conv behind an input is blurred.
        halve_stem: A first Conv of stride 4 keeps stride 2 and gets a blur of stride 2 (AlexNet).
        min_channels: Convs with fewer input channels are left.
        shortcut: What a strided Conv with no activation that ends in the residual Add becomes:
            "blur-first" (a 1x1 is blurred on its input; others as any Conv), "conv" (as any Conv), "keep".
        average_pool: "dense" (stride 1, then blur), "replace" (a blur takes its place) or "keep".
        strength: How much of the blur is mixed with the identity, above 0 and up to 1 (the full filter).
        last_stage: "blur" as any other, or "a trous": a classifier's last stage keeps its weights, loses its stride
            and is dilated instead, where it ends in global pooling.
        second_phase: Stride of the map from which on a classifier is computed on two interleaved grids, whose results
            are averaged: 8 begins with the operators that bring the stride to 8, or the nearest there are. 0: none.
        sites: Overrides per site; the last match wins.
    """

    name: str = "custom"
    filter: int = 3
    pad: str = "reflect"
    pad_rule: str = "centred"
    every_axis: bool = False
    max_pool: str = "blur"
    max_window: int = 0
    unit_stride_max_pool: bool = False
    conv: str = "after"
    after: str = "activation"
    first_conv: bool = False
    halve_stem: bool = False
    min_channels: int = 1
    shortcut: str = "blur-first"
    average_pool: str = "dense"
    strength: float = 1.0
    last_stage: str = "blur"
    second_phase: int = 0
    sites: tuple[SiteOverride, ...] = ()

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UsageError: A value is not among the allowed ones; the message names field and choices.
        """
        for name, allowed in _CHOICES.items():
            _check(f"recipe {self.name}: {name}", getattr(self, name), allowed)
        if not isinstance(self.name, str):
            raise UsageError(f"recipe: name = {self.name!r} is not text")
        for name in ("max_window", "min_channels", "second_phase"):
            _check_count(f"recipe {self.name}: {name}", getattr(self, name))
        for name in ("every_axis", "unit_stride_max_pool", "first_conv", "halve_stem"):
            if type(getattr(self, name)) is not bool:
                raise UsageError(f"recipe {self.name}: {name} = {getattr(self, name)!r} is not true or false")
        check_strength(f"recipe {self.name}", self.strength)
        for site in self.sites:
            if site.strength is not None:
                check_strength(f"recipe {self.name}: site {site.match!r}", site.strength)
            if not isinstance(site.match, str):
                raise UsageError(f"recipe {self.name}: site {site.match!r}: match is not text")
            if site.max_window is not None:
                _check_count(f"recipe {self.name}: site {site.match!r}: max_window", site.max_window)
            for name, allowed in _SITE_CHOICES.items():
                if getattr(site, name) is not None:
                    _check(f"recipe {self.name}: site {site.match!r}: {name}", getattr(site, name), allowed)

    def override_for(self, node: str, scope: str = "") -> SiteOverride | None:
        """The last override that matches a node."""
        names = (node, f"{scope}/{node}" if scope else node)
        matches = (o for o in reversed(self.sites) if any(matches_glob(name, o.match) for name in names))
        return next(matches, None)

    def with_options(self, **options: Any) -> Recipe:
        """The recipe with the given fields replaced; None leaves a field as it is."""
        return dataclasses.replace(self, **{key: value for key, value in options.items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in TOML and JSON; unset overrides are left out."""
        fields = dataclasses.asdict(self)
        fields["sites"] = [{key: value for key, value in site.items() if value is not None} for site in fields["sites"]]
        return fields


_FILTERS = tuple(range(1, LARGEST_FILTER + 1))
_CHOICES: dict[str, tuple[Any, ...]] = {
    "filter": _FILTERS,
    "pad": PADS,
    "pad_rule": ("centred", "symmetric"),
    "max_pool": ("blur", "keep"),
    "conv": ("after", "before", "keep"),
    "after": ("activation", "conv"),
    "shortcut": ("blur-first", "conv", "keep"),
    "average_pool": ("dense", "replace", "keep"),
    "last_stage": ("blur", "a trous"),
}
_SITE_CHOICES: dict[str, tuple[Any, ...]] = {
    "action": ("blur", "keep"),
    "filter": _FILTERS,
    "pad": PADS,
    "placement": ("after", "before"),
}


def _check(what: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if type(value) not in (int, str) or value not in allowed:
        raise UsageError(f"{what} = {value!r} is not one of {', '.join(map(str, allowed))}")


def check_strength(what: str, value: Any) -> None:
    """Refuse a strength that is not above 0 and up to 1."""
    if type(value) not in (int, float) or not 0 < value <= 1:
        raise UsageError(f"{what}: strength = {value!r} is not above 0 and up to 1")


def _check_count(what: str, value: Any) -> None:
    if type(value) is not int or value < 0:
        raise UsageError(f"{what} = {value!r} is not a whole number of 0 or more")


def load_recipe(name_or_file: str | Path | Recipe) -> Recipe:
    """A built-in recipe by name, or one's own from a TOML file.

    Raises:
        UsageError: There is no such recipe or file, or the file is not valid; the message says where.
    """
    if isinstance(name_or_file, Recipe):
        return name_or_file
    if str(name_or_file) in BUILT_IN:
        text = resources.files("aarewrite").joinpath(f"recipes/{name_or_file}.toml").read_text("utf-8")
        return parse_recipe(text, str(name_or_file))
    path = Path(name_or_file)
    if not path.is_file():
        raise UsageError(f"no recipe {str(name_or_file)!r}", f"choose one of {', '.join(BUILT_IN)} or a TOML file")
    try:
        return parse_recipe(path.read_text("utf-8"), path.stem)
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a text file") from None


def parse_recipe(text: str, name: str) -> Recipe:
    """Parse a recipe's TOML; `name` is used where the text gives none.

    Raises:
        UsageError: The text is not TOML, or has an unknown key or a wrong value.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"recipe {name}: {error}") from None
    return recipe_from_dict(table, name)


def recipe_from_dict(table: dict[str, Any], name: str) -> Recipe:
    """Build a recipe from plain values, the inverse of `Recipe.to_dict`.

    Raises:
        UsageError: A key is unknown or a value is wrong.
    """
    entries = dict(table)
    sites = entries.pop("sites", entries.pop("site", []))
    if not isinstance(sites, list) or not all(isinstance(site, dict) for site in sites):
        raise UsageError(f"recipe {name}: write overrides as [[site]] tables")
    for entry, kind in [(entries, Recipe), *((site, SiteOverride) for site in sites)]:
        known = {field.name for field in dataclasses.fields(kind)}
        unknown = sorted(set(entry) - known)
        if unknown:
            raise UsageError(f"recipe {name}: unknown key {unknown[0]!r}", f"known are {', '.join(sorted(known))}")
    if any("match" not in site for site in sites):
        raise UsageError(f'recipe {name}: a [[site]] needs match = "node name or glob"')
    overrides = tuple(SiteOverride(**site) for site in sites)
    return Recipe(**{"name": name, **entries, "sites": overrides})
