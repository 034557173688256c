"""Views: their values against numpy, what is averaged and where, the proof, reasons where it cannot be done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command import aa
from reference import Array, build, function, functions, ops, qdq, run, weight
from stages import actions, begins, two_stages

import aarewrite
from aarewrite.errors import UsageError
from aarewrite.model.graph import GraphEditor
from aarewrite.recipe import Recipe, recipe_from_dict

SAMPLES = Path(__file__).parents[2] / "sample_models"
PRESETS = {"2": (0, 1), "4": (0, 1, -5, 6)}
ALONE: dict[str, Any] = {"conv": "keep", "max_pool": "keep", "average_pool": "keep"}
NET = """({kind}[{batch}, 2, 12, 12] x) => ({kind}[{batch}, 3] y) {{
    [conv] a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)
    b = Relu(a)
    c = GlobalAveragePool(b)
    {end}
}}"""
CLASSES = ("flat", "Softmax<axis = 1>", "LogSoftmax<axis = 1>", "Sigmoid")


def net(end: str = "y = Flatten(c)", batch: object = 1, kind: str = "float", opset: int = 13) -> onnx.ModelProto:
    numbers = {"float": np.float32, "float16": np.float16, "double": np.float64}[kind]
    text = NET.format(end=end, batch=batch, kind=kind)
    return build(text, opset=opset, ir=3 if opset < 10 else 8, w=weight(3, 2, 3, 3).astype(numbers))


def plain(views: str, **more: Any) -> Recipe:
    """Views and nothing else."""
    return Recipe(name="plain", views=views, **ALONE, **more)


def rewritten(model: onnx.ModelProto | str, recipe: Recipe, **options: Any) -> onnx.ModelProto:
    result = aarewrite.rewrite(model, recipe, **options)
    assert result.proof is not None
    assert result.proof.passed
    return result.model


def moved(x: Array, shift: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """numpy's own: view[y, x] = image[y - dy, x - dx], reflected."""
    pads, cut = [(0, 0)] * x.ndim, [slice(None)] * x.ndim
    for axis, step in zip(axes, shift, strict=True):
        pads[axis] = (max(step, 0), max(-step, 0))
        cut[axis] = slice(max(-step, 0), max(-step, 0) + x.shape[axis])
    return np.pad(x, pads, mode="reflect")[tuple(cut)]


def each(model: onnx.ModelProto, x: Array, shifts: Any, axes: tuple[int, ...] = (2, 3)) -> Array:
    """The original's first output for every view, stacked."""
    (name,) = (value.name for value in model.graph.input if value.name not in {t.name for t in model.graph.initializer})
    return np.stack([run(model, **{name: moved(x, shift, axes)})[0] for shift in shifts]).astype(np.float64)


def noise(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def close(actual: Array, expected: Array, tolerance: float = 1e-6) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * float(np.abs(expected).max()))


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


# ---- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", ["2", "4"])
@pytest.mark.parametrize("name", ["resnet", "mobilenet", "densenet", "vgg", "conv1d"])
def test_the_sample_models_average_what_the_original_says_of_moved_images(name: str, views: str) -> None:
    model = onnx.load(SAMPLES / f"{name}.onnx")
    found = model.graph.input[0]
    dims = [d.dim_value or 2 for d in found.type.tensor_type.shape.dim]
    axes = tuple(range(2, len(dims)))
    result = rewritten(model, plain(views))
    x = noise(*dims)
    shifts = [(step,) * len(axes) for step in PRESETS[views]]
    expected = each(model, x, shifts, axes)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    close(run(result, **{found.name: x})[0], expected.mean(0))
    assert len(result.graph.initializer) <= len(model.graph.initializer) + 12  # pads and cuts: the weights are shared


@pytest.mark.parametrize("shifts", [((-5, -5), (6, 6)), ((3, 0), (0, -2), (-1, 4)), ((0, 0), (0, 0))])
def test_a_list_is_taken_literally(shifts: tuple[tuple[int, int], ...]) -> None:
    text = " ".join(",".join(map(str, shift)) for shift in shifts)
    x = noise(1, 2, 12, 12)
    close(run(rewritten(net(), plain(text)), x=x)[0], each(net(), x, shifts).mean(0))


