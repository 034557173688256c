"""Plans as values: printed, saved, edited, applied; globs; what is wrong with a plan is said by name."""

from __future__ import annotations

import json
from typing import Any

import onnx
import pytest
from reference import node, ops
from stages import three_sites

import aarewrite


@pytest.fixture
def model() -> onnx.ModelProto:
    return three_sites()


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
        {"format": 2, "sites": [], "stages": [{"do": "a trous", "sites": "conv1"}]},
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
