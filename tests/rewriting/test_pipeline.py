"""The whole way, on values: plan, rewrite and read_plan, and what is wrong with their arguments."""

from __future__ import annotations

import json

import onnx
import pytest
from reference import build
from stages import TWO_POOLS, three_sites

import aarewrite


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
        aarewrite.plan(build(TWO_POOLS), **options)  # type: ignore[arg-type]
