"""What is decided of each site and why: reasons in their order, globs, overrides, edited plans, costs."""

from __future__ import annotations

import dataclasses
import json
from math import prod
from typing import Any

import onnx
import pytest
from reference import POOL, build, function, functions, ops, weight
from stages import TWO_POOLS, reasons, site_of, three_sites

import aarewrite
from aarewrite.recipe import Recipe, SiteOverride, parse_recipe
from aarewrite.rewriting.pipeline import read_plan
from aarewrite.rewriting.planner import choose
from aarewrite.sites.site import Site


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
    assert reasons(model) == dict.fromkeys(("absent", "spp"), "stride 1: nothing is sampled")
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
        aarewrite.plan(model, **{option: ["Pool*"]})


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


# ---- reasons in their order --------------------------------------------------------------------------------

KEPT = SiteOverride("*", action="keep")
FORCED = SiteOverride("*", action="blur")
OBSTACLE, BLURRED = "a wall", "a blur is next to it already"
OVERRIDDEN = "the recipe's override for '*' keeps it"
UNIT = "stride 1: nothing is sampled"


def reason(site: Site, override: SiteOverride | None = None, **options: Any) -> str:
    return choose(site, Recipe(sites=(override,) if override else (), **options))[1]


def test_reasons_that_hold_whatever_the_recipe_says() -> None:
    pool = site_of(three_sites(), "pool1")
    pool = dataclasses.replace(pool, window=dataclasses.replace(pool.window, strides=(1, 1)), blurred_after=True)
    everything = {"max_pool": "keep"}
    assert reason(dataclasses.replace(pool, obstacle=OBSTACLE), KEPT, **everything) == OBSTACLE
    assert reason(dataclasses.replace(pool, obstacle=OBSTACLE), FORCED) == OBSTACLE
    assert reason(pool, KEPT, **everything) == BLURRED
    assert reason(pool, FORCED) == BLURRED
    pool = dataclasses.replace(pool, blurred_after=False)
    assert reason(pool, KEPT, **everything) == OVERRIDDEN
    assert reason(pool, **everything) == UNIT
    assert reason(pool, FORCED, **everything) == ""
    assert reason(pool, unit_stride_max_pool=True, **everything) == "the recipe keeps max pooling"
    assert reason(pool, unit_stride_max_pool=True) == ""


def test_a_blur_in_front_counts_for_convs_and_for_what_is_blurred_in_front() -> None:
    nets = three_sites()
    conv, pool = (dataclasses.replace(site_of(nets, name), blurred_before=True) for name in ("conv1", "pool1"))
    assert reason(conv) == BLURRED
    assert reason(pool) == ""
    assert reason(pool, SiteOverride("*", placement="before")) == BLURRED


def test_the_recipes_reasons_against_a_conv() -> None:
    embedding, first, kept, narrow, shortcut = (
        "patch embedding (kernel equals stride): dense evaluation costs the stride squared",
        "first conv: left strided by the recipe, use --first-conv to blur it",
        "the recipe keeps strided convs",
        "fewer than 16 input channels",
        "residual shortcut: the recipe keeps it",
    )
    conv = site_of(three_sites(), "conv1")
    conv = dataclasses.replace(
        conv, window=dataclasses.replace(conv.window, kernel=(2, 2)), activation=False, ends_in_add=True
    )
    options: dict[str, Any] = {"conv": "keep", "min_channels": 16, "shortcut": "keep"}
    assert reason(conv, **options) == embedding
    assert reason(conv, FORCED, **options) == ""
    conv = dataclasses.replace(conv, window=dataclasses.replace(conv.window, kernel=(3, 3)))
    assert reason(conv, **options) == first
    options["first_conv"] = True
    assert reason(conv, **options) == kept
    options["conv"] = "after"
    assert reason(conv, **options) == narrow
    options["min_channels"] = 2
    assert reason(conv, **options) == shortcut
    assert reason(dataclasses.replace(conv, activation=True), **options) == ""
    assert reason(dataclasses.replace(conv, ends_in_add=False), **options) == ""


def test_the_recipe_may_keep_average_pools() -> None:
    assert reason(site_of(three_sites(), "pool2"), average_pool="keep") == "the recipe keeps average pooling"


def test_the_users_reasons_follow_the_recipes(model: onnx.ModelProto) -> None:
    plan = aarewrite.plan(model, only=["pool1"], skip=["pool*", "conv1"])
    assert {planned.site.node: planned.reason for planned in plan.sites} == {
        "pool1": "left out by --skip",
        "conv1": "first conv: left strided by the recipe, use --first-conv to blur it",
        "pool2": "not selected by --only",
    }


