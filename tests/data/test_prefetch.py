"""Loading ahead: in order, bounded, and the errors handed on."""

from __future__ import annotations

import pytest

from aarewrite.data.prefetch import prefetch


def test_prefetch_keeps_order_and_a_bound():
    started = []

    def load(i: int) -> int:
        started.append(i)
        return i * i

    stream = prefetch(load, range(50), workers=2, ahead=4)
    taken = [next(stream) for _ in range(3)]
    assert taken == [(0, 0), (1, 1), (2, 4)]
    assert max(started) <= 3 + 4
    assert [i for i, _ in stream] == list(range(3, 50))


def test_prefetch_hands_on_the_error_of_the_sample():
    def load(i: int) -> int:
        if i == 2:
            raise ValueError("two")
        return i

    stream = prefetch(load, range(9))
    assert [next(stream)[0] for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(stream)


def test_nothing_is_loaded_ahead_without_workers():
    started = []
    stream = prefetch(lambda i: started.append(i) or i, range(9), workers=0)
    assert [next(stream) for _ in range(2)] == [(0, 0), (1, 1)]
    assert started == [0, 1]
