"""A blur in the place of an AveragePool."""

from __future__ import annotations

from reference import blur, build, relative_difference, run, weight

import aarewrite

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
    assert planned.match is None or "on odd sizes the output can differ by one" in " ".join(planned.notes)
