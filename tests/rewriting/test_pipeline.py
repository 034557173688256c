"""The whole way, on values: plan, rewrite and read_plan, and what is wrong with their arguments."""

from __future__ import annotations

import json
from collections.abc import Callable

import onnx
import pytest
from reference import POOL, build, function, functions, ops
from stages import TWO_POOLS, three_sites

import aarewrite
from aarewrite.recipe import Recipe
from aarewrite.rewriting import pipeline
from aarewrite.rewriting.pipeline import Options, claim, read_plan, recipe_options


@pytest.fixture
def model() -> onnx.ModelProto:
    return three_sites()


@pytest.mark.parametrize("recipe", ["aligned", "zhang2019", "zhang2019-resnet", "timm", "composer"])
def test_json_round_trip_gives_the_same_model(model: onnx.ModelProto, recipe: str) -> None:
    planned = aarewrite.plan(model, recipe=recipe, first_conv=True, filter=3)
    table = json.loads(planned.to_json())
    direct = aarewrite.rewrite(model, recipe=recipe, first_conv=True, filter=3)
    applied = aarewrite.rewrite(model, plan=table)
    assert applied.plan == direct.plan
    assert applied.model.SerializeToString() == direct.model.SerializeToString()
    assert planned.apply(model).SerializeToString() == direct.model.SerializeToString()
    assert aarewrite.rewrite(model, plan=planned).model.SerializeToString() == direct.model.SerializeToString()


@pytest.mark.parametrize("window", ["2", 2, "keep"])
def test_max_window_option(window: int | str) -> None:
    stem, _ = aarewrite.plan(build(TWO_POOLS), max_window=window).sites
    assert stem.match is not None
    assert stem.match.window.kernel == ((3, 3) if window == "keep" else (2, 2))
    assert stem.match.proven is (window == "keep")


@pytest.mark.parametrize("options", [{"max_window": "big"}, {"max_window": 0}, {"placement": "around"}, {"filter": 8}])
def test_wrong_options_are_usage_errors(options: dict[str, str]) -> None:
    with pytest.raises(aarewrite.UsageError, match=str(next(iter(options.values())))):
        aarewrite.plan(build(TWO_POOLS), **options)


def test_one_glob_needs_no_list() -> None:
    model = build(TWO_POOLS)
    for option in ("only", "skip"):
        assert aarewrite.plan(model, **{option: "*pool"}) == aarewrite.plan(model, **{option: ["*pool"]})
    assert not aarewrite.plan(model, skip="*").rewrites


NAMES = ", ".join(sorted(Options.__optional_keys__))


@pytest.mark.parametrize("call", [aarewrite.plan, aarewrite.rewrite])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"placement": "around"}, "placement 'around' is not one of after, before"),
        ({"max_window": "big"}, "max_window 'big' is neither keep nor a window size"),
        ({"max_window": 0}, "max_window 0 is neither keep nor a window size"),
        ({"filter": 8}, "recipe aligned: filter = 8 is not one of 1, 2, 3, 4, 5, 6, 7"),
        ({"pad": "wrap"}, "recipe aligned: pad = 'wrap' is not one of reflect, edge, zero"),
        ({"first_conv": 1}, "recipe aligned: first_conv = 1 is not true or false"),
        ({"only": ["nothing"]}, "--only 'nothing' matches no node; the model's sites are pool1, conv1, pool2 ..."),
        ({"input_shapes": {"z": (1,)}}, "--input z: the model has no such input; it has x"),
        ({"recipe": "blurry"}, "no recipe 'blurry'; choose one of aligned,"),
        ({"filtr": 5}, f"unknown option 'filtr'; known are {NAMES}"),
    ],
)
def test_wrong_arguments_are_said(
    model: onnx.ModelProto, call: Callable[..., object], options: dict[str, object], message: str
) -> None:
    with pytest.raises(aarewrite.UsageError) as caught:
        call(model, **options)
    assert message in str(caught.value)


def test_options_go_before_the_recipe_and_none_leaves_it() -> None:
    recipe = Recipe(name="mine", filter=5, pad="edge", conv="before", first_conv=True, max_window=3)
    none = Options(filter=None, pad=None, placement=None, first_conv=None, max_window=None)
    assert recipe_options(recipe, none) == recipe_options(recipe, {}) == recipe
    given = Options(filter=2, pad="zero", placement="after", first_conv=False, max_window="2")
    asked = recipe_options(recipe, given)
    assert asked == Recipe(name="mine", filter=2, pad="zero", conv="after", first_conv=False, max_window=2)
    assert recipe_options(recipe, {"max_window": "keep"}).max_window == 0


