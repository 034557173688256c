"""`--calibrate` and `aarewrite.calibrate` on the sample models: figures on held-out digits, limits, wrong requests."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import aarewrite
from aarewrite.calibration.budget import rewrite_within

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


def test_an_interrupt_is_one_line_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    request = [SAMPLES / "resnet.onnx", "-o", out, "--calibrate", DIGITS, "--preprocess", "unit", "--strength", "auto"]
    command = [sys.executable, "-m", "aarewrite", *map(str, request)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(4)  # the search takes longer
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1] == "aarewrite: error: interrupted"
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, second = (
        aarewrite.calibrate(SAMPLES / "conv1d.onnx", SAMPLES / "signals_eval.npz", preprocess="unit", limit=120)
        for _ in range(2)
    )
    assert first.model.SerializeToString() == second.model.SerializeToString()


def test_only_weights_behind_a_blur_change() -> None:
    model = onnx.load(SAMPLES / "vgg.onnx")
    rewritten = aarewrite.rewrite(model, recipe="calibrated").model
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


def test_a_searched_plan_holds_what_was_measured_and_can_be_applied_again(tmp_path: Path) -> None:
    out, report, page = (tmp_path / name for name in ("out.onnx", "out.json", "out.html"))
    request = [SAMPLES / "resnet.onnx", "--calibrate", DIGITS, "--preprocess", "unit", "--limit", "150", "-q"]
    ran = run(
        *request, "-o", out, "--strength", "auto", "--budget", "3x", "--max-disagreement", "0.5", "--force", "--json",
        report, "--verify", DIGITS, "--report", page,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    table = json.loads(report.read_text())
    chosen = dict(table["calibration"]["chosen"])
    assert chosen
    for site in table["sites"]:
        if site["node"] in chosen:
            taken = next(one for one in site["measured"] if one["choice"] == chosen[site["node"]])
            assert taken["noise"] < 1
            assert site["action"] != "keep" or site["second_phase"]
    assert table["proof"]["passed"]
    assert "What was tried before choosing this" in page.read_text()
    # The plan, edited or not, leads to the same graph without the search.
    again = tmp_path / "again.onnx"
    ran = run(*request, "-o", again, "--plan", report, "--force")
    assert ran.returncode == 0, ran.stderr
    first, second = (onnx.load(path) for path in (out, again))
    assert first.graph.node == second.graph.node
    assert run(*request, "-o", again, "--plan", report, "--strength", "0.5").returncode == 2


def test_a_budget_begins_the_second_phase_later_or_leaves_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.load(SAMPLES / "resnet.onnx")
    recipe = aarewrite.Recipe(conv="keep", second_phase=2)
    request: dict[str, Any] = {"recipe": recipe, "preprocess": "unit", "limit": 24}
    costs = []
    for stride in (2, 4, 8):
        plan = aarewrite.plan(model, recipe.with_options(second_phase=stride))
        assert plan.macs is not None
        assert plan.macs_after is not None
        costs.append(plan.macs_after / plan.macs)
    assert costs == sorted(costs, reverse=True)
    monkeypatch.setattr("aarewrite.calibration.run.latency_ratio", lambda *_: 1.0)
    free, later, without = (
        aarewrite.calibrate(model, DIGITS, budget=budget, **request).rewritten
        for budget in (None, f"{costs[1] + 0.01:.2f}x", "1.05x")
    )
    starts = [one.plan.second_phase[:1] for one in (free, later, without)]
    assert starts == [("/pool/MaxPool",), ("/blocks/blocks.1/conv1/Conv",), ()]
    assert free.warnings == ()
    assert later.warnings == (
        "the second phase begins at /blocks/blocks.1/conv1/Conv: from earlier on it would cost more than "
        f"{costs[1] + 0.01:.2f}x",
    )
    assert without.warnings == ("no second phase: it would cost more than 1.05x",)
    monkeypatch.setattr("aarewrite.calibration.run.latency_ratio", lambda *_: 5.0)
    slow = aarewrite.calibrate(model, DIGITS, budget="3x", **request)
    assert slow.rewritten.plan.second_phase == ()  # what is measured counts, too


def test_where_no_second_phase_can_be_the_rest_is_done() -> None:
    found = rewrite_within(tensorflow_like(maps=True), aarewrite.Recipe(second_phase=4))
    assert found.plan.second_phase == ()
    assert found.warnings == ()
    assert found.plan.warnings == ("no second phase: deep: the output is a map",)
    assert [entry.site.node for entry in found.plan.rewrites] == ["down"]


def test_nothing_within_the_limits_is_said() -> None:
    with pytest.raises(aarewrite.CannotHandle, match="no choice at any site is better within the limits") as caught:
        aarewrite.calibrate(SAMPLES / "vgg.onnx", DIGITS, preprocess="unit", limit=40, strength="auto", budget="1x")
    assert "everything is over the budget); allow more with" in str(caught.value)


def test_a_ratio_limits_the_measured_latency_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aarewrite.calibration.run.latency_ratio", lambda *_: 5.0)
    request: dict[str, Any] = {"preprocess": "unit", "limit": 40}
    slow = aarewrite.calibrate(SAMPLES / "resnet.onnx", DIGITS, budget="3x", **request)
    assert slow.latency == 5.0
    assert "takes 5.00x the original's time, over the budget of 3.00x" in slow.failures
    with pytest.raises(aarewrite.CannotHandle, match="everything is over the budget"):
        aarewrite.calibrate(SAMPLES / "resnet.onnx", DIGITS, budget="3x", strength="auto", **request)
    in_macs = aarewrite.calibrate(SAMPLES / "resnet.onnx", DIGITS, budget="9MMAC", **request)
    assert in_macs.latency is None  # a budget of multiply-accumulates is about those alone


def tensorflow_like(maps: bool = False) -> onnx.ModelProto:
    """A fixed batch of 1, channels last, an explicit Pad in front of a VALID strided conv; a map as output if asked."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 13]>
        net (float[1, 32, 32, 3] image) => (float[1, 5] scores)
        <int64[8] pads = {0, 0, 0, 0, 0, 0, 1, 1}> {
            first = Transpose <perm = [0, 3, 1, 2]> (image)
            stem = Conv <auto_pad = "SAME_UPPER"> (first, w1)
            stem_act = Relu (stem)
            padded = Pad (stem_act, pads)
            down = Conv <strides = [2, 2], auto_pad = "VALID"> (padded, w2)
            down_act = Relu (down)
            deep = Conv <pads = [1, 1, 1, 1]> (down_act, w3)
            pooled = GlobalAveragePool (deep)
            flat = Flatten (pooled)
            scores = Gemm (flat, w4)
        }"""
    )
    rng = np.random.default_rng(0)
    for name, shape in (("w1", (6, 3, 3, 3)), ("w2", (8, 6, 3, 3)), ("w3", (8, 8, 3, 3)), ("w4", (8, 5))):
        value = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    if maps:
        model.graph.output.append(onnx.helper.make_tensor_value_info("deep", onnx.TensorProto.FLOAT, [1, 8, 16, 16]))
    return model


def test_a_fixed_batch_of_one_channels_last_with_explicit_pads(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (30, 40, 40, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", x=images)
    found = aarewrite.calibrate(tensorflow_like(), tmp_path / "images.npz", recipe="aligned", preprocess="unit")
    deep, scores = found.outcome.layers
    assert (deep.name, scores.name) == ("deep", "scores")
    assert deep.repaired
    assert deep.own_after < 0.6 * deep.own_before
    assert scores.own_after <= scores.own_before
    onnx.checker.check_model(found.model, full_check=True)
    assert found.model.graph.input[0] == tensorflow_like().graph.input[0]


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
def test_wrong_requests(options: dict[str, Any], message: str) -> None:
    with pytest.raises(aarewrite.UsageError) as caught:
        aarewrite.calibrate(SAMPLES / "resnet.onnx", DIGITS, preprocess="unit", **options)
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