def test_a_pass_has_the_last_word(model: onnx.ModelProto) -> None:
    recipe = Recipe(name="mine", sites=(SiteOverride("pool1", placement="input"),))
    first = aarewrite.plan(model, recipe).sites[0]
    assert (first.action, first.do.name) == ("keep", "input")
    assert first.reason == "only a 1x1 conv can be blurred on its input instead of behind it"


def test_an_override_changes_what_is_done(model: onnx.ModelProto) -> None:
    recipe = Recipe(
        first_conv=True,
        sites=(SiteOverride("*", filter=5, max_window=2), SiteOverride("conv1", placement="before", pad="edge")),
    )
    do = {planned.site.node: planned.do for planned in aarewrite.plan(model, recipe).sites}
    assert (do["pool1"].name, do["pool1"].filter, do["pool1"].max_window) == ("after", 5, 2)
    assert (do["conv1"].name, do["conv1"].filter, do["conv1"].pad) == ("before", 3, "edge")
    assert (do["pool2"].filter, do["pool2"].max_window) == (5, 0)  # an AveragePool's window does not shrink


def test_globs_name_nodes_alone_or_with_their_scope() -> None:
    model = functions("a = f.Down(x) [pool] y = AveragePool<kernel_shape = [2, 2]>(a)", function("Down", POOL))
    for glob in ("pool", "function Down/pool", "function */*"):
        assert [planned.site.scope for planned in aarewrite.plan(model, only=[glob]).rewrites] == ["function Down"]
    relu = build(f"(float[1, 2, 9, 9] x) => (float[] y) {{ {POOL.replace('y =', 'a =')} [act] y = Relu(a) }}")
    assert not aarewrite.plan(relu, only=["act"]).changes  # it names a node, if no site


# ---- edited plans ------------------------------------------------------------------------------------------


def test_a_site_that_the_plan_does_not_name_is_kept(model: onnx.ModelProto) -> None:
    table = aarewrite.plan(model).to_dict()
    del table["sites"][0]
    first = read_plan(model, table).sites[0]
    assert (first.site.node, first.action, first.reason) == ("pool1", "keep", "not in the plan")


def test_a_stage_that_cannot_be_done_is_taken_out(model: onnx.ModelProto) -> None:
    table = aarewrite.plan(model).to_dict() | {"stages": [{"do": "a trous", "sites": ["relu"]}]}
    with pytest.raises(aarewrite.UsageError, match=r"plan: a trous: .*; take the stage out of the plan"):
        read_plan(model, table)


# ---- costs -------------------------------------------------------------------------------------------------

POOL1, CONV1, POOL2 = 0, 9 * 9 * 4 * 2 * 9, 4 * 4 * 4 * 4


def test_costs_of_the_model_and_of_each_site(model: onnx.ModelProto) -> None:
    plan = aarewrite.plan(model, first_conv=True)
    assert plan.macs == POOL1 + CONV1 + POOL2
    sites = [planned.macs for planned in plan.sites]
    assert sites == [
        (POOL1, 17 * 17 * 2 * 9),
        (CONV1, 17 * 17 * 4 * 2 * 9 + 9 * 9 * 4 * 9),
        (POOL2, 8 * 8 * 4 * 4 + 4 * 4 * 4 * 9),
    ]
    assert plan.macs_after == sum(after for _, after in sites)
    assert plan.cost == plan.macs_after / plan.macs
    assert plan.cost_shapes == {"x": (1, 2, 33, 33)}
    kept = aarewrite.plan(model, skip=["*"])
    assert (kept.macs_after, kept.cost) == (kept.macs, 1)


@pytest.mark.parametrize(
    ("sizes", "given", "shape"),
    [
        ("N, 2, H, W", {}, (1, 2, 224, 224)),
        ("N, 2, H, 64", {}, (1, 2, 224, 64)),
        ("N, 2, T", {}, (1, 2, 1024)),
        ("N, 2, D, H, W", {}, (1, 2, 32, 32, 32)),
        ("N, 2, H, W", {"x": (3, 2, 10, 20)}, (3, 2, 10, 20)),
    ],
)
def test_costs_over_open_sizes_hold_at_nominal_ones(
    sizes: str, given: dict[str, tuple[int, ...]], shape: tuple[int, ...]
) -> None:
    rank = sizes.count(",") - 1
    model = build(
        f"(float[{sizes}] x) => (float[] y) {{ "
        f"[pool] y = AveragePool<kernel_shape = {[2] * rank}, strides = {[2] * rank}>(x) }}"
    )
    plan = aarewrite.plan(model, input_shapes=given)
    assert plan.cost_shapes == {"x": shape}
    expected = 2 * prod(n // 2 for n in shape[2:]) * 2**rank
    assert plan.macs == expected
    (planned,) = plan.sites
    assert planned.macs is not None
    assert planned.macs[0] == expected
    assert planned.site.input_size == (given["x"][2:] if given else planned.site.input_size)
    assert given or None in planned.site.input_size
