"""The clock is asked around every run; medians of what it tells."""

import itertools

import pytest
from test_proof import parts

from aarewrite.streaming.proof import prove
from aarewrite.streaming.step_time import FEWEST, MOST, times


@pytest.mark.parametrize(("tick", "rounds"), [(0.001, MOST), (1.0, FEWEST)])
def test_medians_of_as_many_rounds_as_there_is_time_for(tick: float, rounds: int) -> None:
    original, streaming, steps = parts()
    sample = prove(original, streaming, steps, {"x": (0, 2, 32)}).sample
    asked = itertools.count()
    found = times(original, streaming, steps, sample, lambda: next(asked) * tick)
    assert found == pytest.approx((tick, tick))
    assert next(asked) == 2 + 1 + 4 * rounds
