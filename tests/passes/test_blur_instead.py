"""A blur in the place of an AveragePool."""

from __future__ import annotations

import dataclasses

from reference import blur, build, relative_difference, run, weight
from stages import site_of, three_sites

import aarewrite
from aarewrite.passes.blur_instead import BlurInstead
from aarewrite.passes.contract import Match, SiteOptions, Skip

EXACT = 1e-6


def test_average_pool_is_replaced() -> None:
    model = build(
        "(float[1, 2, 12, 12] x) => (float[] y) { [pool] y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    result = aarewrite.rewrite(model, recipe="zhang2019")
    x = weight(1, 2, 12, 12)
    assert relative_difference(run(result.model, x=x)[0], blur(x, 4, (2, 2))) < EXACT
    assert result.proof is not None
    assert result.proof.unproven == ("pool",)


def test_average_pool_on_an_odd_map_is_kept() -> None:
    model = build(
        "(float[1, 2, 13, 12] x) => (float[] y) { [pool] y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    (planned,) = aarewrite.plan(model, recipe="zhang2019").sites
    assert planned.reason == "a 13x12 map would become 7x6 instead of 6x6, which breaks what follows"


def test_average_pool_replaced_over_a_symbolic_size() -> None:
    """The plan itself says that odd sizes may differ by one: then that is no failed check."""
    model = build(
        "(float[N, 2, H, W] x) => (float[] y) { [pool] y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    result = aarewrite.rewrite(model, recipe="zhang2019")
    (planned,) = result.plan.sites
    assert planned.match is not None
    assert "on odd sizes the output can differ by one" in " ".join(planned.notes)


def test_it_costs_the_blur_alone() -> None:
    model = build(
        "(float[1, 2, 12, 12] x) => (float[] y) { [pool] y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    (planned,) = aarewrite.plan(model, recipe="zhang2019").sites
    assert planned.match is not None
    assert planned.macs == (6 * 6 * 2 * 4, 6 * 6 * 2 * 16)
    assert planned.do.says(planned.site, planned.match) == "blur 4x4 stride 2x2 reflect instead of AveragePool"
    assert planned.notes == ("average pooling replaced by the blur: a changed operator, not proven",)


def test_a_window_of_one_is_the_same_operator_and_proven() -> None:
    for kernel, taps, proven in ((1, 1, True), (1, 3, False), (2, 1, False)):
        window = f"kernel_shape = {[kernel] * 2}, strides = [2, 2]"
        model = build(f"(float[1, 2, 12, 12] x) => (float[] y) {{ [pool] y = AveragePool<{window}>(x) }}")
        match = BlurInstead(filter=taps).match(site_of(model, "pool"))
        assert isinstance(match, Match)
        assert match.proven is proven


def test_only_average_pools_outside_quantised_regions_are_replaced() -> None:
    nets = three_sites(32)
    for name in ("pool1", "conv1"):
        assert BlurInstead().match(site_of(nets, name)) == Skip("only an AveragePool can be replaced by a blur")
        assert BlurInstead.wanted(site_of(nets, name), SiteOptions(average_pool="replace")) is None
    pool = site_of(nets, "pool2")
    assert BlurInstead.wanted(pool, SiteOptions(average_pool="replace")) == BlurInstead()
    assert BlurInstead.wanted(pool, SiteOptions()) is None
    assert BlurInstead().match(dataclasses.replace(pool, quantised="qdq")) == Skip(
        "inside a quantised region the pooling stays: use placement after"
    )