@pytest.mark.parametrize("opset", [7, 9, 10, 13, 18])
@pytest.mark.parametrize("of", ["logits", "probabilities"])
def test_every_form_of_pad_slice_and_reduction(opset: int, of: str) -> None:
    result = rewritten(net(opset=opset), plain("4", views_of=of))
    x = noise(1, 2, 12, 12)
    views = each(net(opset=opset), x, [(step, step) for step in PRESETS["4"]])
    y = run(result, x=x)[0]
    close(y if of == "logits" else softmax(y), (views if of == "logits" else softmax(views)).mean(0))


@pytest.mark.parametrize("batch", [1, 3, "N"])
def test_a_batch_stays_what_it_was(batch: object) -> None:
    x = noise(3 if batch == "N" else int(str(batch)), 2, 12, 12)
    result = rewritten(net(batch=batch), plain("2"))
    assert [n.op_type for n in result.graph.node if n.op_type == "Concat"] == []
    close(run(result, x=x)[0], each(net(batch=batch), x, [(0, 0), (1, 1)]).mean(0))


@pytest.mark.parametrize(("kind", "dtype", "tolerance"), [("float16", np.float16, 2e-3), ("double", np.float64, 1e-14)])
@pytest.mark.parametrize("of", ["logits", "probabilities"])
def test_other_floats(kind: str, dtype: Any, tolerance: float, of: str) -> None:
    text = """(KIND[1, 2, 12, 12] x) => (KIND[1, 2] y) {
        [pool] a = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(x)
        y = ReduceMean<axes = [2, 3], keepdims = 0>(a)
    }"""
    model = build(text.replace("KIND", kind))
    x = noise(1, 2, 12, 12, dtype=dtype)
    views = each(model, x, [(0, 0), (1, 1)])
    y = run(rewritten(model, plain("2", views_of=of)), x=x)[0]
    assert y.dtype == dtype
    close(y if of == "logits" else softmax(y), (views if of == "logits" else softmax(views)).mean(0), tolerance)


def test_channels_last_and_bytes() -> None:
    model = build(
        """(uint8[N, H, W, 3] x) => (float[N, 4] y) {
            f = Cast<to = 1>(x)
            t = Transpose<perm = [0, 3, 1, 2]>(f)
            [conv] a = Conv<strides = [2, 2]>(t, w)
            r = Relu(a)
            y = ReduceMean<axes = [2, 3], keepdims = 0>(r)
        }""",
        w=weight(4, 3, 3, 3),
    )
    x = np.random.default_rng(1).integers(0, 256, (2, 17, 20, 3)).astype(np.uint8)
    result = aarewrite.rewrite(model, plain("4"))
    (note,) = result.plan.warnings
    assert note == (
        "views of x (nhwc), moved by (0, 0), (1, 1), (-5, -5), (6, 6), are averaged: y as it is; "
        "its sides must be longer than 6"
    )
    close(run(result.model, x=x)[0], each(model, x, [(s, s) for s in PRESETS["4"]], (1, 2)).mean(0))


def test_signals_take_one_number_a_view() -> None:
    model = build(
        """(float[N, 2, L] x) => (float[N, 3, 1] y) {
            [conv] a = Conv<strides = [4]>(x, w)
            r = Relu(a)
            y = GlobalAveragePool(r)
        }""",
        w=weight(3, 2, 5),
    )
    x = noise(2, 2, 61)
    for text, shifts in (("4", [(0,), (1,), (-5,), (6,)]), ("2 -3 0", [(2,), (-3,), (0,)])):
        close(run(rewritten(model, plain(text)), x=x)[0], each(model, x, shifts, (2,)).mean(0))


