"""Multiply-accumulates against numbers worked out by hand."""

from __future__ import annotations

from reference import build, weight

import aarewrite


def test_macs_of_a_model() -> None:
    model = build("(float[1, 2, 8, 8] x) => (float[] y) { y = Conv(x, w) }", w=weight(2, 2, 1, 1))
    once = aarewrite.plan(model).macs
    assert once == 8 * 8 * 2 * 2
