"""Two plain views of a model as the yardstick for what costs as much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import aarewrite
from aarewrite.calibration.plain_views import DEAR, plain_views
from aarewrite.model.runtime import plain_session

SAMPLES = Path(__file__).parents[2] / "sample_models"


def test_both_pairs_are_the_mean_of_moved_images() -> None:
    original = onnx.load(SAMPLES / "resnet.onnx")
    found = plain_views(original)
    assert list(found) == ["0,0 1,1", "-5,-5 6,6"]
    image = np.random.default_rng(0).random((1, 1, 32, 32), np.float32)
    moved = np.pad(image, ((0, 0), (0, 0), (1, 0), (1, 0)), mode="reflect")[..., :-1, :-1]
    rows = [plain_session(original).run(None, {"input": one})[0] for one in (image, moved)]
    assert plain_session(found["0,0 1,1"]).run(None, {"input": image})[0] == pytest.approx(np.mean(rows, 0), abs=1e-4)


def test_a_model_that_cannot_be_given_them_has_none() -> None:
    assert plain_views(onnx.load(SAMPLES / "conv1d.onnx")) == {}


@pytest.mark.parametrize(("recipe", "dear"), [("calibrated", True), ("aligned", False)])
def test_a_dear_result_is_held_against_them(recipe: str, dear: bool) -> None:
    options = {} if dear else {"placement": "before"}
    result = aarewrite.calibrate(
        SAMPLES / "resnet.onnx", SAMPLES / "digits_eval.npz", recipe=recipe, preprocess="unit", limit=60, **options
    )
    assert ((result.cost or 0) >= DEAR) is dear
    told = result.to_dict()["plain_views"]
    assert isinstance(told, list)
    assert [one["moves"] for one in told] == (["0,0 1,1", "-5,-5 6,6"] if dear else [])
    verdict = result.outcome.verdict
    assert verdict is not None
    for _, against in result.outcome.beside:
        assert against.consistency.after == verdict.consistency.after
        assert against.consistency.n == verdict.consistency.n
