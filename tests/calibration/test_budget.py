"""Budgets as they are written, and the plan that keeps within one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from stages import begins, two_stages

import aarewrite
from aarewrite.calibration.budget import plan_within, relative_budget, rewrite_within
from aarewrite.recipe import Recipe
from aarewrite.rewriting import pipeline

RESNET = onnx.load(Path(__file__).parents[2] / "sample_models" / "resnet.onnx")
TWICE = Recipe(conv="keep", second_phase=2)


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


def test_a_budget_begins_the_second_phase_later_or_leaves_it_out() -> None:
    costs = [aarewrite.plan(RESNET, TWICE.with_options(second_phase=stride)).cost for stride in (2, 4, 8)]
    assert costs == sorted(costs, reverse=True)
    between = costs[1] + 0.01
    free, later, without = (plan_within(RESNET, TWICE, {}, budget) for budget in (None, between, 1.05))
    assert [begins(plan, "second phase")[:1] for plan, _ in (free, later, without)] == [
        ("/pool/MaxPool",), ("/blocks/blocks.1/conv1/Conv",), (),
    ]  # fmt: skip
    late = "the second phase begins at /blocks/blocks.1/conv1/Conv: from earlier on it would cost more than"
    none = "no second phase: it would cost more than 1.05x"
    assert [note for _, note in (free, later, without)] == ["", f"{late} {between:.2f}x", none]
    slow, _ = plan_within(RESNET, TWICE, {}, 3.0, lambda model: 5.0)
    assert begins(slow, "second phase") == ()  # what is measured counts, too


def test_starts_are_compared_by_their_plans_and_only_what_is_taken_is_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    proofs, prove = [], pipeline.prove

    def counted(*arguments: Any, **options: Any) -> Any:
        proofs.append(arguments)
        return prove(*arguments, **options)

    monkeypatch.setattr(pipeline, "prove", counted)
    found = rewrite_within(RESNET, TWICE, budget=1.05)  # after three starts that cost too much
    assert found.warnings == ("no second phase: it would cost more than 1.05x",)
    assert [entry.site.node for entry in found.plan.rewrites] == ["/pool/MaxPool"]
    assert len(proofs) == 1
    measured: list[onnx.ModelProto] = []
    later = rewrite_within(RESNET, TWICE, {}, 3.0, lambda model: measured.append(model) or 5.0 / len(measured))
    assert begins(later.plan, "second phase")[:1] == ("/blocks/blocks.1/conv1/Conv",)
    assert len(measured) == 2
    assert len(proofs) == 2
    assert later.proof is not None
    assert later.proof.passed


def test_a_plan_over_the_budget_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "prove", lambda *_: pytest.fail("a plan over the budget was proven"))
    blurred = Recipe(first_conv=True)
    for given in (None, aarewrite.plan(RESNET, blurred), aarewrite.plan(RESNET, blurred).to_dict()):
        with pytest.raises(aarewrite.CheckFailed, match=r"costs 1\.58x, over the budget of 1\.10x; search within it"):
            rewrite_within(RESNET, blurred, budget=1.1, given=given)


def test_where_no_second_phase_can_be_the_rest_is_done() -> None:
    found = rewrite_within(two_stages("pooled = Relu (sum)"), Recipe(second_phase=4))
    assert begins(found.plan, "second phase") == ()
    assert found.warnings == ()
    assert found.plan.warnings == ("no second phase: pooled: the output is a map",)
    assert [entry.site.node for entry in found.plan.rewrites] == ["second", "shortcut"]
