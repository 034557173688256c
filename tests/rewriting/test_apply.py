"""Applying a plan: in every scope, recorded in the metadata, onto a copy, and only onto the model it is for."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from reference import POOL, blur, build, dense, function, functions, relative_difference, run, weight
from stages import three_sites

import aarewrite

EXACT = 1e-6


@pytest.fixture
def model() -> onnx.ModelProto:
    return three_sites()


def test_apply_leaves_its_argument_and_checks(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    result = aarewrite.plan(model).apply(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(result, full_check=True)


def test_applying_a_plan_without_rewrites_changes_nothing(model: onnx.ModelProto) -> None:
    plan = aarewrite.plan(model, skip=["*"])
    assert plan.apply(model).SerializeToString() == model.SerializeToString()


def test_a_second_run_adds_to_the_recorded_blurs(model: onnx.ModelProto) -> None:
    first = aarewrite.rewrite(model, only=["pool1"])
    second = aarewrite.rewrite(first.model, first_conv=True)
    assert second.changed
    metadata = {entry.key: entry.value for entry in second.model.metadata_props}
    origins = json.loads(metadata["aarewrite.blurs"]).values()
    assert {origin["node"] for origin in origins} == {"pool1", "conv1", "pool2"}


def test_origin_of_every_blur_is_recorded() -> None:
    model = build(
        "(float[1, 2, 9, 9] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    result = aarewrite.rewrite(model)
    values = {entry.key: entry.value for entry in result.model.metadata_props}
    assert values["aarewrite.version"] == aarewrite.__version__
    assert json.loads(values["aarewrite.recipe"])["name"] == "aligned"
    assert json.loads(values["aarewrite.blurs"]) == {
        "pool/blur/Conv": {
            "scope": "", "node": "pool", "op": "MaxPool", "strides": [2, 2], "placement": "after", "taps": [3, 3],
            "strength": 1.0, "pad": "reflect",
        }
    }  # fmt: skip


BRANCHES = """(float[1, 2, 9, 9] x, bool c) => (float[1, 2, 4, 4] y) {
    [If] y = If (c) <
        then_branch = yes () => (float[1, 2, 4, 4] a) {
            [pool] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) },
        else_branch = no () => (float[1, 2, 4, 4] b) {
            [pool] b = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }
    >
}"""


def test_sites_in_if_branches() -> None:
    model = build(BRANCHES)
    result = aarewrite.rewrite(model)
    assert {p.site.scope for p in result.plan.rewrites} == {"If/then_branch", "If/else_branch"}
    x = weight(1, 2, 9, 9)
    for flag, op in ((True, "MaxPool"), (False, "AveragePool")):
        expected = blur(dense(op, x, (2, 2), [(0, 0)] * 2), 3, (2, 2))
        assert relative_difference(run(result.model, x=x, c=np.array(flag))[0], expected) < EXACT
    assert not aarewrite.rewrite(result.model).changed
    one = aarewrite.plan(model, only=["If/then_branch/pool"])
    assert [p.site.op for p in one.rewrites] == ["MaxPool"]


def test_sites_in_loop_bodies() -> None:
    model = build("""(float[1, 2, 9, 9] x, int64 n) => (float[1, 2, 9, 9] last, float[M, 1, 2, 4, 4] y) {
        [Loop] last, y = Loop (n, , x) <body = step (int64 i, bool go, float[1, 2, 9, 9] state)
            => (bool keep, float[1, 2, 9, 9] next, float[1, 2, 4, 4] scan) {
            keep = Identity(go)
            next = Neg(state)
            [pool] scan = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(state)
        }>
    }""")
    result = aarewrite.rewrite(model)
    assert [p.site.scope for p in result.plan.rewrites] == ["Loop/body"]
    x = weight(1, 2, 9, 9)
    scanned = run(result.model, x=x, n=np.array(2))[1]
    for value, sign in zip(scanned, (1, -1), strict=True):
        expected = blur(dense("MaxPool", sign * x, (2, 2), [(0, 0)] * 2), 3, (2, 2))
        assert relative_difference(value, expected) < EXACT


def test_sites_in_functions() -> None:
    model = functions("a = f.Down(x) y = f.Down(a)", function("Down", POOL))
    result = aarewrite.rewrite(model)
    assert [p.site.scope for p in result.plan.rewrites] == ["function Down"]
    x = weight(1, 2, 9, 9)
    once = blur(dense("MaxPool", x, (2, 2), [(0, 0)] * 2), 3, (2, 2))
    expected = blur(dense("MaxPool", once, (2, 2), [(0, 0)] * 2), 3, (2, 2))
    assert relative_difference(run(result.model, x=x)[0], expected) < EXACT
    assert not aarewrite.rewrite(result.model).changed


def test_function_with_attribute_parameters() -> None:
    body = "[pool] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) y = LeakyRelu<alpha: float = @alpha>(a)"
    model = functions("y = f.Down<alpha = 0.5>(x)", function("Down", body, parameters="<alpha>"))
    result = aarewrite.rewrite(model)
    x = weight(1, 2, 9, 9)
    pooled = blur(dense("MaxPool", x, (2, 2), [(0, 0)] * 2), 3, (2, 2))
    assert relative_difference(run(result.model, x=x)[0], np.where(pooled < 0, 0.5 * pooled, pooled)) < EXACT


def test_functions_of_one_name_in_two_domains() -> None:
    other = "[pool] y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x)"
    model = functions(
        "y = f.Down(x) z = g.Down(x)",
        function("Down", POOL),
        function("Down", other, "g"),
        outputs="float[] y, float[] z",
    )
    result = aarewrite.rewrite(model)
    x = weight(1, 2, 9, 9)
    for value, op in zip(run(result.model, x=x), ("MaxPool", "AveragePool"), strict=True):
        assert relative_difference(value, blur(dense(op, x, (2, 2), [(0, 0)] * 2), 3, (2, 2))) < EXACT


def test_branches_inside_functions() -> None:
    body = """
        t = Constant<value = bool {1}>()
        y = If (t) <
            then_branch = yes () => (float[1, 2, 4, 4] a) {
            [pool] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) },
            else_branch = no () => (float[1, 2, 4, 4] b) {
            [pool] b = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }
        >"""
    model = functions("y = f.Down(x)", function("Down", body), outputs="float[1, 2, 4, 4] y")
    result = aarewrite.rewrite(model)
    assert all(p.match or p.reason for p in result.plan.sites)
    x = weight(1, 2, 9, 9)
    if result.changed:
        expected = blur(dense("MaxPool", x, (2, 2), [(0, 0)] * 2), 3, (2, 2))
        assert relative_difference(run(result.model, x=x)[0], expected) < EXACT
