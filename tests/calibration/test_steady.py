"""Choosing the steadiest version by measurement: the choice, its confirmation, limits, and going on after a stop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_nets import parse, phase_classifier, save, stripes, subsample_map

import aarewrite
import aarewrite.calibration.steady as steady_module
from aarewrite.calibration.exposures import Exposures
from aarewrite.calibration.frontier import candidates
from aarewrite.calibration.steady import Steady, steady
from aarewrite.errors import CannotHandle, UsageError

NAMES = [candidate.name for candidate in candidates() if not candidate.opt_in]
PLENTY = 50  # budget: times of such small models say nothing


@pytest.fixture
def data(tmp_path: Path) -> str:
    bright = np.random.default_rng(0).uniform(100, 255, (90, 1, 1, 1))
    return save(tmp_path / "stripes.npz", x=(stripes(90) * bright).astype(np.uint8), labels=[0] * 90)


def found(data: str, **options: object) -> Steady:
    return steady(phase_classifier(), data, **{"preprocess": "unit", "budget": PLENTY} | options)


def test_the_steadiest_is_chosen_and_confirmed_on_other_images(data: str) -> None:
    result = found(data)
    assert [row.name for row in result.rows] == NAMES
    assert result.chosen is not None
    assert result.chosen.name == "two views, (0,0) (1,1)"
    assert result.chosen.gain == max(row.gain for row in result.rows)
    assert result.images == (36, 27, 27)
    assert result.confirmed is not None
    assert result.confirmed.far.n == 27
    assert result.failures == ()
    assert result.model is not None
    assert result.model.graph == aarewrite.rewrite(phase_classifier(), skip=["*"], views="2").model.graph
    table = json.loads(json.dumps(result.to_dict()))
    assert table["chosen"] == result.chosen.name
    assert table["better"] is True
    assert table["confirmed"]["far"]["low"] > 0
    assert len(table["candidates"]) == len(NAMES)


def test_a_loss_of_top1_is_no_choice(data: str, tmp_path: Path) -> None:
    labelled = save(tmp_path / "labelled.npz", x=np.load(data)["x"], labels=[1] * 90)
    result = found(labelled)
    better = [row for row in result.rows if row.changes and row.says == "better"]
    assert better
    assert all(row.changes and row.changes.top1 and row.changes.top1.change < -0.5 for row in better)
    assert result.chosen is None
    doubt, why = result.failures
    assert doubt.endswith(
        "0 of 64 labels fit, as by chance; what fits better: labels moved by -1 with label_offset (64 of 64 fit)"
    )
    assert why == "no candidate within 50.00x is shown to be steadier on 27 images"


def test_what_takes_too_long_is_not_measured(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aarewrite.calibration.steady.latency_ratio", lambda *_: 1.5)
    result = found(data, budget="1.4x")
    assert {row.says for row in result.rows if row.latency} == {"takes 1.50x the time, over 1.40x"}
    assert all(row.changes is None for row in result.rows)


def test_a_stopped_run_goes_on(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, measured = tmp_path / "kept.json", []
    plain = Exposures.of

    def counted(views: Exposures, *arguments: object) -> object:
        measured.append(1)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return plain(views, *arguments)

    monkeypatch.setattr(Exposures, "of", counted)
    with pytest.raises(KeyboardInterrupt):
        found(data, resume=kept)
    assert set(json.loads(kept.read_text())["rows"]) == {"untouched", "two views, (0,0) (1,1)"}
    went_on = found(data, resume=kept)
    assert len(measured) == 3 + 2 + 2  # two candidates were left, and two models are confirmed
    whole = found(data)
    assert [(row.name, row.changes) for row in went_on.rows] == [(row.name, row.changes) for row in whole.rows]
    assert went_on.confirmed == whole.confirmed
    before = len(measured)
    found(data, resume=kept, seed=1)  # another request: nothing of the file is taken
    assert len(measured) == before + 1 + 3 + 2


def test_a_file_that_cannot_be_resumed_is_refused(data: str, tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text("{")
    with pytest.raises(UsageError, match=r"kept\.json: not valid JSON .*; it cannot be resumed"):
        found(data, resume=tmp_path / "kept.json")


def test_time_that_is_over(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="not even the original was measured"):
        found(data, minutes=1e-9)
    clock, plain, calls = steady_module.time.monotonic, Exposures.of, []

    def counted(views: Exposures, *arguments: object) -> object:
        calls.append(1)
        return plain(views, *arguments)

    monkeypatch.setattr(Exposures, "of", counted)
    monkeypatch.setattr(steady_module.time, "monotonic", lambda: clock() + (3600 if len(calls) == 3 else 0))
    result = found(data)
    outcomes = {row.name: row.says for row in result.rows}
    assert outcomes["two views, (0,0) (1,1)"] == "better"
    assert outcomes["two views, (-5,-5) (6,6)"] == "not measured: the time was over"
    assert outcomes["half blur"] == "nothing to do in this model"
    assert result.chosen is not None


def test_what_shows_nothing_is_refused(data: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="29 images show nothing; give at least 30"):
        found(data, limit=29)
    with pytest.raises(UsageError, match="synthetic noise is no picture"):
        found("synthetic:64")
    floats = save(tmp_path / "floats.npz", x=stripes(60))
    with pytest.raises(UsageError, match="no pictures"):
        found(floats, preprocess="none")
    with pytest.raises(CannotHandle, match="no vector of classes"):
        steady(subsample_map(), data, preprocess="unit")
    with pytest.raises(UsageError, match="--minutes 0: no time"):
        found(data, minutes=0)


def test_a_candidate_that_cannot_be_repaired_leaves_the_others(data: str) -> None:
    quantised = parse("""
    quantised (float[N,1,16,16] x) => (float[N,2] logits)
    <float[1,1,1,1] w = {1}, float s = {0.01}, uint8 z = {0}, float[2,1,1,1] head = {0, 1}, float[2] bias = {0.5, 0}> {
        seen = Conv(x, w)
        bytes = QuantizeLinear(seen, s, z)
        back = DequantizeLinear(bytes, s, z)
        kept = MaxPool<kernel_shape = [1, 1], strides = [2, 2]>(back)
        mean = GlobalAveragePool(kept)
        scores = Conv(mean, head, bias)
        logits = Flatten(scores)
    }""")
    result = steady(quantised, data, preprocess="unit", budget=PLENTY)
    outcomes = {row.name: row.says for row in result.rows}
    assert "the model is quantised" in outcomes["half blur, repaired"]
    assert outcomes["two views, (0,0) (1,1)"] == "better"
    assert result.chosen is not None
