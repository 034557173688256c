"""The filter over a map: its size, what is proven, and why it does not fit."""

from __future__ import annotations

import pytest
from reference import build
from stages import site_of

from aarewrite.passes.contract import Match, Skip
from aarewrite.passes.dense_then_blur import DenseThenBlur
from aarewrite.passes.geometry import fitted, with_strides
from aarewrite.sites.site import Site
from aarewrite.windows import Window


def pool(
    sizes: str = "17, 12", attributes: str = "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]"
) -> Site:
    return site_of(build(f"(float[1, 2, {sizes}] x) => (float[] y) {{ [pool] y = MaxPool<{attributes}>(x) }}"), "pool")


def behind(site: Site, do: DenseThenBlur, **more: object) -> Match | Skip:
    """The filter behind the site's operator at stride 1."""
    assert site.dense is not None
    dense = with_strides(site.dense, (1,) * len(site.strides))
    return fitted(site, do, dense.output(site.input_size), dense, runs=True, **more)


def test_a_blur_behind_a_dense_operator_gives_the_strided_operators_size() -> None:
    found = behind(pool(), DenseThenBlur(filter=4))
    assert isinstance(found, Match)
    assert (found.window.strides, found.blur.strides, found.proven, found.notes) == ((1, 1), (2, 2), True, ())
    assert found.blur.output(found.window.output((17, 12))) == (9, 6)


@pytest.mark.parametrize("f", range(1, 8))
@pytest.mark.parametrize("stride", range(2, 5))
@pytest.mark.parametrize("sizes", ["13, 14", "H, W"])
def test_centred_pads_fit_at_every_stride_and_filter(f: int, stride: int, sizes: str) -> None:
    found = behind(pool(sizes, f"kernel_shape = [3, 2], strides = [{stride}, {stride}]"), DenseThenBlur(filter=f))
    assert isinstance(found, Match)
    assert found.proven


@pytest.mark.parametrize(
    ("mapped", "strides", "single"),
    [((1, 1), (2, 2), True), ((1, 6), (2, 1), True), ((1, 6), (2, 2), False), ((1, 1), (1, 1), False)],
)
def test_a_map_of_a_single_sample_along_every_axis_that_is_subsampled_is_not_blurred(
    mapped: tuple[int, ...], strides: tuple[int, ...], single: bool
) -> None:
    site = pool()
    found = fitted(site, DenseThenBlur(), mapped, site.window, strides, runs=False)
    assert (found == Skip("the map to blur is a single sample wide")) is single


def test_another_size_is_refused_with_both_sizes() -> None:
    site = pool("17, 12")
    reason = "a 17x12 map would become 9x7 instead of 9x6, which breaks what follows"
    even = DenseThenBlur(filter=4, pad_rule="symmetric")
    assert behind(site, even) == Skip(reason)


def test_pads_that_change_the_size_of_some_open_maps_are_refused() -> None:
    """At stride 1 the symmetric pads of an even filter begin as the centred ones, but are one sample short."""
    unit = "kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [1, 1]"
    short = DenseThenBlur(filter=4, pad_rule="symmetric")
    assert behind(pool("8, 8", unit), short) == Skip(
        "a 8x8 map would become 7x7 instead of 8x8, which breaks what follows"
    )
    assert behind(pool("H, W", unit), short) == Skip(
        "its pads change the output's size on some inputs: use an odd filter instead of 4"
    )


def test_pads_that_move_the_output_are_unproven_where_they_fit() -> None:
    moved = "its pads move the output by a part of the stride: not proven"
    found = behind(pool("17, 17"), DenseThenBlur(filter=4, pad_rule="symmetric"))
    assert isinstance(found, Match)
    assert (found.proven, found.notes) == (False, (moved,))
    found = behind(
        pool("H, W", "kernel_shape = [2, 2], strides = [2, 2]"), DenseThenBlur(filter=2, pad_rule="symmetric")
    )
    assert isinstance(found, Match)  # even sizes fit
    note = "the map's size is symbolic: on odd sizes the output can differ by one from the original"
    assert (found.proven, found.notes) == (False, (moved, note))


def test_a_changed_operator_is_unproven_and_on_open_maps_so_noted() -> None:
    known, open_ = (
        behind(pool(size), DenseThenBlur(), proven=False, notes=("changed",)) for size in ("17, 12", "H, W")
    )
    assert isinstance(known, Match)
    assert isinstance(open_, Match)
    assert (known.proven, known.notes) == (False, ("changed",))
    note = "the map's size is symbolic: on odd sizes the output can differ by one from the original"
    assert (open_.proven, open_.notes) == (False, ("changed", note))


def test_a_filter_may_sample_by_a_part_of_the_stride() -> None:
    site = pool("31, 31", "kernel_shape = [3, 3], strides = [4, 4]")
    assert site.dense is not None
    half = with_strides(site.dense, (2, 2))
    found = fitted(site, DenseThenBlur(), half.output((31, 31)), half, (2, 2), runs=True)
    assert isinstance(found, Match)
    assert (found.window.strides, found.blur.strides) == ((2, 2), (2, 2))
    assert found.blur.output(half.output((31, 31))) == site.output_size == (8, 8)


def test_a_window_at_other_strides_is_the_same_else() -> None:
    window = Window((3,), (2,), (1,), (1,), (0,), "NOTSET", True)
    assert with_strides(window, (1,)) == Window((3,), (1,), (1,), (1,), (0,), "NOTSET", True)
