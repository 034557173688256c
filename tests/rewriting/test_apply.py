"""Applying a plan: in every scope, recorded in the metadata, onto a copy, and only onto the model it is for."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import pytest
from reference import POOL, attributes, blur, build, dense, function, functions, node, relative_difference, run, weight
from stages import A_TROUS, three_sites, two_stages

import aarewrite
from aarewrite.model.model_file import load
from aarewrite.rewriting.apply import applied, open_reading

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


# ---- passes ------------------------------------------------------------------------------------------------


def test_metadata_say_version_recipe_and_origins() -> None:
    model = three_sites(32)
    model.metadata_props.add(key="mine", value="kept")
    plan = aarewrite.plan(model, "zhang2019", first_conv=True)
    metadata = {entry.key: entry.value for entry in plan.apply(model).metadata_props}
    assert metadata.keys() == {"mine", "aarewrite.version", "aarewrite.recipe", "aarewrite.blurs"}
    assert metadata["mine"] == "kept"
    assert json.loads(metadata["aarewrite.recipe"]) == plan.recipe.to_dict()
    blurs = {name: (one["node"], one["placement"]) for name, one in json.loads(metadata["aarewrite.blurs"]).items()}
    assert blurs == {
        "pool1/blur/Conv": ("pool1", "after"),
        "conv1/blur/Conv": ("conv1", "after"),
        "pool2/blur/Conv": ("pool2", "instead"),
    }


def test_a_stage_leaves_a_record_under_its_own_key() -> None:
    net = two_stages()
    result = aarewrite.plan(net, A_TROUS).apply(net)
    metadata = {entry.key: entry.value for entry in result.metadata_props}
    (stage,) = aarewrite.plan(net, A_TROUS).stages
    assert json.loads(metadata[stage.key]) == {"second": [2, 2], "shortcut": [2, 2]}


def test_the_twin_is_the_original_in_its_values_and_leaves_no_record(model: onnx.ModelProto) -> None:
    twin = applied(aarewrite.plan(model, first_conv=True), model, twin=True).to_proto()
    assert [entry.key for entry in twin.metadata_props] == []
    assert attributes(node(twin, "pool1"))["strides"] == [1, 1]
    x = weight(1, 2, 33, 33)
    assert relative_difference(run(twin, x=x)[0], run(model, x=x)[0].astype(np.float64)) < EXACT


def test_the_twin_leaves_out_the_operators_that_the_plan_changes() -> None:
    model = three_sites(32)
    plan = aarewrite.plan(model, "zhang2019-resnet", first_conv=True)
    twin = applied(plan, model, twin=True).to_proto()
    for name in ("pool1", "pool2"):
        assert node(twin, name).SerializeToString() == node(model, name).SerializeToString()
    assert attributes(node(twin, "conv1"))["strides"] == [1, 1]
    result = applied(plan, model).to_proto()
    assert attributes(node(result, "pool1"))["kernel_shape"] == [2, 2]
    assert "pool2" not in {one.name for one in result.graph.node}


def test_a_plan_for_another_model(model: onnx.ModelProto) -> None:
    other = build(
        "(float[1, 2, 9, 9] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    plan = aarewrite.plan(model)
    with pytest.raises(aarewrite.UsageError, match="plan: site 'pool1' is not in this model"):
        aarewrite.rewrite(other, plan=plan.to_dict())
    with pytest.raises(aarewrite.UsageError, match="plan: site 'pool1' is not in this model"):
        plan.apply(other)


def test_a_stage_for_another_model(model: onnx.ModelProto) -> None:
    plan = aarewrite.plan(two_stages(), A_TROUS)
    assert [stage.sites for stage in plan.stages] == [("second", "shortcut")]
    with pytest.raises(aarewrite.UsageError, match="plan: site 'second' is not in this model; make a plan for this"):
        dataclasses.replace(plan, sites=()).apply(model)


def test_a_result_that_is_not_valid_is_refused(model: onnx.ModelProto) -> None:
    plan = aarewrite.plan(model)
    last = plan.sites[-1]
    assert last.match is not None
    wide = dataclasses.replace(last.match, window=dataclasses.replace(last.match.window, end=(1, 1)))
    broken = dataclasses.replace(plan, sites=(*plan.sites[:-1], dataclasses.replace(last, match=wide)))
    with pytest.raises(aarewrite.CheckFailed, match="fails strict shape inference"):
        broken.apply(model)


def test_computed_pads_are_folded_before_anything_is_read() -> None:
    model = build(
        """(float[1, 2, 8, 8] x) => (float[] y) {
        s = Shape(x)
        none = Sub(s, s)
        amounts = Concat<axis = 0>(none, none)
        [pad] p = Pad(x, amounts)
        [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(p)
    }"""
    )
    reading = open_reading(load(model))
    assert [node.op for node in reading.main.nodes] == ["Pad", "MaxPool"]
    assert reading.places["", "pool"].site.input_size == (8, 8)
    assert reading.input_shapes == {}
    assert open_reading(load(model), {"x": (1, 2, 8, 8)}).input_shapes == {"x": (1, 2, 8, 8)}
