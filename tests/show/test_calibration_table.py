"""A calibration as printed, in a pipe and in a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import aa

SAMPLES = Path(__file__).parents[2] / "sample_models"


@pytest.mark.parametrize("columns", [0, 70])
def test_layers_and_judgement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    if columns:
        for name, value in (("FORCE_COLOR", "1"), ("NO_COLOR", "1"), ("COLUMNS", str(columns))):
            monkeypatch.setenv(name, value)
    done = aa(
        SAMPLES / "conv1d.onnx", "-o", tmp_path / "o.onnx", "--calibrate", SAMPLES / "signals_eval.npz", "--preprocess",
        "unit", "--limit", 60, "--force", "--verbose",
    )  # fmt: skip
    assert done.status == 0, done.err
    lines = [line for line in done.out.splitlines() if not line.startswith("wrote ")]
    layers = next(i for i, line in enumerate(lines) if line.startswith("layer "))
    assert lines[layers].split() == ["layer", "kind", "error", "before", "after", "alpha"]
    assert any(line.split()[:7] == ["20", "samples", "held", "out", "before", "after", "change"] for line in lines)
    assert any(line.startswith("crop consistency ") for line in lines)
    assert (max(map(len, lines)) <= 70) is bool(columns)


def test_a_dear_result_stands_beside_plain_views(tmp_path: Path) -> None:
    done = aa(
        SAMPLES / "resnet.onnx", "-o", tmp_path / "o.onnx", "--calibrate", SAMPLES / "digits_eval.npz", "--preprocess",
        "unit", "--limit", 45, "--force",
    )  # fmt: skip
    assert done.status == 0, done.err
    for moves in ("0,0 1,1", "-5,-5 6,6"):
        assert f"against two plain views of the original ({moves}; 2x, no data): far agreement, mixed " in done.out
        assert f"--skip '*' --views='{moves}' is the simpler choice" in done.out
