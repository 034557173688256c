"""Budgets as they are written, and the plan that keeps within one."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from stages import two_stages

import aarewrite
from aarewrite.calibration.budget import relative_budget, rewrite_within
from aarewrite.recipe import Recipe
from aarewrite.rewriting import pipeline

RESNET = onnx.load(Path(__file__).parents[2] / "sample_models" / "resnet.onnx")


def test_a_budget_is_a_ratio_or_a_number_of_multiply_accumulates() -> None:
    macs = aarewrite.plan(RESNET).macs
    assert macs
    assert relative_budget(None, RESNET) is None
    assert relative_budget("1.15x", RESNET) == 1.15
    assert relative_budget(2, RESNET) == 2.0
    assert relative_budget("9MMAC", RESNET) == 9e6 / macs
    assert relative_budget("9000 kMACs", RESNET) == 9e6 / macs
    with pytest.raises(aarewrite.UsageError, match=r"--budget 'cheap' is not a cost; write 1\.15x"):
        relative_budget("cheap", RESNET)


def test_a_number_of_multiply_accumulates_holds_at_the_sizes_given() -> None:
    model, asked = two_stages(size="N"), "1MMAC"
    small, large = (relative_budget(asked, model, {"x": (1, 3, size, size)}) for size in (17, 65))
    assert small is not None
    assert large is not None
    assert small > 10 * large


def test_a_plan_over_the_budget_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "prove", lambda *_: pytest.fail("a plan over the budget was proven"))
    blurred = Recipe(first_conv=True)
    for given in (None, aarewrite.plan(RESNET, blurred), aarewrite.plan(RESNET, blurred).to_dict()):
        with pytest.raises(aarewrite.CheckFailed, match=r"costs 1\.58x, over the budget of 1\.10x; search within it"):
            rewrite_within(RESNET, blurred, budget=1.1, given=given)
