"""Recipes: what is blurred, where, with which filter. A recipe is a frozen dataclass and a TOML file alike.

The built-in ones are the files in `aarewrite/recipes/`, in the very format users write their own in.
"""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path

from aarewrite.errors import UsageError
from aarewrite.filters import PADS
from aarewrite.options import Json, Table, check_fields, option, read, share, whole
from aarewrite.passes import SITE_PASSES, STAGE_PASSES
from aarewrite.passes.contract import Asked, SiteOptions, StagePass
from aarewrite.passes.low_passes import check_filter
from aarewrite.targets.support import TARGETS
from aarewrite.texts import parsed, read_toml

BUILT_IN = ("aligned", "calibrated", "zhang2019", "zhang2019-resnet", "timm", "composer")
STAGE_KEYS = {entry.name: entry.default for kind in STAGE_PASSES.values() for entry in dataclasses.fields(kind.Options)}
UNWRITTEN = {  # where nothing is asked of what begins at no site, recipes do not speak of it
    (entry.name, entry.default)
    for kind in STAGE_PASSES.values()
    if not kind.at_sites
    for entry in dataclasses.fields(kind.Options)
}


def matches_glob(name: str, glob: str) -> bool:
    """Whether a node's name is the text of a glob or matches it, case-sensitive; names may hold brackets."""
    return name == glob or fnmatchcase(name, glob)


@dataclass(frozen=True)
class SiteOverride:
    """What a recipe says about the sites whose node name matches a glob; None leaves the recipe's general word. Fields
    that are not explained are as in `SiteOptions`."""

    match: str  # glob over node names, case-sensitive; also matched against "scope/node"
    action: str | None = option(None, choices=("blur", "keep"))  # "blur" also lifts the recipe's reasons to leave it
    filter: int | str | None = None
    pad: str | None = option(None, choices=PADS)
    placement: str | None = option(None, choices=SITE_PASSES)  # the name of a site pass
    max_window: int | None = whole(None)
    strength: float | None = share(None)


@dataclass(frozen=True, init=False)
class Recipe(SiteOptions):
    """A complete description of how a model is anti-aliased."""

    name: str = "custom"  # shown in plans and recorded in the model
    target: str | None = option(None, choices=TARGETS)  # the runtime whose form blurs take; None: portable
    # What it asks of passes that rewrite several sites at once: the fields of their `Options`, all of them.
    stages: Mapping[str, object] = field(default_factory=dict, hash=False)
    sites: tuple[SiteOverride, ...] = ()  # the last match wins

    def __init__(
        self,
        name: str = "custom",
        stages: Table = STAGE_KEYS,
        sites: tuple[SiteOverride, ...] = (),
        target: str | None = None,
        **options: object,
    ) -> None:
        """A recipe; `options` are the fields of `SiteOptions` and of the stages' `Options`.

        Raises:
            UsageError: A value is not among the allowed ones, or a key unknown; the message names it.
        """
        where = f"recipe {name}"
        asked = STAGE_KEYS | dict(stages) | {key: options.pop(key) for key in set(options) & set(STAGE_KEYS)}
        own = {entry.name: entry.default for entry in dataclasses.fields(SiteOptions)}
        if unknown := sorted(set(asked) - set(STAGE_KEYS) | set(options) - set(own)):
            known = ", ".join(sorted({"name", "sites", "target", *own, *STAGE_KEYS}))
            raise UsageError(f"{where}: unknown key {unknown[0]!r}", f"known are {known}")
        for key, value in (
            own | options | {"name": name, "stages": asked, "sites": tuple(sites), "target": target}
        ).items():
            object.__setattr__(self, key, value)
        check_filter(f"{where}: filter", self.filter)
        check_fields(self, where)
        for site in self.sites:
            check_fields(site, f"{where}: site {site.match!r}")
            if site.filter is not None:
                check_filter(f"{where}: site {site.match!r}: filter", site.filter)
        for kind in STAGE_PASSES.values():
            self.asked(kind)

    def asked(self, kind: type[StagePass]) -> Asked:
        """What it asks of a stage pass: an instance of its `Options`."""
        names = {entry.name for entry in dataclasses.fields(kind.Options)}
        return read(kind.Options, {name: self.stages[name] for name in names}, f"recipe {self.name}")

    def override_for(self, node: str, scope: str = "") -> SiteOverride | None:
        """The last override that matches a node."""
        names = (node, f"{scope}/{node}" if scope else node)
        matches = (o for o in reversed(self.sites) if any(matches_glob(name, o.match) for name in names))
        return next(matches, None)

    def with_options(self, **options: object) -> Recipe:
        """The recipe with the given keys replaced; None leaves one as it is."""
        given: Json = {key: value for key, value in options.items() if value is not None}
        return dataclasses.replace(self, **given)

    def to_dict(self) -> Json:
        """Plain values, as in TOML and JSON; unset overrides, and what is not asked for, are left out."""
        fields = dataclasses.asdict(self)
        sites = [{key: value for key, value in site.items() if value is not None} for site in fields.pop("sites")]
        blur = {key: fields.pop(key) for key in ("filter", "pad", "pad_rule", "every_axis")}
        name, last, stages, target = (fields.pop(key) for key in ("name", "strength", "stages", "target"))
        asked = {key: value for key, value in stages.items() if (key, value) not in UNWRITTEN}
        form = {"target": target} if target else {}
        return {"name": name, **blur, **fields, "strength": last, **asked, **form, "sites": sites}


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
    return recipe_from_dict(read_toml(path), path.stem)


def parse_recipe(text: str, name: str) -> Recipe:
    """Parse a recipe's TOML; `name` is used where the text gives none.

    Raises:
        UsageError: The text is not TOML, or has an unknown key or a wrong value.
    """
    table = parsed(text, tomllib.loads, "TOML", f"recipe {name}")
    return recipe_from_dict(typing.cast(Table, table), name)


def recipe_from_dict(table: Table, name: str) -> Recipe:
    """Build a recipe from plain values, the inverse of `Recipe.to_dict`.

    Raises:
        UsageError: A key is unknown or a value is wrong.
    """
    entries = dict(table)
    sites = entries.pop("sites", entries.pop("site", []))
    if not isinstance(sites, list) or not all(isinstance(site, dict) for site in sites):
        raise UsageError(f"recipe {name}: write overrides as [[site]] tables")
    if any("match" not in site for site in sites):
        raise UsageError(f'recipe {name}: a [[site]] needs match = "node name or glob"')
    overrides = tuple(read(SiteOverride, site, f"recipe {name}: site {site['match']!r}") for site in sites)
    given: Json = {"name": name} | entries
    return Recipe(**given, sites=overrides)
