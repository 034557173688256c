"""The candidates for the steadiest version, and building them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from reference import build as net
from reference import weight

from aarewrite.calibration.frontier import Built, Candidate, build, candidates
from aarewrite.calibration.problem import RepairOptions
from aarewrite.data.arrays import Batches
from aarewrite.model.runtime import plain_session
from aarewrite.recipe import load_recipe

SHAPES = {"x": (1, 2, 24, 24)}
BY_NAME = {candidate.name: candidate for candidate in candidates()}


@pytest.fixture
def model() -> onnx.ModelProto:
    return net(
        """(float[N, 2, 24, 24] x) => (float[N, 3] y) {
        [first] a = Conv<pads = [1, 1, 1, 1]>(x, w)
        [relu] b = Relu(a)
        [strided] c = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(b, v)
        [relu2] d = Relu(c)
        [mean] e = GlobalAveragePool(d)
        [flat] f = Flatten(e)
        [head] y = Gemm(f, h)
    }""",
        w=weight(4, 2, 3, 3),
        v=weight(4, 4, 3, 3),
        h=weight(4, 3),
    )


def batches() -> Batches:
    rng = np.random.default_rng(0)
    data = [{"x": rng.standard_normal((8, 2, 24, 24)).astype(np.float32)} for _ in range(4)]
    return lambda: data


def test_every_candidate_is_a_recipe_of_its_own() -> None:
    assert len(BY_NAME) == len(candidates()) > 8
    for candidate in candidates():
        assert load_recipe("aligned").with_options(**candidate.recipe) != load_recipe("aligned") or candidate.repair
        load_recipe("aligned").with_options(**candidate.then)
    assert [candidate.name for candidate in candidates() if candidate.opt_in] == [
        "windowed sinc, half, repaired",
        "anchor in place",
    ]


@pytest.mark.parametrize("name", [name for name, candidate in BY_NAME.items() if not candidate.opt_in])
def test_each_is_built_or_says_why_not(name: str, model: onnx.ModelProto) -> None:
    made = build(BY_NAME[name], model, batches(), SHAPES, RepairOptions(), verify=True)
    assert isinstance(made, Built), made
    assert made.cost is None or made.cost >= 1
    rows = plain_session(made.model).run(None, next(iter(batches()())))[0]
    assert rows.shape == (8, 3)


def test_what_follows_the_repair_is_done_to_the_repaired_model(model: onnx.ModelProto) -> None:
    both = Candidate("both", {"strength": 0.5}, repair=True, then={"views": "2"})
    alone = Candidate("alone", {"strength": 0.5}, repair=True)
    first, then = (build(one, model, batches(), SHAPES, RepairOptions()) for one in (alone, both))
    assert isinstance(first, Built)
    assert isinstance(then, Built)
    assert then.cost == pytest.approx(2 * (first.cost or 0), rel=1e-3)
    feed = next(iter(batches()()))
    moved = {"x": np.pad(feed["x"], ((0, 0), (0, 0), (1, 0), (1, 0)), mode="reflect")[:, :, :-1, :-1]}
    rows = [plain_session(first.model).run(None, one)[0] for one in (feed, moved)]
    assert plain_session(then.model).run(None, feed)[0] == pytest.approx(np.mean(rows, axis=0), abs=1e-4)


def test_a_model_without_sites_is_left_with_a_reason() -> None:
    flat = net("(float[N, 2, 24, 24] x) => (float[N, 2, 1, 1] y) { [mean] y = GlobalAveragePool(x) }")
    assert build(BY_NAME["half blur"], flat, None, SHAPES, RepairOptions()) == "nothing to do in this model"
    assert "KEY" in str(build(Candidate("odd", {"views": "KEY"}), flat, None, SHAPES, RepairOptions()))