def test_a_signal_without_channels() -> None:
    model = build("(float[N, L] x) => (float[N, 1] y) { r = Relu(x)\n y = ReduceMean<axes = [1]>(r) }")
    x = noise(2, 61)
    close(run(rewritten(model, plain("2")), x=x)[0], each(model, x, [(0,), (1,)], (1,)).mean(0))


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_quantised_models_are_moved_in_front_of_their_quantisation(kind: Any) -> None:
    model = qdq(kind)
    model.graph.node[-1].output[0] = "map"
    model.graph.node.append(onnx.helper.make_node("ReduceMean", ["map"], ["y"], axes=[2, 3], keepdims=0))
    model.graph.output[0].type.tensor_type.shape.CopyFrom(
        onnx.helper.make_tensor_type_proto(1, [1, 4]).tensor_type.shape
    )
    result = rewritten(model, plain("2"))
    assert ops(result)[:3] == ["Pad", "Slice", "QuantizeLinear"]
    x = noise(1, 3, 12, 12)
    close(run(result, x=x)[0], each(model, x, [(0, 0), (1, 1)]).mean(0))


def test_calls_of_functions_are_copied() -> None:
    body = function("Pool", "a = Relu(x)\n y = GlobalAveragePool(a)")
    model = functions("y = f.Pool(x)", body)
    x = noise(1, 2, 9, 9)
    result = rewritten(model, plain("2"))
    assert ops(result).count("Pool") == 2
    close(run(result, x=x)[0], each(model, x, [(0, 0), (1, 1)]).mean(0))


# ---- logits and probabilities ------------------------------------------------------------------------------


@pytest.mark.parametrize("op", CLASSES)
@pytest.mark.parametrize("of", ["logits", "probabilities"])
def test_what_is_averaged(op: str, of: str) -> None:
    name = op.partition("<")[0]
    end = "y = Flatten(c)" if op == "flat" else f"f = Flatten(c)\n g = {op}(f)\n y = Identity(g)"
    logits = each(net(), noise(1, 2, 12, 12), [(s, s) for s in PRESETS["4"]])
    result = aarewrite.rewrite(net(end), plain("4", views_of=of))
    assert result.proof is not None
    assert result.proof.passed
    y = run(result.model, x=noise(1, 2, 12, 12))[0].astype(np.float64)
    (note,) = result.plan.warnings
    before, after = logits.mean(0), softmax(logits).mean(0)
    if of == "probabilities" and name in ("flat", "LogSoftmax"):
        assert note.endswith("y as the logits of the mean probabilities")
        close(softmax(y), after)
    elif name == "flat":
        assert note.endswith("y as it is")
        close(y, before)
    else:
        assert note.endswith(f"y {'in front of' if of == 'logits' else 'behind'} its {name}")
        expected = {
            "Softmax": (softmax(before), after),
            "Sigmoid": (sigmoid(before), sigmoid(logits).mean(0)),
            "LogSoftmax": (np.log(softmax(before)), before),
        }[name]
        close(y, expected[of == "probabilities"])


def test_probabilities_of_logits_far_apart_are_finite() -> None:
    model = net("z = Mul(c, scale)\n y = Flatten(z)")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(3000), "scale"))
    y = run(rewritten(model, plain("2", views_of="probabilities")), x=noise(1, 2, 12, 12))[0]
    assert np.isfinite(y).all()
    assert float(np.ptp(y)) > 200


def test_logits_and_their_softmax_as_outputs_are_averaged_once() -> None:
    model = net("y = Flatten(c)\n p = Softmax<axis = 1>(y)")
    model.graph.output.append(onnx.helper.make_tensor_value_info("p", 1, [1, 3]))
    x = noise(1, 2, 12, 12)
    mean = each(net(), x, [(0, 0), (1, 1)]).mean(0)
    result = rewritten(model, plain("2"))
    assert (ops(result).count("Softmax"), ops(result).count("Mean")) == (1, 1)
    y, p = run(result, x=x)
    close(y, mean)
    close(p, softmax(mean))


