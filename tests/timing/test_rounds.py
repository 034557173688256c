"""Rounds by a clock of the test's own: order, warm-up, how many; and the spread of known values."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aarewrite.timing.rounds import FEWEST, MOST, Spread, interleaved, median_ratio, ratios


class Clock:
    """Stands still but for the runs, which take the seconds they are given."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order = ""

    def __call__(self) -> float:
        return self.now

    def run(self, name: str, seconds: float) -> Callable[[], None]:
        def spend() -> None:
            self.now += seconds
            self.order += name

        return spend


def test_rounds_alternate_behind_two_that_warm_up() -> None:
    clock = Clock()
    seconds = interleaved([clock.run("a", 1), clock.run("b", 3)], 3, clock)
    assert seconds == [[1, 1, 1], [3, 3, 3]]
    assert clock.order == "abab" + "abbaab"


@pytest.mark.parametrize(("seconds", "rounds"), [(100, FEWEST), (0.25, 20), (0.001, MOST), (0, MOST)])
def test_as_many_rounds_as_take_ten_seconds(seconds: float, rounds: int) -> None:
    clock = Clock()
    first, second = interleaved([clock.run("a", seconds), clock.run("b", seconds)], None, clock)
    assert len(first) == len(second) == rounds


def test_ratios_are_of_the_same_round() -> None:
    assert ratios([2, 9], [1, 3]) == [2, 3]


def test_the_median_ratio() -> None:
    clock = Clock()
    assert median_ratio(clock.run("a", 2), clock.run("b", 3), 5, clock) == 1.5


def test_a_spread_of_known_values() -> None:
    spread = Spread.of([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (spread.median, spread.quartiles) == (3.0, (2.0, 4.0))
    assert spread.interval == (1.0, 5.0)  # 5/2 - 0.98 * 2.24 = 0.3: nothing is left out of so few
    hundred = Spread.of([float(k) for k in range(1, 101)])
    assert hundred.median == 50.5
    assert hundred.interval == (41.0, 60.0)  # 40 values are left out at each end
