"""What the option `filter` may be."""

from __future__ import annotations

import pytest
from reference import build

import aarewrite
from aarewrite.passes.binomial import Binomial
from aarewrite.passes.low_passes import FILTERS, LOW_PASSES, check_filter


@pytest.mark.parametrize("name", range(1, 8))
def test_one_to_seven_are_binomial(name: int) -> None:
    assert FILTERS[name] is Binomial
    check_filter("filter", name)


def test_every_name_means_one_filter() -> None:
    names = [name for kind in LOW_PASSES for name in kind.names]
    assert len(set(names)) == len(names) == len(FILTERS)
    for kind in LOW_PASSES:
        assert {FILTERS[name] for name in kind.names} == {kind}
        assert set(kind.takes_strength) <= set(kind.names)


@pytest.mark.parametrize("value", [0, 8, -1, "3", 3.0, True, None, "binomial", [3]])
def test_another_name_is_refused_with_the_list(value: object) -> None:
    with pytest.raises(aarewrite.UsageError) as caught:
        check_filter("recipe mine: filter", value)
    known = ", ".join(map(str, FILTERS))
    assert known.startswith("1, 2, 3, 4, 5, 6, 7")
    assert str(caught.value) == f"recipe mine: filter = {value!r} is not one of {known}"


def test_the_option_reaches_the_graph() -> None:
    model = build(
        "(float[1, 2, 16, 16] x) => (float[] y) "
        "{ [pool] y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x) }"
    )
    for name in FILTERS:
        (planned,) = aarewrite.plan(model, filter=name).rewrites
        assert planned.match is not None
        assert type(planned.match.blur) is FILTERS[name]
        if type(planned.match.blur) is Binomial:
            assert planned.match.blur.sizes == (name, name)
