"""Plans as values: printed, saved, edited, applied; globs; what is wrong with a plan is said by name."""

from __future__ import annotations

import json
from typing import Any

import onnx
import pytest
from reference import build, node, ops, weight

import aarewrite

TEXT = """(float[1, 2, 33, 33] x) => (float[] y) {
    [pool1] a = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)
    [conv1] b = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(a, w)
    [relu] c = Relu(b)
    [pool2] y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(c)
}"""


@pytest.fixture
def model() -> onnx.ModelProto:
    return build(TEXT, w=weight(4, 2, 3, 3))


@pytest.fixture
def table(model: onnx.ModelProto) -> dict[str, Any]:
    return dict(json.loads(aarewrite.plan(model, first_conv=True).to_json()))


def site(table: dict[str, Any], name: str) -> dict[str, Any]:
    return next(dict_ for dict_ in table["sites"] if dict_["node"] == name)


def test_a_plan_says_everything(table: dict[str, Any]) -> None:
    assert table["format"] == 2
    assert table["aarewrite"] == aarewrite.__version__
    assert table["recipe"]["name"] == "aligned"
    assert [entry["node"] for entry in table["sites"]] == ["pool1", "conv1", "pool2"]
    conv = site(table, "conv1")
    assert conv["input_size"] == [17, 17]
    assert conv["output_size"] == [9, 9]
    assert conv["stride_so_far"] == [2, 2]
    assert conv["macs"] == {"before": 9 * 9 * 4 * 2 * 9, "after": 17 * 17 * 4 * 2 * 9 + 9 * 9 * 4 * 9}
    assert conv["proven"] is True
    assert table["macs"]["after"] > table["macs"]["before"] > 0


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


def test_from_dict_reads_a_plan_back(model: onnx.ModelProto) -> None:
    """`Plan.to_dict` names it as its inverse."""
    assert "Plan.from_dict" not in (aarewrite.Plan.to_dict.__doc__ or "") or hasattr(aarewrite.Plan, "from_dict")


def test_apply_leaves_its_argument_and_checks(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    result = aarewrite.plan(model).apply(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(result, full_check=True)


def test_an_edited_plan_is_applied(model: onnx.ModelProto, table: dict[str, Any]) -> None:
    site(table, "pool1").update(action="keep", reason="the stem is fine")
    site(table, "conv1").update(filter=5, pad="zero")
    table["sites"] = [entry for entry in table["sites"] if entry["node"] != "pool2"]
    result = aarewrite.rewrite(model, plan=table)
    assert [(p.site.node, p.action, p.reason) for p in result.plan.sites] == [
        ("pool1", "keep", "the stem is fine"),
        ("conv1", "blur", ""),
        ("pool2", "keep", "not in the plan"),
    ]
    assert ops(result.model) == ["MaxPool", "Conv", "Relu", "Conv", "AveragePool"]
    blur = node(result.model, "conv1/blur/Conv")
    taps = next(t for t in result.model.graph.initializer if t.name == blur.input[1])
    assert list(taps.dims) == [4, 1, 5, 5]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"filter": 8}, "plan: conv1: filter = 8 is not one of 1, 2, 3, 4, 5, 6, 7"),
        ({"filter": True}, "plan: conv1: filter = True"),
        ({"filter": None}, "plan: conv1: filter = None"),
        ({"filter": [3]}, "plan: conv1: filter = [3]"),
        ({"pad": "wrap"}, "plan: conv1: pad = 'wrap' is not one of reflect, edge, zero"),
        ({"action": "sharpen"}, "plan: conv1: action = 'sharpen' is not one of blur, keep"),
        ({"placement": "input"}, "plan: conv1: only a 1x1 conv can be blurred on its input instead of behind it"),
        ({"placement": "instead"}, "plan: conv1: only an AveragePool can be replaced by a blur"),
        ({"placement": "around"}, "plan: conv1: placement = 'around' is not one of"),
        ({"max_window": 2}, "plan: conv1: only a MaxPool has a window that can shrink"),
        ({"max_window": -1}, "plan: conv1: max_window = -1 is not a whole number"),
        ({"keep_stride": 3}, "plan: conv1: stride 2x2 cannot be split into 3 and a blur"),
        ({"keep_stride": "2"}, "plan: conv1: keep_stride = '2' is not a whole number"),
        ({"every_axis": 1}, "plan: conv1: every_axis = 1"),
        ({"node": "conv7"}, "plan: site 'conv7' is not in this model"),
        ({"scope": "If/then_branch"}, "plan: site 'conv1' is not in this model"),
    ],
)
def test_wrong_edits_name_the_node(
    model: onnx.ModelProto, table: dict[str, Any], edit: dict[str, Any], message: str
) -> None:
    site(table, "conv1").update(edit)
    with pytest.raises(aarewrite.UsageError) as caught:
        aarewrite.rewrite(model, plan=table)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"format": 3, "sites": []},
        {"format": 2, "sites": [], "stages": 3},
        {"format": 2, "sites": [], "stages": [{"do": "sharpen", "sites": ["conv1"]}]},
        {"format": 2, "sites": [], "stages": [{"do": "second phase", "sites": "conv1"}]},
        {"format": 1},
        {"format": 1, "sites": {}},
        {"format": 1, "sites": [3]},
        {"format": 1, "sites": [{"filter": 3}]},
        {"format": 1, "sites": [], "recipe": {"filter": 9}},
        {"format": 1, "sites": [], "recipe": 3},
        {"format": 1, "sites": [], "recipe": [1]},
        {"format": 1, "sites": [], "input_shapes": 3},
        {"format": 1, "sites": [], "input_shapes": {"x": 3}},
        {"format": 1, "sites": [], "input_shapes": {"x": ["a"]}},
        {"format": 1, "sites": [], "input_shapes": {"z": [1]}},
    ],
)
def test_malformed_plans_are_usage_errors(model: onnx.ModelProto, table: dict[str, Any]) -> None:
    with pytest.raises(aarewrite.UsageError):
        aarewrite.rewrite(model, plan=table)


