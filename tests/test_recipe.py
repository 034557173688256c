"""Recipes: the built-in ones, the TOML schema, its errors, overrides."""

from __future__ import annotations

from pathlib import Path

import pytest
from reference import build
from stages import TWO_POOLS

import aarewrite
from aarewrite.recipe import BUILT_IN, Recipe, load_recipe, parse_recipe, recipe_from_dict


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_recipes_load_and_keep_their_name(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe_from_dict(recipe.to_dict(), "x") == recipe


def test_what_the_built_in_recipes_say() -> None:
    aligned, calibrated, zhang, resnet, timm, composer = (load_recipe(name) for name in BUILT_IN)
    assert (aligned.filter, aligned.pad, aligned.average_pool, aligned.shortcut) == (
        3,
        "reflect",
        "dense",
        "blur-first",
    )
    assert calibrated == aligned.with_options(name="calibrated", strength=0.5)
    assert (zhang.filter, zhang.average_pool, zhang.halve_stem, zhang.max_window) == (4, "replace", True, 0)
    assert resnet == zhang.with_options(name="zhang2019-resnet", max_window=2)
    assert (timm.filter, timm.pad_rule, timm.shortcut, timm.average_pool) == (3, "symmetric", "keep", "keep")
    assert (composer.pad, composer.conv, composer.min_channels, composer.unit_stride_max_pool) == (
        "zero", "before", 16, True,
    )  # fmt: skip


def test_own_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('filter = 5\npad = "edge"\n[[site]]\nmatch = "stem/*"\nfilter = 2\npad = "zero"\n')
    recipe = load_recipe(path)
    assert (recipe.name, recipe.filter, recipe.pad) == ("mine", 5, "edge")
    stem, body = aarewrite.plan(build(TWO_POOLS), recipe=path).sites
    assert (stem.do.filter, stem.do.pad) == (2, "zero")
    assert (body.do.filter, body.do.pad) == (5, "edge")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filter = ", "recipe mine: not valid TOML (Invalid value"),
        ("filter = 9", "recipe mine: filter = 9 is not one of 1, 2, 3, 4, 5, 6, 7"),
        ("filter = 0", "recipe mine: filter = 0 is not one of"),
        ("filter = true", "recipe mine: filter = True is not one of"),
        ('filter = "3"', "recipe mine: filter = '3' is not one of"),
        ("filter = 3.0", "recipe mine: filter = 3.0 is not one of"),
        ('pad = "wrap"', "recipe mine: pad = 'wrap' is not one of reflect, edge, zero"),
        ("first_conv = 1", "recipe mine: first_conv = 1 is not true or false"),
        ('max_window = "2"', "recipe mine: max_window = '2' is not a whole number"),
        ("max_window = -1", "recipe mine: max_window = -1"),
        ("min_channels = -3", "recipe mine: min_channels = -3"),
        ("filtre = 3", "recipe mine: unknown key 'filtre'"),
        ("[[site]]\nfilter = 3", "recipe mine: a [[site]] needs match"),
        ('[[site]]\nmatch = "a"\nfilters = 3', "recipe mine: site 'a': unknown key 'filters'"),
        ('[[site]]\nmatch = "a"\naction = "skip"', "recipe mine: site 'a': action = 'skip' is not one of blur, keep"),
        ('[[site]]\nmatch = "a"\nmax_window = "big"', "recipe mine: site 'a': max_window = 'big'"),
        ("[[site]]\nmatch = 3", "recipe mine: site 3: match"),
        ('[site]\nmatch = "a"', "recipe mine: write overrides as [[site]] tables"),
        ("site = 3", "recipe mine: write overrides as [[site]] tables"),
        ("site = [3]", "recipe mine: write overrides as [[site]] tables"),
        ("name = 3", "recipe 3: name = 3 is not text"),
    ],
)
def test_errors_name_field_and_choices(text: str, message: str) -> None:
    with pytest.raises(aarewrite.UsageError) as caught:
        parse_recipe(text, "mine")
    assert message in str(caught.value)


def test_unknown_recipe_lists_the_choices() -> None:
    with pytest.raises(aarewrite.UsageError, match="no recipe 'blurry'; choose one of aligned, calibrated, zhang2019,"):
        load_recipe("blurry")


def test_binary_recipe_file(tmp_path: Path) -> None:
    path = tmp_path / "model.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(aarewrite.UsageError, match="not a text file"):
        load_recipe(path)


def test_last_matching_override_wins_and_scopes_are_matched() -> None:
    recipe = parse_recipe(
        '[[site]]\nmatch = "*"\nfilter = 5\n[[site]]\nmatch = "a*"\nfilter = 2\n'
        '[[site]]\nmatch = "If/then_branch/pool"\naction = "keep"',
        "mine",
    )
    found = [recipe.override_for("body"), recipe.override_for("abc"), recipe.override_for("pool", "If/then_branch")]
    assert [o.filter if o else 0 for o in found] == [5, 2, None]
    assert found[2] is not None
    assert found[2].action == "keep"
    assert parse_recipe('[[site]]\nmatch = "a*"', "mine").override_for("Abc") is None


def test_a_recipe_is_a_value() -> None:
    recipe = Recipe(filter=5)
    assert recipe.with_options(filter=None, pad="zero") == Recipe(filter=5, pad="zero")
    with pytest.raises(AttributeError):
        recipe.filter = 3