def test_a_softmax_that_more_than_the_output_reads_is_averaged_behind() -> None:
    """The head reads each view's own probabilities."""
    model = net("f = Flatten(c)\n y = Softmax<axis = 1>(f)\n square = Mul(y, y)")
    model.graph.output.append(onnx.helper.make_tensor_value_info("square", 1, [1, 3]))
    x = noise(1, 2, 12, 12)
    p = softmax(each(net(), x, [(0, 0), (1, 1)]))
    y, square = run(rewritten(model, plain("2")), x=x)
    close(y, p.mean(0))
    close(square, (p**2).mean(0))


def test_an_output_that_the_image_does_not_reach_is_left() -> None:
    model = net("y = Flatten(c)\n s = Shape(x)")
    model.graph.output.append(onnx.helper.make_tensor_value_info("s", 7, [4]))
    assert ops(rewritten(model, plain("2"))).count("Shape") == 1


# ---- with others -------------------------------------------------------------------------------------------


def test_it_costs_a_run_per_view_and_copies_what_the_others_made() -> None:
    once = aarewrite.plan(two_stages(), Recipe(last_stage="a trous"))
    plan = aarewrite.plan(two_stages(), Recipe(last_stage="a trous", views="2"))
    assert [stage.name for stage in plan.stages] == ["a trous", "views"]
    assert begins(plan, "views") == ("x",)
    assert once.macs_after is not None
    assert plan.macs_after == 2 * once.macs_after
    for recipe in (Recipe(first_conv=True), Recipe(first_conv=True, last_stage="a trous")):
        model = rewritten(two_stages(), recipe)
        x = noise(1, 3, 17, 17)
        both = rewritten(two_stages(), recipe.with_options(views="1,0 -2,3"))
        close(run(both, x=x)[0], each(model, x, [(1, 0), (-2, 3)]).mean(0))


def test_a_second_run_changes_nothing() -> None:
    recipe = Recipe(first_conv=True, views="2")
    once = aarewrite.rewrite(two_stages(), recipe)
    twice = aarewrite.rewrite(once.model, recipe)
    assert once.changed
    assert not twice.changed
    assert "no views: an earlier run averages views" in twice.plan.warnings


def test_a_later_run_leaves_all_views_alike() -> None:
    once = rewritten(two_stages(), plain("2"))
    plan = aarewrite.plan(once, Recipe(first_conv=True))
    assert set(actions(plan)) == {
        f"{name}{view}" for name in ("first", "second", "shortcut") for view in ("", "/view2")
    }
    assert {entry.reason for entry in plan.sites} == {"an earlier run computes it once per view"}


def test_the_metadata_say_what_was_done() -> None:
    model = rewritten(net(), plain("2", views_of="probabilities"))
    record = json.loads(next(p.value for p in model.metadata_props if p.key == "aarewrite.views"))
    assert record == {
        "input": "x", "shifts": [[0, 0], [1, 1]], "of": "probabilities",
        "copies": {"conv": ["conv/view2"]},
    }  # fmt: skip


def test_a_recipe_speaks_of_views_only_where_there_are_some() -> None:
    assert not {"views", "views_of"} & set(Recipe().to_dict())
    told = plain("2", views_of="probabilities").to_dict()
    assert (told["views"], told["views_of"]) == ("2", "probabilities")
    assert recipe_from_dict(told, "") == plain("2", views_of="probabilities")


