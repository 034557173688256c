"""Binomial filters: what fits a map, how it is padded, what it costs, moves and records."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from onnx import TensorProto
from reference import blur, build, dense, qdq, relative_difference, run, weight
from stages import site_of

import aarewrite
from aarewrite.passes.binomial import Binomial
from aarewrite.passes.contract import Skip
from aarewrite.passes.dense_then_blur import DenseThenBlur
from aarewrite.recipe import Recipe
from aarewrite.show import plan_table as table
from aarewrite.sites.site import Site

EXACT = 1e-6


def test_reflect_falls_back_to_edge_with_a_note() -> None:
    model = build(
        "(float[1, 2, 4, 9] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    result = aarewrite.rewrite(model, filter=7)
    (planned,) = result.plan.sites
    assert planned.notes == ("reflect needs more than 3 samples and the map is 3x8: padded with edge",)
    x = weight(1, 2, 4, 9)
    expected = blur(dense("MaxPool", x, (2, 2), [(0, 0)] * 2), 7, (2, 2), "edge")
    assert relative_difference(run(result.model, x=x)[0], expected) < EXACT


@pytest.mark.parametrize(("pad", "smallest"), [("reflect", 3), ("edge", 1), ("zero", 1)])
def test_symbolic_sizes_state_the_smallest_that_works(
    capsys: pytest.CaptureFixture[str], pad: str, smallest: int
) -> None:
    """At the size stated it runs and has the original's shape; edge padding has nothing to repeat of an empty map."""
    model = build(
        "(float[N, 2, H, W] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    result = aarewrite.rewrite(model, filter=5, pad=pad)
    table.print_plan(result.plan, done=True)
    assert f"every blurred map must be at least {smallest} wide" in " ".join(capsys.readouterr().out.split())
    for size in (smallest + 1, smallest + 2):  # the dense map is one smaller
        assert run(result.model, x=weight(1, 2, size, size))[0].shape == (1, 2, size // 2, size // 2)


def test_equal_kernels_are_shared() -> None:
    model = build("""(float[1, 2, 33, 33] x) => (float[] y) {
        [one] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        [two] b = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(a)
        [three] y = MaxPool<kernel_shape = [2, 2], strides = [3, 3]>(b)
    }""")
    result = aarewrite.rewrite(model)
    kernels = {n.input[1] for n in result.model.graph.node if n.op_type == "Conv"}
    assert len(kernels) == 1
    assert len(result.model.graph.initializer) == 2  # the kernel and the pads


def test_filter_7_is_refused_in_a_quantised_map() -> None:
    (planned,) = aarewrite.plan(qdq(np.int8), first_conv=True, filter=7).sites
    assert planned.reason == "the 7x7 taps do not fit int8: choose a smaller --filter for this quantised map"
    assert aarewrite.rewrite(qdq(np.int8), first_conv=True, filter=6).changed


# ---- the filter as a value ---------------------------------------------------------------------------------


def pool(sizes: str = "17, 12", strides: str = "2, 2") -> Site:
    window = f"kernel_shape = [2, 2], strides = [{strides}]"
    return site_of(build(f"(float[1, 2, {sizes}] x) => (float[] y) {{ [pool] y = MaxPool<{window}>(x) }}"), "pool")


def fit(
    do: DenseThenBlur, mapped: tuple[int | None, ...] = (16, 11), **site: str
) -> tuple[Binomial, bool, tuple[str, ...]]:
    found = Binomial.fit(pool(**site), do, pool(**site).strides, mapped)
    assert not isinstance(found, Skip)
    return found


@pytest.mark.parametrize(("f", "begin", "end"), [(1, 0, 0), (2, 0, 1), (3, 1, 1), (4, 1, 2), (7, 3, 3)])
def test_pads_are_centred(f: int, begin: int, end: int) -> None:
    blur, provable, notes = fit(DenseThenBlur(filter=f))
    assert blur == Binomial((f, f), (2, 2), (begin, begin), (end, end), "reflect", 1.0)
    assert (provable, notes) == (True, ())


def test_only_subsampled_axes_are_filtered_unless_every_one_is_asked_for() -> None:
    assert fit(DenseThenBlur(), strides="1, 2")[0].sizes == (1, 3)
    assert fit(DenseThenBlur(every_axis=True), strides="1, 2")[0].sizes == (3, 3)
    assert fit(DenseThenBlur(), strides="1, 1")[0].sizes == (3, 3)  # a pool of stride 1, where a recipe blurs it


def test_symmetric_pads_that_move_the_output_are_not_proven() -> None:
    assert fit(DenseThenBlur(filter=3, pad_rule="symmetric"))[1:] == (True, ())
    blur, provable, notes = fit(DenseThenBlur(filter=4, pad_rule="symmetric"))
    assert (blur.begin, blur.end) == ((2, 2), (2, 2))
    assert (provable, notes) == (False, ("its pads move the output by a part of the stride: not proven",))


@pytest.mark.parametrize(("f", "quantised", "fits"), [(3, False, True), (4, False, False), (3, True, False)])
def test_a_strength_needs_an_odd_filter_and_a_float_map(f: int, quantised: bool, fits: bool) -> None:
    site = dataclasses.replace(pool(), dtype=TensorProto.INT8) if quantised else pool()
    found = Binomial.fit(site, DenseThenBlur(filter=f, strength=0.5), (2, 2), (16, 11))
    assert isinstance(found, Skip) is not fits
    if isinstance(found, Skip):
        assert found.reason == "a strength below 1 needs an odd filter and a float map"
    else:
        assert found[0].strength == 0.5


@pytest.mark.parametrize(
    ("mapped", "mode"), [((4, 16), "reflect"), ((3, 16), "edge"), ((None, 3), "edge"), ((None, None), "reflect")]
)
def test_reflect_needs_more_samples_than_it_adds(mapped: tuple[int | None, ...], mode: str) -> None:
    blur, _, notes = fit(DenseThenBlur(filter=7), mapped)
    assert blur.mode == mode
    assert bool(notes) is (mode == "edge")


BLUR = Binomial((3, 5), (2, 3), (1, 2), (1, 2), "reflect", 0.5)


def test_size_cost_and_words() -> None:
    assert BLUR.output((17, None)) == (9, None)
    assert BLUR.output((17, 12)) == (9, 4)
    assert BLUR.macs((17, 12)) == 9 * 4 * 3 * 5
    assert str(BLUR) == "blur 3x5 strength 0.5 stride 2x3 reflect"
    assert str(dataclasses.replace(BLUR, strength=1.0)) == "blur 3x5 stride 2x3 reflect"
    assert BLUR.record() == {"taps": [3, 5], "strength": 0.5, "pad": "reflect"}


def test_at_stride_1_it_keeps_the_size_of_every_map() -> None:
    for f in range(1, 8):
        dense_one = Binomial((f,), (3,), (0,), (0,), "zero", 1.0).dense()
        assert (dense_one.strides, dense_one.output((9,))) == ((1,), (9,))


def test_even_filters_move_a_map_by_half_a_sample() -> None:
    assert BLUR.moves == (0.0, 0.0)
    assert dataclasses.replace(BLUR, sizes=(4, 5)).moves == (0.5, 0.0)


def test_pads_must_add_up_over_open_sizes_only() -> None:
    short = dataclasses.replace(BLUR, end=(1, 1))
    reason = "its pads change the output's size on some inputs: use an odd filter instead of 5"
    assert short.against_open_sizes((None, None)) == short.against_open_sizes((8, None)) == reason
    assert short.against_open_sizes((None, 8)) == BLUR.against_open_sizes((None, None)) == ""


@pytest.mark.parametrize(("f", "strength"), [(1, 1.0), (2, 1.0), (3, 0.25), (6, 1.0)])
def test_the_twin_subsamples(f: int, strength: float) -> None:
    twin = fit(DenseThenBlur(filter=f, strength=strength))[0].twin()
    taps = twin.kernel(2)
    assert taps.shape == (2, 1, f, f)
    assert taps[:, 0, (f - 1) // 2, (f - 1) // 2].tolist() == [1, 1]
    assert taps.sum() == 2


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_the_strength_mixes_the_filter_with_the_identity(strength: float) -> None:
    model = build(
        "(float[1, 2, 9, 9] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    result = aarewrite.rewrite(model, recipe=Recipe(strength=strength))
    x = weight(1, 2, 9, 9)
    full = np.pad(dense("MaxPool", x, (2, 2), [(0, 0)] * 2), [(0, 0), (0, 0), (1, 1), (1, 1)], mode="reflect")
    taps = np.array([strength / 4, 1 - strength / 2, strength / 4])
    rows = sum(tap * full[:, :, k : k + 8] for k, tap in enumerate(taps))
    expected = sum(tap * rows[:, :, :, k : k + 8] for k, tap in enumerate(taps))[:, :, ::2, ::2]
    assert relative_difference(run(result.model, x=x)[0], expected) < EXACT
