"""What is found on single samples: through JSON and back, and in order."""

from __future__ import annotations

import json
import math

from aarewrite.verification.records import Found, in_order


def test_json_keeps_every_bit():
    notes = [[((0, "drift", ("time", 0.25)), 1 / 3), ("same", math.inf)], []]
    found = Found(7, "CMYK", notes, 1)
    assert Found.of(json.loads(json.dumps(found.plain()))) == found
    broken = Found(7, "cannot be decoded")
    assert Found.of(json.loads(json.dumps(broken.plain()))) == broken


def test_order_is_restored_without_holding_more_than_is_early():
    taken = []

    def stream():
        for i in (2, 0, 1, 1, 4, 3):
            taken.append(i)
            yield Found(i, str(len(taken)), [])

    ordered = in_order(stream(), [(0, i) for i in range(6)])
    assert next(ordered).index == 0
    assert taken == [2, 0]
    assert [found.index for found in ordered] == [1, 2, 3, 4]  # 5 never came