def test_a_plan_for_another_model(table: dict[str, Any]) -> None:
    other = build(
        "(float[1, 2, 9, 9] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    with pytest.raises(aarewrite.UsageError, match="plan: site 'pool1' is not in this model"):
        aarewrite.rewrite(other, plan=table)
    with pytest.raises(aarewrite.UsageError, match="plan: site 'pool1' is not in this model"):
        aarewrite.plan(build(TEXT, w=weight(4, 2, 3, 3))).apply(other)


def test_a_plan_of_a_kept_obstacle_cannot_be_forced() -> None:
    model = build(
        "(float[1, 2, 8, 8] x) => (float[] y, int64[] i) "
        "{ [pool] y, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    table = json.loads(aarewrite.plan(model).to_json())
    table["sites"][0].update(action="blur", placement="after")
    with pytest.raises(aarewrite.UsageError, match="plan: pool: its Indices output is used"):
        aarewrite.rewrite(model, plan=table)


# ---- globs -------------------------------------------------------------------------------------------------


def rewritten(model: onnx.ModelProto, **options: Any) -> list[str]:
    return [p.site.node for p in aarewrite.plan(model, first_conv=True, **options).rewrites]


def test_only_and_skip(model: onnx.ModelProto) -> None:
    assert rewritten(model) == ["pool1", "conv1", "pool2"]
    assert rewritten(model, only=["pool*"]) == ["pool1", "pool2"]
    assert rewritten(model, skip=["pool*"]) == ["conv1"]
    assert rewritten(model, only=["*1"], skip=["conv?"]) == ["pool1"]
    assert rewritten(model, only=["pool[2]", "conv1"]) == ["conv1", "pool2"]
    reasons = {p.site.node: p.reason for p in aarewrite.plan(model, only=["pool1"], first_conv=True).sites}
    assert reasons == {"pool1": "", "conv1": "not selected by --only", "pool2": "not selected by --only"}
    (_, second, _) = aarewrite.plan(model, skip=["conv1"], first_conv=True).sites
    assert second.reason == "left out by --skip"


@pytest.mark.parametrize("option", ["only", "skip"])
def test_globs_that_match_nothing(model: onnx.ModelProto, option: str) -> None:
    with pytest.raises(
        aarewrite.UsageError, match=rf"--{option} 'Pool\*' matches no node; the model's sites are pool1"
    ):
        aarewrite.plan(model, **{option: ["Pool*"]})  # type: ignore[arg-type]


@pytest.mark.parametrize("glob", ["conv1", "pool1"])
def test_a_second_run_with_only_changes_nothing(model: onnx.ModelProto, glob: str) -> None:
    first = aarewrite.rewrite(model, only=[glob], first_conv=True)
    second = aarewrite.rewrite(first.model, only=[glob], first_conv=True)
    assert not second.changed


def test_even_filters_beside_unblurred_branches_are_warned_about() -> None:
    model = build(
        """(float[1, 2, 16, 16] x) => (float[] y) {
        [first] a = Conv(x, w0)
        [main] b = Conv<strides = [2, 2]>(a, w)
        [shortcut] c = Conv<strides = [2, 2]>(a, w)
        y = Add(b, c)
    }""",
        w0=weight(2, 2, 1, 1),
        w=weight(2, 2, 1, 1),
    )
    assert aarewrite.plan(model, filter=4).warnings == ()
    (warning,) = aarewrite.plan(model, filter=4, skip=["shortcut"]).warnings
    assert warning.startswith("y: the branches that meet here are blurred with filters of different parity")
    assert aarewrite.plan(model, filter=3, skip=["shortcut"]).warnings == ()


def test_input_shapes() -> None:
    model = build(
        "(float[N, 2, H, W] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    assert aarewrite.plan(model).sites[0].site.input_size == (None, None)
    assert aarewrite.plan(model, input_shapes={"x": (1, 2, 8, 6)}).sites[0].site.input_size == (8, 6)
    with pytest.raises(aarewrite.UsageError, match="--input z: the model has no such input; it has x"):
        aarewrite.plan(model, input_shapes={"z": (1, 2, 8, 6)})
    for wrong in ((1, 3, 8, 6), (1, 2, 8)):
        with pytest.raises(aarewrite.UsageError, match=r"--input x: 1x.* contradicts \?x2x\?x\?"):
            aarewrite.plan(model, input_shapes={"x": wrong})


def test_a_kept_site_carries_what_the_recipe_would_do(model: onnx.ModelProto) -> None:
    """Flipping "keep" to "blur" in a plan gives the recipe's rewrite, not some default."""
    table = aarewrite.plan(model, recipe="zhang2019", skip=["conv1"], first_conv=True).to_dict()
    kept = site(table, "conv1")
    assert (kept["action"], kept["filter"], kept["pad"]) == ("keep", 4, "reflect")
    kept["action"] = "blur"
    edited = aarewrite.rewrite(model, plan=table).model
    whole = aarewrite.rewrite(model, recipe="zhang2019", first_conv=True).model
    assert [node.SerializeToString() for node in edited.graph.node] == [n.SerializeToString() for n in whole.graph.node]


@pytest.mark.parametrize(
    ("change", "message"), [({"fliter": 5}, "conv1: unknown key 'fliter'"), ({"action": None}, 'conv1: no "action"')]
)
def test_misspelt_plan_entries_are_refused(
    model: onnx.ModelProto, table: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    entry = site(table, "conv1")
    entry.update(change)
    for key in [key for key, value in change.items() if value is None]:
        del entry[key]
    with pytest.raises(aarewrite.UsageError) as caught:
        aarewrite.rewrite(model, plan=table)
    assert message in str(caught.value)


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


def test_branches_are_followed_through_the_layers_behind_the_blur() -> None:
    """conv s2, Relu, conv against a strided shortcut: the half pixel is still there at the Add."""
    model = build(
        """(float[1, 2, 16, 16] x) => (float[] y) {
        [first] a = Conv(x, w)
        [main] b = Conv<strides = [2, 2]>(a, w)
        r = Relu(b)
        [next] n = Conv(r, w)
        [shortcut] c = Conv<strides = [2, 2]>(a, w)
        [sum] y = Add(n, c)
    }""",
        w=weight(2, 2, 1, 1),
    )
    assert aarewrite.plan(model, filter=4).warnings == ()
    (warning,) = aarewrite.plan(model, filter=4, skip=["shortcut"]).warnings
    assert warning.startswith("sum: ")
