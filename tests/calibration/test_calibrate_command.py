"""`--calibrate` and `aarewrite.calibrate` on the sample models: figures on held-out digits, limits, wrong requests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import aarewrite

SAMPLES = Path(__file__).parents[2] / "sample_models"
DIGITS = SAMPLES / "digits_eval.npz"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aarewrite", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_residual_net_becomes_steadier_and_stays_as_good(tmp_path: Path) -> None:
    out, report = tmp_path / "out.onnx", tmp_path / "out.json"
    ran = run(
        SAMPLES / "resnet.onnx", "-o", out, "--calibrate", DIGITS, "--preprocess", "unit", "--json", report, "--verbose"
    )
    assert ran.returncode == 0, ran.stderr
    assert "/head/head.2/Gemm" in ran.stdout
    onnx.checker.check_model(onnx.load(out), full_check=True)
    verdict = json.loads(report.read_text())["calibration"]["verdict"]
    assert verdict["images"] == 133
    assert verdict["consistency"]["after"] - verdict["consistency"]["before"] > 0.5
    assert verdict["one_pixel"]["after"] >= verdict["one_pixel"]["before"]
    assert verdict["top1"]["after"] > verdict["top1"]["before"] - 1.0


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, second = (
        aarewrite.calibrate(SAMPLES / "conv1d.onnx", SAMPLES / "signals_eval.npz", preprocess="unit", limit=120)
        for _ in range(2)
    )
    assert first.model.SerializeToString() == second.model.SerializeToString()


def test_only_weights_behind_a_blur_change() -> None:
    model = onnx.load(SAMPLES / "vgg.onnx")
    rewritten = aarewrite.rewrite(model, recipe=aarewrite.Recipe(strength=0.5)).model
    calibrated = aarewrite.calibrate(model, DIGITS, preprocess="unit", strength=0.5, limit=60).model
    assert [node.op_type for node in calibrated.graph.node] == [node.op_type for node in rewritten.graph.node]
    before, after = ({t.name: t for t in m.graph.initializer} for m in (rewritten, calibrated))
    first = next(node for node in model.graph.node if node.op_type == "Conv").input[1]
    assert before[first].SerializeToString() == after[first].SerializeToString()
    assert any(before[name].SerializeToString() != after[name].SerializeToString() for name in before)


def test_a_limit_that_fails_writes_nothing_unless_forced(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    request = [SAMPLES / "resnet.onnx", "-o", out, "--calibrate", DIGITS, "--preprocess", "unit", "-q"]
    ran = run(*request, "--max-disagreement", "0")
    assert ran.returncode == 1
    assert ran.stderr.startswith("aarewrite: error: disagrees with the original on ")
    assert len(ran.stderr.strip().splitlines()) == 1
    assert not out.exists()
    assert run(*request, "--max-disagreement", "0", "--force").returncode == 0
    assert out.exists()


def test_a_budget_the_plan_exceeds_names_the_way_out() -> None:
    with pytest.raises(aarewrite.CheckFailed, match=r"costs 1\.58x, over the budget of 1\.10x; search within it"):
        aarewrite.calibrate(SAMPLES / "resnet.onnx", DIGITS, preprocess="unit", budget="1.1x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": "much"}, "--strength 'much' is neither auto nor a number"),
        ({"strength": 2}, "strength = 2.0 is not above 0"),
        ({"budget": "cheap"}, "--budget 'cheap' is not a cost; write 1.15x or 120MMAC"),
        ({"hold_out": 1.5}, "cannot hold out a share of 1.5"),
        ({"limit": 1}, "too few"),
    ],
)
def test_wrong_requests(options: dict[str, object], message: str) -> None:
    with pytest.raises(aarewrite.UsageError) as caught:
        aarewrite.calibrate(SAMPLES / "resnet.onnx", DIGITS, preprocess="unit", **options)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_wrong_data_is_one_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "small.npz", x=np.zeros((20, 1, 8, 8), np.uint8))
    for data in (tmp_path / "absent", tmp_path, tmp_path / "small.npz"):
        ran = run(SAMPLES / "resnet.onnx", "-o", tmp_path / "o.onnx", "--calibrate", data)
        assert ran.returncode in (2, 3)
        assert len(ran.stderr.strip().splitlines()) == 1
    assert run(SAMPLES / "resnet.onnx", "--strength", "0.5").returncode == 2


def test_without_data_the_rewrite_names_the_remedy(tmp_path: Path) -> None:
    ran = run(SAMPLES / "vgg.onnx", "-o", tmp_path / "o.onnx")
    assert "never trained with blur lose accuracy" in ran.stderr
    assert "--calibrate IMAGES" in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
