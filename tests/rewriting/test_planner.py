"""What is decided of each site and why: reasons in their order, globs, overrides, edited plans, costs."""

from __future__ import annotations

import json
from typing import Any

import onnx
import pytest
from reference import build, ops, weight
from stages import TWO_POOLS, reasons, three_sites

import aarewrite
from aarewrite.recipe import parse_recipe


@pytest.fixture
def model() -> onnx.ModelProto:
    return three_sites()


def test_first_conv_is_left_unless_asked_for() -> None:
    model = build(
        """(float[1, 3, 16, 16] x) => (float[] y) {
        [one] a = Conv<strides = [2, 2]>(x, w)
        [two] y = Conv<strides = [2, 2]>(a, w)
    }""",
        w=weight(3, 3, 3, 3),
    )
    assert reasons(model) == {"one": "first conv: left strided by the recipe, use --first-conv to blur it"}
    assert reasons(model, first_conv=True) == {}


def test_stride_1_pools_are_left() -> None:
    model = build(
        """(float[1, 2, 7, 7] x) => (float[] y) {
        [absent] a = MaxPool<kernel_shape = [3, 3]>(x)
        [spp] b = MaxPool<kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1]>(a)
        [average] y = AveragePool<kernel_shape = [3, 3]>(b)
    }"""
    )
    assert set(reasons(model).values()) <= {"stride 1: nothing is sampled"}
    assert not aarewrite.rewrite(model).changed


def rewritten(model: onnx.ModelProto, **options: Any) -> list[str]:
    return [p.site.node for p in aarewrite.plan(model, first_conv=True, **options).rewrites]


def test_only_and_skip(model: onnx.ModelProto) -> None:
    assert rewritten(model) == ["pool1", "conv1", "pool2"]
    assert rewritten(model, only=["pool*"]) == ["pool1", "pool2"]
    assert rewritten(model, skip=["pool*"]) == ["conv1"]
    assert rewritten(model, only=["*1"], skip=["conv?"]) == ["pool1"]
    assert rewritten(model, only=["pool[2]", "conv1"]) == ["conv1", "pool2"]
    reasons = {p.site.node: p.reason for p in aarewrite.plan(model, only=["pool1"], first_conv=True).sites}
    assert reasons == {"pool1": "", "conv1": "not selected by --only", "pool2": "not selected by --only"}
    (_, second, _) = aarewrite.plan(model, skip=["conv1"], first_conv=True).sites
    assert second.reason == "left out by --skip"


@pytest.mark.parametrize("option", ["only", "skip"])
def test_globs_that_match_nothing(model: onnx.ModelProto, option: str) -> None:
    with pytest.raises(
        aarewrite.UsageError, match=rf"--{option} 'Pool\*' matches no node; the model's sites are pool1"
    ):
        aarewrite.plan(model, **{option: ["Pool*"]})  # type: ignore[arg-type]


@pytest.mark.parametrize("glob", ["conv1", "pool1"])
def test_a_second_run_with_only_changes_nothing(model: onnx.ModelProto, glob: str) -> None:
    first = aarewrite.rewrite(model, only=[glob], first_conv=True)
    second = aarewrite.rewrite(first.model, only=[glob], first_conv=True)
    assert not second.changed


def test_a_plan_of_a_kept_obstacle_cannot_be_forced() -> None:
    model = build(
        "(float[1, 2, 8, 8] x) => (float[] y, int64[] i) "
        "{ [pool] y, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    table = json.loads(aarewrite.plan(model).to_json())
    table["sites"][0].update(action="blur", placement="after")
    with pytest.raises(aarewrite.UsageError, match="plan: pool: its Indices output is used"):
        aarewrite.rewrite(model, plan=table)


def test_a_kept_site_carries_what_the_recipe_would_do(model: onnx.ModelProto) -> None:
    """Flipping "keep" to "blur" in a plan gives the recipe's rewrite, not some default."""
    table = aarewrite.plan(model, recipe="zhang2019", skip=["conv1"], first_conv=True).to_dict()
    kept = next(entry for entry in table["sites"] if entry["node"] == "conv1")
    assert (kept["action"], kept["filter"], kept["pad"]) == ("keep", 4, "reflect")
    kept["action"] = "blur"
    edited = aarewrite.rewrite(model, plan=table).model
    whole = aarewrite.rewrite(model, recipe="zhang2019", first_conv=True).model
    assert [node.SerializeToString() for node in edited.graph.node] == [n.SerializeToString() for n in whole.graph.node]


def test_override_keeps_a_site_with_its_reason() -> None:
    recipe = parse_recipe('[[site]]\nmatch = "stem/pool"\naction = "keep"', "mine")
    stem, body = aarewrite.plan(build(TWO_POOLS), recipe=recipe).sites
    assert stem.reason == "the recipe's override for 'stem/pool' keeps it"
    assert body.match is not None


def test_override_lifts_the_recipes_own_reasons() -> None:
    model = build(
        "(float[1, 2, 9, 9] x) => (float[] y) { [stem] y = Conv<strides = [2, 2]>(x, w) }", w=weight(4, 2, 3, 3)
    )
    assert not aarewrite.plan(model).rewrites
    recipe = parse_recipe('[[site]]\nmatch = "stem"\naction = "blur"', "mine")
    assert len(aarewrite.plan(model, recipe=recipe).rewrites) == 1


def test_override_blurs_a_stride_1_pool() -> None:
    model = build("(float[1, 2, 9, 9] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [3, 3]>(x) }")
    recipe = parse_recipe('[[site]]\nmatch = "pool"\naction = "blur"', "mine")
    result = aarewrite.rewrite(model, recipe=recipe)
    assert ops(result.model) == ["MaxPool", "Pad", "Conv"]
    assert not aarewrite.rewrite(result.model, recipe=recipe).changed


def test_override_that_matches_nothing_is_a_usage_error() -> None:
    recipe = parse_recipe('[[site]]\nmatch = "steam/*"\nfilter = 2', "mine")
    with pytest.raises(
        aarewrite.UsageError, match=r"recipe site 'steam/\*' matches no node; the model's sites are stem"
    ):
        aarewrite.plan(build(TWO_POOLS), recipe=recipe)
