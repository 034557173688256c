"""`aarewrite distill` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import aa, failed, files
from small_nets import phase_classifier, save, stripes

ASKED = ("distill", "net.onnx", "--data", "data.npz", "--preprocess", "unit", "--minutes", "0.02", "--hold-out", "0.5")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    onnx.save(phase_classifier(), tmp_path / "net.onnx")
    save(tmp_path / "data.npz", x=(stripes(40) * 255).astype(np.uint8), labels=[0] * 40)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_result_that_is_not_better_is_printed_and_written_by_force_alone(home: Path) -> None:
    pytest.importorskip("torch")
    done = aa(*ASKED)
    assert done.status == 1
    assert "aarewrite: error: no difference shown on 20 samples held out: far agreement" in done.err
    assert "nothing was written: give more images or --minutes, or --force" in done.err
    assert "weights fitted to the average of 16 exposures of each of 20 samples of" in done.words
    assert "judged on 20 held out by 16 pairs of camera views of each" in done.words
    assert files(home) == {"net.onnx", "data.npz", "net.distilled.distill.pt"}
    done = aa(*ASKED, "--force", "-o", "out.onnx", "--json", "found.json")
    assert (done.status, done.err) == (0, "")
    assert done.out.endswith("wrote out.onnx\n")
    assert onnx.load("out.onnx").graph.node == onnx.load("net.onnx").graph.node
    assert "out.distill.pt" not in files(home)
    assert json.loads((home / "found.json").read_text())["better"] is False


@pytest.mark.parametrize(
    ("more", "status", "says"),
    [
        (("--minutes", "0"), 2, "--minutes"),
        (("--device", "tpu"), 2, "--device tpu: unknown"),
        (("-o", "net.onnx"), 2, "-o"),
        (("--teacher", "absent.onnx"), 2, "absent.onnx"),
        (("--filter", "3"), 2, "--filter"),
    ],
)
def test_wrong_requests_are_one_line(home: Path, more: tuple[str, ...], status: int, says: str) -> None:
    if more[0] == "--device":
        pytest.importorskip("torch")
    failed(aa(*ASKED, *more), status, says)
    assert files(home) == {"net.onnx", "data.npz"}
