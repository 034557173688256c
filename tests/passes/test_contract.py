"""What every pass keeps: frozen options, taken over by name; what a match's twin is; who may do what by default."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
from reference import build
from stages import site_of, three_sites

from aarewrite.errors import CannotHandle
from aarewrite.passes import DEFAULT, REGISTRY, SITE_PASSES, STAGE_PASSES
from aarewrite.passes.binomial import Binomial
from aarewrite.passes.blur_then_strided import BlurThenStrided
from aarewrite.passes.contract import GraphPass, LowPass, Match, SiteOptions, Skip
from aarewrite.passes.dense_then_blur import DenseThenBlur
from aarewrite.windows import Window

WINDOW = Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
BLUR = Binomial((3, 3), (2, 2), (1, 1), (1, 1), "reflect", 0.5)


@pytest.mark.parametrize("kind", [kind for kind in REGISTRY if not issubclass(kind, GraphPass)])
def test_passes_are_frozen_values(kind: type) -> None:
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen


def test_every_pass_has_a_name_of_its_own_in_the_order_of_the_registry() -> None:
    named = [kind.name for kind in REGISTRY if not issubclass(kind, GraphPass)]
    assert len(set(named)) == len(named)
    assert sorted(named) == sorted([*SITE_PASSES, *STAGE_PASSES])
    assert list(SITE_PASSES) == [name for name in named if name in SITE_PASSES]
    assert list(STAGE_PASSES) == [name for name in named if name in STAGE_PASSES]
    assert len({kind.key for kind in STAGE_PASSES.values()}) == len(STAGE_PASSES)


@pytest.mark.parametrize("node", ["pool1", "conv1", "pool2"])
def test_the_default_wants_every_site(node: str) -> None:
    site = site_of(three_sites(), node)
    options = SiteOptions(conv="keep", max_pool="keep", average_pool="keep")
    assert isinstance(DEFAULT.wanted(site, options), DEFAULT)


# ---- options -----------------------------------------------------------------------------------------------


def test_a_pass_takes_the_options_that_it_has() -> None:
    options = SiteOptions(
        filter=5, pad="zero", pad_rule="symmetric", every_axis=True, strength=0.5, after="conv", max_window=2
    )
    assert BlurThenStrided.of(options) == BlurThenStrided(5, "zero", "symmetric", True, 0.5)
    taken = DenseThenBlur.of(options)
    assert taken == DenseThenBlur(5, "zero", "symmetric", True, 0.5, max_window=2, keep_stride=1, after="conv")


def test_a_pass_takes_another_ones_options() -> None:
    other = DenseThenBlur(filter=4, pad="edge", max_window=2, keep_stride=2)
    assert BlurThenStrided.of(other) == BlurThenStrided(filter=4, pad="edge")


def test_what_is_given_goes_before_the_options() -> None:
    taken = DenseThenBlur.of(SiteOptions(filter=5, max_window=2), max_window=0, keep_stride=2)
    assert (taken.filter, taken.max_window, taken.keep_stride) == (5, 0, 2)
    with pytest.raises(TypeError):
        BlurThenStrided.of(SiteOptions(), keep_stride=2)


# ---- sites -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SITE_PASSES.values(), ids=lambda kind: kind.name)
def test_nothing_is_done_where_there_is_an_obstacle_or_the_pads_are_unknown(kind: type) -> None:
    site = site_of(three_sites(), "pool2")
    assert kind().match(dataclasses.replace(site, obstacle="a wall", dense=None)) == Skip("a wall")
    assert kind().match(dataclasses.replace(site, obstacle="a wall")) == Skip("a wall")
    assert kind().match(dataclasses.replace(site, dense=None)) == Skip("its pads are not known")


def test_a_search_tries_the_blur_behind_anywhere_and_in_front_of_convs() -> None:
    offered = {name: sorted(kind.offered) for name, kind in SITE_PASSES.items()}
    assert offered == {
        "instead": [], "before": ["conv"], "input": [], "after": ["average_pool", "conv", "max_pool"],
    }  # fmt: skip


# ---- matches -----------------------------------------------------------------------------------------------


def test_the_twin_of_a_match_passes_one_tap_through_and_keeps_all_else() -> None:
    match = Match(WINDOW, BLUR, proven=False, notes=("a note",), bias_behind=True, smallest_map=2)
    twin = match.twin()
    assert twin == dataclasses.replace(match, blur=dataclasses.replace(BLUR, identity=True), notes=())
    assert twin.blur.axis_taps()[0].tolist() == [0, 1, 0]
    assert twin.twin() == twin


def test_a_filter_stands_for_its_convolution_or_its_last_node() -> None:
    pad, conv, quantised, add = (SimpleNamespace(op=op) for op in ("Pad", "Conv", "QLinearConv", "Sum"))
    assert BLUR.filtering_node([pad, conv, add]) is conv
    assert BLUR.filtering_node([pad, quantised]) is quantised
    assert BLUR.filtering_node([pad, add]) is add


def test_a_filter_that_says_nothing_of_it_moves_nothing_and_fits_every_map() -> None:
    methods = dict.fromkeys(LowPass.__abstractmethods__, lambda *_: None)
    plain = type("Plain", (LowPass,), methods | {"strides": (2, 3)})()
    assert plain.moves == (0.0, 0.0)
    assert plain.against_open_sizes((None, 4)) == ""
    assert plain.smallest_map((None, 4)) == 1


# ---- stages ------------------------------------------------------------------------------------------------


def stage(begins: tuple[str, ...] | None, problem: str = "", **more: object) -> type:
    """A kind of stage that begins at given operators, or cannot."""
    kind = next(iter(STAGE_PASSES.values()))

    def check(*_: object) -> None:
        if problem:
            raise CannotHandle(problem)

    made = {
        "wanted": classmethod(lambda cls, *_: None if begins is None else cls(begins)),
        "check": check,
        "apply": lambda *_: None,
    }
    own = {"refusal": "not done", "nowhere": "nowhere to begin", "again": "done before", "key": "test.stage"}
    return dataclasses.dataclass(frozen=True)(type("Stage", kind.__mro__[1:2], made | own | more))


def reading(record: str = "{}") -> SimpleNamespace:
    entry = SimpleNamespace(key="test.stage", value=record)
    model = SimpleNamespace(proto=SimpleNamespace(metadata_props=[entry]))
    return SimpleNamespace(model=model, places={("", "a"): 1, ("", "b"): 2, ("If", "c"): 3})


@pytest.mark.parametrize(
    ("begins", "left", "record", "problem", "reason"),
    [
        ((), (), "{}", "", "nowhere to begin"),
        (("a", "c"), (), "{}", "", "c is no site"),
        (("c", "b"), ("b",), "{}", "", "b is left out on request"),
        (("a", "b"), (), "{}", "a: too large", "a: too large"),
        (("a", "b"), ("b",), '{"a": 1}', "a: too large", "done before"),
    ],
)
def test_reasons_against_a_stage_in_their_order(
    begins: tuple[str, ...], left: tuple[str, ...], record: str, problem: str, reason: str
) -> None:
    assert stage(begins, problem).propose(reading(record), None, left) == Skip(f"not done: {reason}")


def test_a_stage_is_proposed_where_it_is_asked_for_and_nothing_is_against_it() -> None:
    assert stage(None).propose(reading(), None, ()) is None
    assert stage(("a", "b")).propose(reading(), None, ("z",)).sites == ("a", "b")
    assert stage(("a",), "a: too large")(("a",)).fit(reading()) == Skip("a: too large")


def test_a_site_that_needs_channels_that_are_not_known_is_skipped() -> None:
    model = build(
        "(float[1, C, 9, 9] x, float[4, C, 1, 1] w) => (float[] y) { [conv] y = Conv<strides = [2, 2]>(x, w) }"
    )
    site = site_of(model, "conv")
    for name in ("before", "input"):
        assert SITE_PASSES[name]().match(site) == Skip("its number of input channels is not known statically")


def test_a_stage_that_begins_at_an_input_needs_no_site() -> None:
    assert stage(("x",)).propose(reading(), None, ()) == Skip("not done: x is no site")
    assert stage(("x",), at_sites=False).propose(reading(), None, ()).sites == ("x",)