# ---- plan, rewrite, read_plan ------------------------------------------------------------------------------


def test_a_rewrite_does_what_the_plan_says(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    planned = aarewrite.plan(model, first_conv=True)
    result = aarewrite.rewrite(model, first_conv=True)
    assert result.plan == planned
    assert result.changed
    assert result.model is result.model
    assert result.model.SerializeToString() == planned.apply(model).SerializeToString()
    assert model.SerializeToString() == before


def test_read_plan_gives_the_plan_back(model: onnx.ModelProto) -> None:
    for options in ({}, {"recipe": "zhang2019", "first_conv": True}, {"skip": ["pool*"], "filter": 5}):
        planned = aarewrite.plan(model, **options)
        assert read_plan(model, planned.to_dict()) == planned
        assert read_plan(model, json.loads(planned.to_json())) == planned


def test_from_dict_reads_a_plan_back(model: onnx.ModelProto) -> None:
    """As a value, too: `Plan.to_dict` names `rewrite` as its inverse."""
    planned = aarewrite.plan(model)
    assert aarewrite.rewrite(model, plan=planned.to_dict(), verify=False).plan == planned
    assert aarewrite.rewrite(model, plan=planned, verify=False).plan is planned


def test_given_shapes_travel_with_the_plan() -> None:
    model = build(
        """(float[1, 2, H, W] x) => (float[] y) {
        [pool] y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER">(x)
    }"""
    )
    assert not aarewrite.plan(model).changes
    planned = aarewrite.plan(model, input_shapes={"x": [1, 2, 8, 6]})
    assert planned.input_shapes == {"x": (1, 2, 8, 6)}
    result = aarewrite.rewrite(model, plan=planned.to_dict())
    assert result.plan == planned
    assert ops(result.model) == ["MaxPool", "Pad", "Conv"]


def test_the_plan_of_a_rewrite_without_sites_leaves_the_model(model: onnx.ModelProto) -> None:
    result = aarewrite.rewrite(model, skip=["*"])
    assert (result.changed, result.proof, result.warnings) == (False, None, ())
    assert result.model.SerializeToString() == model.SerializeToString()
    assert result.report["changed"] is False


def test_the_report_is_the_plan_and_the_proof(model: onnx.ModelProto) -> None:
    result = aarewrite.rewrite(model)
    assert result.proof is not None
    kept = [{"node": one, "form": "", "comparisons": ()} for one in ("pool1/blur/Conv", "pool2/blur/Conv")]
    more = {"changed": True, "proof": result.proof.to_dict(), "lowering": kept, "model_warnings": []}
    assert result.report == result.plan.to_dict() | more
    assert aarewrite.rewrite(model, verify=False).report == result.plan.to_dict() | more | {"proof": None}


def test_what_is_wrong_with_the_original_is_a_warning(model: onnx.ModelProto) -> None:
    model.graph.node.add(op_type="NoSuchOperator", name="odd", input=["a"], output=["odd"])
    (warning,) = aarewrite.rewrite(model, verify=False).warnings
    assert warning.startswith("the original already fails onnx.checker: No Op registered for NoSuchOperator")


def test_a_failed_proof_is_an_error_and_the_proof_is_left_out_on_request(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A twin that is the rewritten model itself: it blurs, so that it does not equal the original."""
    original = pipeline.applied
    monkeypatch.setattr(pipeline, "applied", lambda plan, model, twin=False: original(plan, model))
    with pytest.raises(aarewrite.CheckFailed, match=r"identity proof failed at tensor 'a'.*; nothing was written"):
        aarewrite.rewrite(model)
    assert aarewrite.rewrite(model, verify=False).proof is None


def test_the_claim_names_what_is_blurred_and_what_is_outside_the_proof() -> None:
    model = three_sites(32)
    told = claim(aarewrite.plan(model, "zhang2019-resnet", first_conv=True))
    assert told.watched == ("a", "c", "y")
    assert told.unproven == ("pool1", "pool2")  # a smaller window, a blur in its place
    assert not told.in_branches
    told = claim(aarewrite.plan(model, first_conv=True, only=["conv1"]))
    assert (told.watched, told.unproven) == (("c",), ())
    inside = functions("y = f.Down(x)", function("Down", POOL))
    told = claim(aarewrite.plan(inside))
    assert (told.watched, told.in_branches) == ((), True)
