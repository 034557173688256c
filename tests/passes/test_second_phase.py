"""A second phase: each grid's values, their average, what it costs, reasons where it cannot be done."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from reference import build
from stages import actions, as_format_1, begins, edited, two_stages, values

import aarewrite
from aarewrite.errors import UsageError
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import load
from aarewrite.passes import second_phase
from aarewrite.recipe import Recipe
from aarewrite.rewriting.apply import open_reading

FROM_4 = Recipe(name="test", conv="keep", second_phase=4)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def single(op: str, size: int | str, opset: int = 13) -> onnx.ModelProto:
    """One strided operator and global pooling."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": {opset}]>
        net (float[1, 2, {size}, {size}] x) => (float[1, c, 1, 1] pooled) {{
            map = {op}
            pooled = GlobalAveragePool (map)
        }}"""
    )
    weight = np.random.default_rng(0).standard_normal((2, 2, 3, 3)).astype(np.float32)
    if "weight" in op:
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "weight"))
    return model


CONV = "Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, weight)"


@pytest.mark.parametrize(
    ("op", "dense", "phase"),
    [
        (CONV, "Conv <pads = [1, 1, 1, 1]> (x, weight)", 1),
        (CONV.replace("[1, 1, 1, 1]", "[0, 0, 1, 1]"), "Conv <pads = [1, 1, 1, 1]> (x, weight)", 0),
        (CONV.replace("pads", 'auto_pad = "SAME_UPPER"').split(" = [1, 1, 1, 1]")[0] + "> (x, weight)",
         "Conv <pads = [1, 1, 1, 1]> (x, weight)", 0),
        ("Conv <strides = [2, 2]> (x, weight)", "Conv <pads = [0, 0, 1, 1]> (x, weight)", 1),
        ("MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)",
         "MaxPool <kernel_shape = [2, 2], pads = [0, 0, 1, 1]> (x)", 1),
        ("MaxPool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (x)",
         "MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x)", 0),
        ("MaxPool <kernel_shape = [1, 1], strides = [2, 2], ceil_mode = 1> (x)",
         "MaxPool <kernel_shape = [1, 1]> (x)", 1),
    ],
    ids=["torch", "tensorflow", "same", "valid", "pool", "ceil", "subsampling"],
)  # fmt: skip
def test_the_second_grid_is_half_a_stride_away(op: str, dense: str, phase: int) -> None:
    model = single(op, 12)
    result = aarewrite.rewrite(model, Recipe(conv="keep", max_pool="keep", second_phase=2))
    assert begins(result.plan, "second phase") == ("map",)
    assert result.proof is not None
    assert result.proof.passed
    x = np.random.default_rng(1).standard_normal((1, 2, 12, 12)).astype(np.float32)
    first = values(model, "map", x)
    np.testing.assert_array_equal(values(result.model, "map", x), first)
    expected = values(single(dense, 12), "map", x)[:, :, phase::2, phase::2][:, :, : first.shape[2], : first.shape[3]]
    np.testing.assert_allclose(values(result.model, "map/phase2", x), expected, atol=1e-6)
    average = (first.mean((2, 3)) + expected.mean((2, 3))) / 2
    np.testing.assert_allclose(run(result.model, x)[:, :, 0, 0], average, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "size"),
    [("MaxPool <kernel_shape = [2, 2], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1> (x)", 12),
     ("MaxPool <kernel_shape = [1, 1], strides = [2, 2]> (x)", 13),
     ("MaxPool <kernel_shape = [2, 2], strides = [2, 2], pads = [1, 1, 1, 1]> (x)", "H")],
)  # fmt: skip
def test_a_window_in_the_padding_alone_is_a_reason(op: str, size: int | str) -> None:
    plan = aarewrite.plan(single(op, size), Recipe(conv="keep", max_pool="keep", second_phase=2))
    assert plan.warnings == ("no second phase: map: a window of the second phase would lie in the padding alone",)
    assert not plan.changes


def test_slices_are_written_as_the_opset_wants_them() -> None:
    model = single("Conv <strides = [2, 2]> (x, weight)", 12, opset=9)
    result = aarewrite.rewrite(model, Recipe(conv="keep", second_phase=2))
    assert result.proof is not None
    assert "Slice" in [node.op_type for node in result.model.graph.node]


def test_a_shift_by_half_the_stride_swaps_the_grids() -> None:
    model = single(CONV, 12)
    result = aarewrite.rewrite(model, Recipe(conv="keep", second_phase=2))
    x = np.zeros((1, 2, 12, 12), np.float32)
    x[:, :, 4:8, 4:8] = np.random.default_rng(1).standard_normal((1, 2, 4, 4))
    moved = np.roll(x, 1, (2, 3))
    assert np.abs(run(model, x) - run(model, moved)).max() > 0.01
    np.testing.assert_allclose(run(result.model, x), run(result.model, moved), atol=1e-6)


def test_a_stage_with_a_shortcut_and_a_squeeze_branch_is_computed_twice_and_proven() -> None:
    model = two_stages()
    result = aarewrite.rewrite(model, FROM_4)
    assert begins(result.plan, "second phase") == ("second", "shortcut")
    assert actions(result.plan) == dict.fromkeys(("first", "second", "shortcut"), "keep")
    assert result.proof is not None
    assert result.proof.passed
    ops = [node.op_type for node in result.model.graph.node]
    assert (ops.count("Conv"), ops.count("Sigmoid"), ops.count("Mean")) == (7, 1, 2)
    assert len(result.model.graph.initializer) == len(model.graph.initializer) + 3  # what crops the shortcut's input


def test_it_costs_what_follows_once_more_with_its_blurs() -> None:
    kept = 81 * 4 * 27
    stage = 25 * (6 * 36 + 6 * 4 + 6 * 9)
    plan = aarewrite.plan(two_stages(), FROM_4)
    assert (plan.macs, plan.macs_after) == (kept + stage, kept + 2 * stage)
    blurred = aarewrite.plan(two_stages(), Recipe(first_conv=False, shortcut="conv", second_phase=2))
    once = aarewrite.plan(two_stages(), Recipe(first_conv=False, shortcut="conv"))
    assert once.macs_after is not None
    assert blurred.macs_after == 2 * once.macs_after


def test_it_goes_with_blurs_and_with_a_stage_a_trous() -> None:
    result = aarewrite.rewrite(two_stages(), Recipe(last_stage="a trous", second_phase=2))
    assert begins(result.plan, "a trous") == ("second", "shortcut")
    assert begins(result.plan, "second phase") == ("first",)
    assert result.proof is not None
    assert result.proof.passed
    blurred = aarewrite.rewrite(two_stages(), Recipe(first_conv=True, second_phase=4))
    assert actions(blurred.plan) == dict.fromkeys(("first", "second", "shortcut"), "blur")
    assert begins(blurred.plan, "second phase") == ("second", "shortcut")
    assert blurred.proof is not None
    assert blurred.proof.passed


def test_without_global_pooling_the_outputs_are_averaged() -> None:
    model = two_stages("flat = Flatten (sum)\n            pooled = Softmax <axis = 1> (flat)")
    del model.graph.output[0].type.tensor_type.shape.dim[2:]
    result = aarewrite.rewrite(model, FROM_4)
    assert result.proof is not None
    assert result.proof.passed
    x = np.random.default_rng(1).standard_normal((1, 3, 17, 17)).astype(np.float32)
    probe = onnx.ModelProto()
    probe.CopyFrom(result.model)
    probe.graph.output.extend(onnx.ValueInfoProto(name=f"pooled/phase{k}") for k in (1, 2))
    session = ort.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    pooled, first, second = session.run(None, {"x": x})
    assert np.abs(first - second).max() > 1e-4
    np.testing.assert_allclose(pooled, (first + second) / 2, atol=1e-6)
    np.testing.assert_allclose(pooled.sum(), 1, atol=1e-6)


@pytest.mark.parametrize("conv", ["after", "before", "keep"])
def test_a_second_run_changes_nothing(conv: str) -> None:
    recipe = Recipe(first_conv=True, conv=conv, second_phase=4)
    once = aarewrite.rewrite(two_stages(), recipe)
    twice = aarewrite.rewrite(once.model, recipe)
    assert once.changed
    assert not twice.changed
    assert twice.plan.warnings == ("no second phase: an earlier run added one",)


def test_a_later_run_with_another_recipe_leaves_both_phases_alone() -> None:
    once = aarewrite.rewrite(two_stages(), FROM_4).model
    plan = aarewrite.plan(once, Recipe(conv="before", shortcut="conv"))
    reasons = {entry.site.node: entry.reason for entry in plan.sites}
    assert reasons.pop("first").startswith("first conv")
    assert set(reasons) == {"second", "shortcut", "second/phase2", "shortcut/phase2"}
    assert set(reasons.values()) == {"an earlier run computes it at two phases"}


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (two_stages("pooled = Relu (sum)"), {}, "pooled: the output is a map"),
        (two_stages("pooled = Identity (sum)\n p = GlobalMaxPool (sum)"), {}, "pooled: the output is a map"),
        (two_stages(), {"skip": ["second"]}, "second is left out on request"),
    ],
)
def test_what_cannot_have_a_second_phase_says_why(model: onnx.ModelProto, options: Any, message: str) -> None:
    plan = aarewrite.plan(model, FROM_4, **options)
    assert begins(plan, "second phase") == ()
    assert len(plan.warnings) == 1
    assert message in plan.warnings[0]


@pytest.mark.parametrize(("stride", "start"), [(1, "first"), (2, "first"), (4, "second"), (8, "second")])
def test_it_begins_at_the_stride_or_the_nearest_there_is(stride: int, start: str) -> None:
    assert begins(aarewrite.plan(two_stages(), Recipe(second_phase=stride)), "second phase")[0] == start


def test_a_model_without_strides_is_told() -> None:
    model = single("Conv <pads = [1, 1, 1, 1]> (x, weight)", 12)
    assert aarewrite.plan(model, FROM_4).warnings == ("no second phase: there is no strided operator of known stride",)


def test_a_plan_can_be_edited_into_it() -> None:
    table = edited("second phase", "second", "shortcut")
    by_recipe = aarewrite.rewrite(two_stages(), FROM_4)
    for plan in (table, as_format_1(table, "second_phase", True, False), json.loads(by_recipe.plan.to_json())):
        assert aarewrite.rewrite(two_stages(), plan=plan).model.graph == by_recipe.model.graph


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        (["second"], "plan: second phase: sum: it joins both phases with a map of one"),
        (["first", "second"], "plan: second phase: second: it is behind another second phase"),
        (["pooled"], "plan: second phase: pooled: no strided operator of the main graph"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(starts: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        aarewrite.rewrite(two_stages(), plan=edited("second phase", *starts))


def test_it_is_looked_for_behind_a_stage_a_trous() -> None:
    """The last stage has no stride any more: the map nearest to stride 8 is the one of stride 4 in front of it."""
    recipe = Recipe(last_stage="a trous", second_phase=8)
    result = aarewrite.rewrite(Path(__file__).parents[2] / "sample_models" / "resnet.onnx", recipe)
    assert result.plan.warnings == ()
    assert begins(result.plan, "a trous") == (
        "/blocks/blocks.2/conv1/Conv",
        "/blocks/blocks.2/shortcut/shortcut.1/Conv",
    )
    assert begins(result.plan, "second phase") == (
        "/blocks/blocks.1/conv1/Conv", "/blocks/blocks.1/shortcut/shortcut.1/Conv",
    )  # fmt: skip
    assert result.proof is not None
    assert result.proof.passed


def test_the_proof_sees_a_copy_that_reads_the_wrong_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    copy = GraphEditor.copy

    def wrong(self: GraphEditor, node: Any, suffix: str, inputs: Any) -> Any:
        made = copy(self, node, suffix, inputs)
        if node.op == "Mul":
            made.op = "Add"
        return made

    monkeypatch.setattr(GraphEditor, "copy", wrong)
    with pytest.raises(aarewrite.CheckFailed, match="identity proof failed"):
        aarewrite.rewrite(two_stages(), FROM_4)


def test_quantised_maps_and_functions_are_left() -> None:
    reading = open_reading(load(two_stages()))
    place = reading.located[0]
    for change, message in (({"quantised": "qdq"}, "quantised"), ({"scope": "function f"}, "inside a function")):
        with pytest.raises(aarewrite.CannotHandle, match=message):
            second_phase.start(reading.editor, replace(place, site=replace(place.site, **change)))


TAPS = np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25])


@pytest.mark.parametrize("pad", ["reflect", "edge", "zero"])
def test_behind_a_blur_the_second_grid_is_padded_as_the_first(pad: str) -> None:
    """Both grids of a blurred map are those of one map, blurred at stride 1."""
    model = single(CONV, 12)
    result = aarewrite.rewrite(model, Recipe(first_conv=True, pad=pad, second_phase=2))
    assert result.proof is not None
    assert result.proof.passed
    x = np.random.default_rng(1).standard_normal((1, 2, 12, 12)).astype(np.float32)
    dense = values(single("Conv <pads = [1, 1, 1, 1]> (x, weight)", 12), "map", x)
    mode: Any = {"reflect": "reflect", "edge": "edge", "zero": "constant"}[pad]
    padded = np.pad(dense, ((0, 0), (0, 0), (1, 1), (1, 1)), mode=mode)
    blurred = sum(TAPS[i, j] * padded[:, :, i : i + 12, j : j + 12] for i in range(3) for j in range(3))
    np.testing.assert_allclose(values(result.model, "map", x), blurred[:, :, ::2, ::2], atol=1e-5)
    np.testing.assert_allclose(values(result.model, "map/phase2", x), blurred[:, :, 1::2, 1::2], atol=1e-5)


def test_a_blur_in_front_serves_both_grids() -> None:
    result = aarewrite.rewrite(single(CONV, 12), Recipe(first_conv=True, conv="before", second_phase=2))
    assert result.proof is not None
    assert result.proof.passed
    blurs = [t for t in result.model.graph.node if t.op_type == "Conv" and "blur" in t.name]
    assert len(blurs) == 1
    plan = result.plan
    assert plan.macs_after == 144 * 2 * 9 + 2 * 36 * 2 * 18


def test_behind_a_dense_operator_the_blur_alone_samples_again() -> None:
    plan = aarewrite.plan(single(CONV, 12), Recipe(first_conv=True, second_phase=2))
    assert plan.macs_after == 144 * 2 * 18 + 2 * 36 * 2 * 9
    model = single(CONV, 12)
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"size{axis}"
    open_size = aarewrite.plan(model, Recipe(first_conv=True, second_phase=2))
    assert open_size.macs_after == 224**2 * 2 * 18 + 2 * 112**2 * 2 * 9


def test_a_merged_box_samples_at_both_phases() -> None:
    model = single("AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (x)", 12)
    result = aarewrite.rewrite(model, Recipe(pad="zero", filter=1, second_phase=2))
    assert result.proof is not None
    assert result.proof.passed
    assert begins(result.plan, "second phase") == ("map",)


def test_a_float64_model_is_averaged_without_a_mean() -> None:
    """ONNX Runtime's CPU provider has no Mean in float64; both phases of a constant image are the same."""
    model = build(
        """(double[1, 2, 32, 32] x) => (double[] y) {
        [first] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        [second] b = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)
        r = Relu(b)
        y = ReduceMean<axes = [2, 3]>(r)
    }"""
    )
    result = aarewrite.rewrite(model, "calibrated")
    assert begins(result.plan, "second phase") == ("first",)
    assert [n.op_type for n in result.model.graph.node if n.name.startswith("y/")] == ["Add", "Mul"]
    assert result.proof is not None
    assert (result.proof.passed, result.proof.notes) == (True, ())
    np.testing.assert_allclose(run(result.model, np.full((1, 2, 32, 32), 0.7)), 0.7, rtol=1e-15)
