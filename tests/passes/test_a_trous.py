"""A stage a trous: same values at the original's positions, same output shapes, reasons where it cannot be done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stages import A_TROUS, as_format_1, begins, edited, two_stages, values

import aarewrite
from aarewrite.errors import UsageError


def test_values_at_the_originals_positions_are_the_same_and_proven() -> None:
    model = two_stages()
    result = aarewrite.rewrite(model, A_TROUS)
    assert begins(result.plan, "a trous") == ("second", "shortcut")
    reasons = [entry.reason for entry in result.plan.sites[1:]]
    assert reasons == ["a trous: Conv stride 1, what follows dilated"] * 2
    assert result.proof is not None
    assert result.proof.passed
    assert result.proof.worst.scale > 0.1
    x = np.random.default_rng(1).standard_normal((1, 3, 17, 17)).astype(np.float32)
    for name in ("second", "inner", "shortcut"):
        sparse, dense = values(model, name, x), values(result.model, name, x)
        assert sparse.shape[2:] == (5, 5)
        assert dense.shape[2:] == (9, 9)
        np.testing.assert_allclose(dense[:, :, ::2, ::2], sparse, atol=1e-5)
    assert values(result.model, "pooled", x).shape == values(model, "pooled", x).shape


def test_costs_are_those_of_the_finer_maps() -> None:
    plan = aarewrite.plan(two_stages(), A_TROUS)
    sparse = 81 * 4 * 27 + 25 * (6 * 36 + 6 * 4 + 6 * 9)
    dense = 81 * 4 * 27 + 81 * (6 * 36 + 6 * 4 + 6 * 9)
    assert (plan.macs, plan.macs_after) == (sparse, dense)


@pytest.mark.parametrize("op", ["AveragePool", "MaxPool"])
def test_a_pooling_over_the_whole_map_grows_with_it(op: str) -> None:
    model = two_stages(f"pooled = {op} <kernel_shape = [5, 5]> (sum)")
    result = aarewrite.rewrite(model, A_TROUS)
    assert result.proof is not None
    assert result.proof.passed
    assert values(result.model, "pooled", np.zeros((1, 3, 17, 17), np.float32)).shape == (1, 6, 1, 1)


@pytest.mark.parametrize("op", ["ThresholdedRelu <alpha = 0.5>", "Reciprocal", "Log", "Neg"])
def test_what_a_blur_is_put_behind_may_be_behind_a_stage_a_trous(op: str) -> None:
    model = two_stages(f"b = HardSigmoid (sum) c = {op} (b) pooled = GlobalAveragePool (c)")
    result = aarewrite.rewrite(model, A_TROUS)
    assert begins(result.plan, "a trous") == ("second", "shortcut")
    assert result.proof is not None


def test_a_mean_over_the_spatial_axes_is_a_global_pooling() -> None:
    result = aarewrite.rewrite(two_stages("pooled = ReduceMean <axes = [-2, -1]> (sum)"), A_TROUS)
    assert result.proof is not None
    assert result.proof.passed
    assert begins(result.plan, "a trous") == ("second", "shortcut")


def test_a_stage_left_out_on_request_keeps_its_stride() -> None:
    plan = aarewrite.plan(two_stages(), A_TROUS, skip=["second"])
    assert begins(plan, "a trous") == ()
    assert plan.warnings == ("the last stage keeps its stride: second is left out on request",)


def test_a_second_run_changes_nothing() -> None:
    once = aarewrite.rewrite(two_stages(), A_TROUS.with_options(first_conv=True))
    twice = aarewrite.rewrite(once.model, A_TROUS.with_options(first_conv=True))
    assert once.changed
    assert not twice.changed


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ("pooled = AveragePool <kernel_shape = [2, 2]> (sum)", "does not cover the whole map"),
        ("pooled = Relu (sum)", "ends in a map"),
        ("pooled = ReduceMean <axes = [1]> (sum)", "does not cover the whole map"),
        ("pooled = Softmax <axis = 2> (sum)", "Softmax behind a stage"),
    ],
)
def test_what_cannot_run_a_trous_keeps_its_stride_and_says_why(tail: str, message: str) -> None:
    plan = aarewrite.plan(two_stages(tail), A_TROUS)
    assert begins(plan, "a trous") == ()
    assert len(plan.warnings) == 1
    assert message in plan.warnings[0]


def test_maps_that_would_not_fit_together_keep_their_stride() -> None:
    model = two_stages(size=16)
    second = next(node for node in model.graph.node if node.output[0] == "second")
    next(a for a in second.attribute if a.name == "pads").ints[:] = [0, 0, 1, 1]  # TensorFlow's SAME on even maps
    plan = aarewrite.plan(model, A_TROUS)
    assert begins(plan, "a trous") == ()
    assert plan.warnings == ("the last stage keeps its stride: sum: the finer maps that meet here differ in size",)


def test_a_plan_can_be_edited_into_it() -> None:
    table = edited("a trous", "second", "shortcut")
    by_recipe = aarewrite.rewrite(two_stages(), A_TROUS)
    for plan in (table, as_format_1(table, "action", "a trous", "keep"), json.loads(by_recipe.plan.to_json())):
        assert aarewrite.rewrite(two_stages(), plan=plan).model.graph == by_recipe.model.graph


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        (["second"], "plan: a trous: sum: it adds a map with the original's grid"),
        (["first"], "plan: a trous: second: it is strided again"),
        (["third"], "plan: a trous: third: no strided conv of this name"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(sites: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        aarewrite.rewrite(two_stages(), plan=edited("a trous", *sites))


def test_a_site_is_blurred_or_loses_its_stride_not_both() -> None:
    table = edited("a trous", "second", "shortcut")
    for site in table["sites"]:
        site["action"] = "blur"
    with pytest.raises(UsageError, match="plan: second: blurred, and part of the stage 'a trous'; choose one"):
        aarewrite.rewrite(two_stages(), plan=table)


def test_the_proof_sees_a_wrong_dilation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from aarewrite.model.graph import GraphEditor

    set_attributes = GraphEditor.set_attributes

    def wrong(self: GraphEditor, node: Any, **values: Any) -> None:
        if values.get("dilations") == [2, 2]:
            values |= {"dilations": [1, 1], "pads": [1, 1, 1, 1]}
        set_attributes(self, node, **values)

    monkeypatch.setattr(GraphEditor, "set_attributes", wrong)
    with pytest.raises(aarewrite.CheckFailed, match="identity proof failed"):
        aarewrite.rewrite(two_stages(), A_TROUS)
