"""`--calibrate` on the sample models: what it prints and writes, limits, an interrupt, wrong requests."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import aarewrite

SAMPLES = Path(__file__).parents[2] / "sample_models"
DIGITS = SAMPLES / "digits_eval.npz"
DATA = ["--calibrate", DIGITS, "--preprocess", "unit"]
SIGNALS = ["--calibrate", SAMPLES / "signals_eval.npz", "--preprocess", "unit", "--limit", 40, "-q"]


def test_a_net_becomes_steadier_under_a_camera_and_stays_as_good(aa: Callable[..., Any], tmp_path: Path) -> None:
    out, report = tmp_path / "out.onnx", tmp_path / "out.json"
    model = SAMPLES / "mobilenet.onnx"
    ran = aa(model, "-o", out, *DATA, "--hold-out", 0.5, "--json", report, "--verbose")
    assert ran.status == 0, ran.err
    assert "judged on 200 held out by 5 pairs of camera views of each" in ran.out
    assert "node_linear" in ran.out
    assert not aarewrite.plan(out).changes  # a valid model, with its blurs recognised
    onnx.checker.check_model(onnx.load(out), full_check=True)
    verdict = json.loads(report.read_text())["calibration"]["verdict"]
    assert (verdict["images"], verdict["protocol"], verdict["judgement"]) == (200, "camera", "better")
    assert verdict["consistency"]["low"] > 0 > verdict["one_pixel"]["low"]
    assert verdict["crop_consistency"]["name"] == "crop consistency"
    assert verdict["top1"]["low"] > -1.0


def test_an_interrupt_is_one_line_and_writes_nothing(
    aa: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aarewrite.calibration.run.search", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    ran = aa(SAMPLES / "conv1d.onnx", "-o", tmp_path / "out.onnx", *SIGNALS, "--strength", "auto")
    assert ran == (130, "", "aarewrite: error: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_limit_that_fails_writes_nothing_unless_forced(aa: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    request = [SAMPLES / "conv1d.onnx", "-o", out, *SIGNALS, "--max-disagreement", "0"]
    ran = aa(*request)
    assert ran.status == 1
    assert ran.err.startswith("aarewrite: error: no difference shown on 13 samples held out: crop consistency +")
    assert "points; disagrees with the original on " in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert not out.exists()
    assert aa(*request, "--force").status == 0
    assert out.exists()


def test_a_searched_plan_holds_what_was_measured_and_can_be_applied_again(
    aa: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aarewrite.calibration.run.latency_ratio", lambda *_: 1.0)
    out, report, page = (tmp_path / name for name in ("out.onnx", "out.json", "out.html"))
    request = [SAMPLES / "conv1d.onnx", *SIGNALS, "--force"]
    ran = aa(
        *request, "-o", out, "--strength", "auto", "--only", "/7/Conv", "--only", "/10/Conv", "--filter", 3,
        "--budget", "3x", "--max-disagreement", "0.5", "--json", report, "--verify", SAMPLES / "signals_eval.npz",
        "--report", page,
    )  # fmt: skip
    assert ran.status == 0, ran.err
    table = json.loads(report.read_text())
    chosen = dict(table["calibration"]["chosen"])
    assert chosen.keys() == {"/7/Conv", "/10/Conv"}
    for site in table["sites"]:
        if site["node"] in chosen:
            taken = next(one for one in site["measured"] if one["choice"] == chosen[site["node"]])
            assert taken["noise"] < 1
            assert site["action"] != "keep" or any(site["node"] in stage["sites"] for stage in table["stages"])
    assert table["proof"]["passed"]
    assert "What was tried before choosing this" in page.read_text()
    # The plan, edited or not, leads to the same graph without the search.
    again = tmp_path / "again.onnx"
    ran = aa(*request, "-o", again, "--plan", report)
    assert ran.status == 0, ran.err
    first, second = (onnx.load(path) for path in (out, again))
    assert first.graph.node == second.graph.node
    assert aa(*request, "-o", again, "--plan", report, "--strength", "0.5").status == 2


def test_wrong_data_is_one_line(aa: Callable[..., Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "small.npz", x=np.zeros((20, 1, 8, 8), np.uint8))
    for data in (tmp_path / "absent", tmp_path, tmp_path / "small.npz"):
        ran = aa(SAMPLES / "resnet.onnx", "-o", tmp_path / "o.onnx", "--calibrate", data)
        assert ran.status in (2, 3)
        assert len(ran.err.strip().splitlines()) == 1
    assert aa(SAMPLES / "resnet.onnx", "--strength", "0.5").status == 2


def test_without_data_the_rewrite_names_the_remedy(aa: Callable[..., Any], tmp_path: Path) -> None:
    ran = aa(SAMPLES / "vgg.onnx", "-o", tmp_path / "o.onnx")
    assert "never trained with blur lose accuracy" in ran.err
    assert "--calibrate IMAGES" in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_noise_calibrates_and_judges_nothing(aa: Callable[..., Any], tmp_path: Path) -> None:
    model, out = SAMPLES / "resnet.onnx", tmp_path / "out.onnx"
    ran = aa(model, "-o", out, "--calibrate", "synthetic:30", "--force")
    assert ran.status == 2
    assert ran.err == (
        "aarewrite: error: --calibrate synthetic: noise fits weights to noise, and looks better by it; "
        "give photographs, or whatever the model sees\n"
    )
    ran = aa(model, "-o", out, *DATA, "--verify", "synthetic")
    assert ran.status == 2
    assert ran.err.startswith("aarewrite: error: --verify synthetic: noise is no judge of a calibrated model; ")
    assert not out.exists()


def test_wrong_preprocessing_writes_nothing_unless_forced(aa: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    request = [SAMPLES / "mobilenet.onnx", "-o", out, "--calibrate", DIGITS, "--preprocess", "raw255", "--limit", 60]
    ran = aa(*request)
    assert ran.status == 1
    assert "get class 8; what fits better: unit (" in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert not out.exists()
    ran = aa(*request, "--force")
    assert ran.status == 0
    assert "failed: the preprocessing looks wrong (raw255): 60 of 60 samples get class 8" in ran.out
