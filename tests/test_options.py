"""Options: types from annotations, conditions from fields, one line that names what is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from aarewrite.errors import UsageError
from aarewrite.options import check_fields, option, read, whole


@dataclass(frozen=True)
class Lens:
    """Every kind of field there is."""

    name: str
    taps: int = option(3, choices=(1, 3, 5))
    pads: int = whole(0)
    every: bool = False
    strength: float = option(1.0, holds=lambda value: 0 < value <= 1, says="above 0 and up to 1")
    mean: tuple[float, ...] = (0.0,)
    size: int | None = None
    mode: str | None = option(None, choices=("a", "b"))


def test_a_table_becomes_the_dataclass() -> None:
    table = {"name": "x", "taps": 5, "strength": 1, "mean": [1, 2.5], "size": 7, "mode": "b"}
    assert read(Lens, table, "lens") == Lens("x", 5, 0, False, 1, (1, 2.5), 7, "b")
    assert read(Lens, {"more": 1}, "lens", also=("more",), name="given") == Lens("given")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "lens: no 'name'; add it"),
        ({"name": 3}, "lens: name = 3 is not text"),
        ({"name": "x", "tap": 3}, "lens: unknown key 'tap'; known are every, mean, mode, name, pads,"),
        ({"name": "x", "taps": 4}, "lens: taps = 4 is not one of 1, 3, 5"),
        ({"name": "x", "taps": True}, "lens: taps = True is not one of 1, 3, 5"),
        ({"name": "x", "taps": 3.0}, "lens: taps = 3.0 is not one of 1, 3, 5"),
        ({"name": "x", "taps": None}, "lens: taps = None is not one of 1, 3, 5"),
        ({"name": "x", "pads": -1}, "lens: pads = -1 is not a whole number of 0 or more"),
        ({"name": "x", "pads": "2"}, "lens: pads = '2' is not a whole number of 0 or more"),
        ({"name": "x", "pads": True}, "lens: pads = True is not a whole number of 0 or more"),
        ({"name": "x", "every": 1}, "lens: every = 1 is not true or false"),
        ({"name": "x", "strength": 0}, "lens: strength = 0 is not above 0 and up to 1"),
        ({"name": "x", "strength": "1"}, "lens: strength = '1' is not above 0 and up to 1"),
        ({"name": "x", "mean": ["1"]}, "lens: mean = ['1'] is not a list, each a number"),
        ({"name": "x", "size": 1.5}, "lens: size = 1.5 is not a whole number"),
        ({"name": "x", "mode": "c"}, "lens: mode = 'c' is not one of a, b"),
        (3, "lens is not a table"),
    ],
)
def test_what_is_wrong_is_named(table: object, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(Lens, table, "lens")
    assert str(caught.value).startswith(message)


def test_a_dataclass_made_by_hand_is_checked_alike() -> None:
    check_fields(Lens("x", size=3), "lens")
    with pytest.raises(UsageError, match="lens: taps = 2 is not one of 1, 3, 5"):
        check_fields(Lens("x", taps=2), "lens")
