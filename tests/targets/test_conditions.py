"""Conditions that several runtimes share."""

from __future__ import annotations

import pytest
from reference import build, weight

from aarewrite.targets.conditions import first_not_constant, pool_lacks
from aarewrite.targets.seen import Seen, seen_nodes


def node(text: str, name: str = "y", **weights: object) -> Seen:
    return next(one for one in seen_nodes(build(text, **weights)) if one.name == name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "shape", "reason"),
    [
        ("AveragePool<kernel_shape = [2, 2]>(x)", "1, 2, 8, 8", None),
        ("AveragePool<kernel_shape = [2]>(x)", "1, 2, 8", "It pools in 2 or 3 dimensions, not 1"),
        ("MaxPool<kernel_shape = [2, 2], dilations = [1, 1]>(x)", "1, 2, 8, 8", None),
        ("MaxPool<kernel_shape = [2, 2], dilations = [2, 2]>(x)", "1, 2, 8, 8", "It takes no dilated pool"),
    ],
)
def test_pools(call: str, shape: str, reason: str | None) -> None:
    lack = pool_lacks(node(f"(float[{shape}] x) => (float[] y) {{ y = {call} }}"), "It", (2, 3))
    assert (lack and lack.reason) == reason


def test_a_pools_indices() -> None:
    pool = node("(float[1, 2, 8, 8] x) => (float[] y, int64[] i) { y, i = MaxPool<kernel_shape = [2, 2]>(x) }")
    lack = pool_lacks(pool, "It", (2,))
    assert lack is not None
    assert lack.reason == "It gives no indices of a MaxPool"


def test_inputs_that_are_no_constants() -> None:
    given = node("(float[1, 2, 8, 8] x, float[2] b) => (float[] y) { y = Conv(x, w, b) }", w=weight(2, 2, 1, 1))
    assert first_not_constant(given, range(1, 3), ("weight", "bias")) == "bias"
    assert first_not_constant(given, range(1, 2), ("weight",)) == ""
    assert first_not_constant(given, range(3, 4), ("other",)) == ""
