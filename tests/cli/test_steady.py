"""`aarewrite MODEL --steady DATA` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import aa, failed, files
from small_nets import phase_classifier, save, stripes

import aarewrite
from aarewrite.calibration.exposures import Exposures


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    onnx.save(phase_classifier(), tmp_path / "net.onnx")
    bright = np.random.default_rng(0).uniform(100, 255, (90, 1, 1, 1))
    save(tmp_path / "data.npz", x=(stripes(90) * bright).astype(np.uint8), labels=[0] * 90)
    monkeypatch.chdir(tmp_path)
    return tmp_path


ASKED = ("net.onnx", "--steady", "data.npz", "--preprocess", "unit")


def test_it_prints_the_frontier_and_writes_the_choice(home: Path) -> None:
    done = aa(*ASKED, "--budget", "50x", "--json", "found.json", "-o", "steady.onnx")
    assert (done.status, done.err) == (0, "")
    assert files(home) == {"net.onnx", "data.npz", "found.json", "steady.onnx"}
    found = json.loads((home / "found.json").read_text())
    assert found["chosen"] == "two views, (0,0) (1,1)"
    assert "chose two views, (0,0) (1,1), the steadiest of what is better" in done.words
    assert "half blur, repaired nothing to do in this model" in done.words
    far = found["confirmed"]["far"]
    assert f"far {far['before']:.1f} -> {far['after']:.1f}, {far['change']:+.2f}" in done.words
    expected = aarewrite.rewrite("net.onnx", skip=["*"], views="2").model
    assert onnx.load(home / "steady.onnx").graph == expected.graph


def test_without_a_gain_nothing_is_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aarewrite.calibration.steady.latency_ratio", lambda *_: 1.5)  # small nets' own is noise
    done = aa(*ASKED, "--budget", "1x", "--json", "found.json")
    assert done.status == 1
    assert done.err.startswith("aarewrite: error: no candidate within 1.00x is shown to be steadier on 27 images; ")
    assert "nothing was written: give more images, a larger --budget or --minutes\n" in done.err
    assert "takes 1.50x the time, over 1.00x" in done.words
    assert not (home / "net.aa.onnx").exists()


def test_an_interrupted_run_says_how_to_go_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, calls = Exposures.of, []

    def stopped(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(Exposures, "of", stopped)
    done = aa(*ASKED, "--budget", "50x")
    assert done.status == 130
    assert "net.aa.steady.json holds what was measured; the same command goes on from there" in done.err
    assert aa(*ASKED, "--budget", "50x").status == 0
    assert files(home) == {"net.onnx", "data.npz", "net.aa.onnx"}


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (["--calibrate", "data.npz"], ["--calibrate", "--steady"]),
        (["--views", "2"], ["--views", "--steady"]),
        (["--dry-run"], ["--dry-run", "--steady"]),
        (["--strength", "auto"], ["--strength", "--calibrate"]),
        (["--budget", "cheap"], ["--budget 'cheap' is not a cost"]),
        (["--json", "net.onnx"], ["net.onnx"]),
        (["-o", "data.npz"], ["data.npz"]),
        (["--minutes", "0"], ["--minutes"]),
    ],
)
def test_wrong_requests(options: list[str], texts: list[str], home: Path) -> None:
    before = {name: (home / name).read_bytes() for name in files(home)}
    failed(aa(*ASKED, *options), 2, *texts)
    assert {name: (home / name).read_bytes() for name in files(home)} == before


def test_minutes_mean_nothing_alone(home: Path) -> None:
    failed(aa("net.onnx", "--minutes", "3"), 2, "--minutes", "--steady")