def test_a_plan_holds_the_shifts_and_is_applied_again() -> None:
    result = aarewrite.rewrite(net(), plain("0,0 2,-1"))
    table = json.loads(result.plan.to_json())
    assert table["stages"] == [{"do": "views", "sites": ["x"], "shifts": [[0, 0], [2, -1]], "of": "logits"}]
    again = aarewrite.rewrite(net(), plan=table)
    assert again.model.graph == result.model.graph
    assert again.plan.warnings == result.plan.warnings
    table["stages"][0]["shifts"] = [[0, 0], [1, 1]]
    assert aarewrite.rewrite(net(), plan=table).model.graph == rewritten(net(), plain("2")).graph


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sites": ["y"]}, "plan: views: y: no input that is an image"),
        ({"sites": []}, "plan: stage 'views': sites = [] is not a list of node names"),
        ({"shifts": [[0, 0]]}, "plan: views: x (nchw) takes two shifts or more of 2 whole numbers each"),
        ({"shifts": [[0], [1]]}, "plan: views: x (nchw) takes two shifts or more of 2 whole numbers each"),
        ({"shifts": "2"}, "plan: stage 'views': shifts = '2' is not a list"),
        ({"of": "all"}, "plan: stage 'views': of = 'all' is not one of logits, probabilities"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    table = aarewrite.plan(net(), plain("2")).to_dict()
    table["stages"][0] |= change
    with pytest.raises(UsageError) as caught:
        aarewrite.rewrite(net(), plan=table)
    assert message in str(caught.value)


# ---- refusals ----------------------------------------------------------------------------------------------

BRANCH = """(float[1, 2, 12, 12] x, bool on) => (float[1, 2, 1, 1] y) {
    r = Relu(x)
    y = If(on)<then_branch = yes () => (float[1, 2, 1, 1] t) { t = GlobalAveragePool(r) },
               else_branch = no () => (float[1, 2, 1, 1] e) { e = GlobalMaxPool(r) }>
}"""
ASKS = """(float[1, 1, 12, 12] x) => (float[1, 1] y) {
    m = ReduceMax<keepdims = 0>(x)
    on = Cast<to = 9>(m)
    y = If(on)<then_branch = yes () => (float[1, 1] t) { t = Constant<value = float[1, 1] {1}>() },
               else_branch = no () => (float[1, 1] e) { e = Constant<value = float[1, 1] {2}>() }>
}"""
TWO_IMAGES = (
    "(float[1, 2, 9, 9] a, float[1, 2, 9, 9] b) => (float[1, 2, 1, 1] y) { c = Sub(a, b)\n y = GlobalMaxPool(c) }"
)
NO_IMAGE = "(int64[1, 9] ids) => (float[1, 9] y) { y = Cast<to = 1>(ids) }"
ELSEWHERE = "(float[1, 2, 12, 12] x) => (int64[4] y) { y = Shape(x) }"
PICKS = (
    "(float[1, 30, 9, 9] x) => (float[1, 2] y) { a = ReduceMax<axes = [2, 3], keepdims = 0>(x)\n y, i = TopK(a, k) }"
)
BYTES = "(uint8[1, 2, 9, 9] x) => (float[1, 2, 1, 1] y) { f = Cast<to = 1>(x)\n y = GlobalMaxPool(f) }"
SIGNAL = "(float[1, 60] x) => (float[1, 60] y) { y = Relu(x) }"
OF_SIGNAL = "(float[1, 2, 60] x) => (float[1, 2, 60] y) { y = Relu(x) }"
SEQUENCE = """(float[1, 7, 4, 4] x) => (float[4, 1, 7] y) {
    r = ReduceMax<axes = [3], keepdims = 0>(x)
    y = Transpose<perm = [2, 0, 1]>(r)
}"""


@pytest.mark.parametrize(
    ("model", "views", "reason"),
    [
        (build("(float[1, 2, 9, 9] x) => (float[1, 2, 9, 9] y) { y = Relu(x) }"), "2",
         "y: the output is a map, which would have moved"),
        (build(SIGNAL), "2", "y: the output is a map, which would have moved"),
        (build(OF_SIGNAL), "2", "y: the output is a map, which would have moved"),
        (build(SEQUENCE), "2", "y: the output is a map, which would have moved"),
        (build(TWO_IMAGES), "2", "several inputs are images (a, b)"),
        (build(NO_IMAGE), "2", "no input is an image or a signal that can be moved"),
        (build(ELSEWHERE), "2", "no output depends on x"),
        (build(BRANCH), "2", "r: an If, Loop or Scan reads it"),
        (build(ASKS), "2", "y: If reads the image"),
        (build(PICKS, k=np.array([2])), "2", "y: TopK picks others in each view"),
        (build(BYTES, opset=10), "2", "x: before opset 11, Pad moves floats alone"),
        (net(), "0,0 12,0", "x: 12 pixels are too few to reflect 12 of them"),
        (net(), "0 1", "x (nchw) takes two shifts or more of 2 whole numbers each"),
        (build(OF_SIGNAL.replace("60] y) { y = Relu(x) }", "1] y) { y = GlobalMaxPool(x) }")), "0,0 1,1",
         "x (ncl) takes two shifts or more of 1 whole numbers each"),
    ],
)  # fmt: skip
def test_what_cannot_be_averaged_says_why(model: onnx.ModelProto, views: str, reason: str) -> None:
    plan = aarewrite.plan(model, plain(views))
    assert plan.warnings == (f"no views: {reason}",)
    assert not plan.changes


@pytest.mark.parametrize(
    ("extra", "kind", "dims", "reason"),
    [
        ("i = ArgMax<axis = 1, keepdims = 0>(y)", 7, [1], "i: the output is no float to average"),
        ("m = Relu(a)", 1, [1, 3, 6, 6], "m: the output is a map, which would have moved"),
    ],
)
def test_one_output_that_cannot_be_averaged_is_enough(extra: str, kind: int, dims: list[int], reason: str) -> None:
    model = net(f"y = Flatten(c)\n {extra}")
    model.graph.output.append(onnx.helper.make_tensor_value_info(extra[0], kind, dims))
    assert aarewrite.plan(model, plain("2")).warnings == (f"no views: {reason}",)


def test_one_value_has_no_probabilities() -> None:
    model = net("f = Flatten(c)\n y = ReduceMean<axes = [1]>(f)")
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    note = "no views: y: no logits of classes, so no probabilities"
    assert aarewrite.plan(model, plain("2", views_of="probabilities")).warnings == (note,)
    assert aarewrite.plan(model, plain("2")).changes


@pytest.mark.parametrize("views", ["3", "1,1", "0,0 1", "a,b c,d", "0;0 1;1", 2])
def test_other_texts_are_refused(views: Any) -> None:
    with pytest.raises(UsageError, match=r'views = .* is not "", 2, 4, or two shifts or more like "0,0 1,1"'):
        Recipe(views=views)


# ---- the proof and the command line ------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["logits", "probabilities"])
def test_the_proof_sees_a_copy_that_computes_something_else(of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = GraphEditor.copy

    def wrong(self: GraphEditor, node: Any, suffix: str, inputs: Any) -> Any:
        made = copy(self, node, suffix, inputs)
        if node.op == "Relu":
            made.op = "Tanh"
        return made

    monkeypatch.setattr(GraphEditor, "copy", wrong)
    with pytest.raises(aarewrite.CheckFailed, match="identity proof failed at tensor 'y'"):
        aarewrite.rewrite(net(), plain("2", views_of=of))


def test_on_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    model = SAMPLES / "resnet.onnx"
    done = aa("rewrite", model, "--skip", "*", "--views", "2", "-o", out)
    assert (done.status, done.err) == (0, "")
    assert "views of input (nchw), moved by (0, 0), (1, 1), are averaged: logits as it is" in done.words
    assert "(2.000x)" in done.words
    made = onnx.load(out)
    assert made.graph == rewritten(str(model), Recipe(), skip=["*"], views="2").graph
    (value,) = made.graph.input
    x = noise(*(d.dim_value or 2 for d in value.type.tensor_type.shape.dim))
    close(run(made, **{value.name: x})[0], each(onnx.load(model), x, [(0, 0), (1, 1)]).mean(0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--views-of", "logits"), "--views-of does nothing without --views"),
        (("--views", "2", "--plan", "p.json"), "--plan and --views exclude each other"),
        (("--views", "3"), "views = '3' is not"),
        (("--views", "2", "--views-of", "both"), "views_of = 'both' is not one of logits, probabilities"),
    ],
)
def test_wrong_options_are_refused(arguments: tuple[str, ...], message: str) -> None:
    done = aa("rewrite", SAMPLES / "resnet.onnx", *arguments)
    assert done.status == 2
    assert message in done.err
