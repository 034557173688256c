"""The command: exit status, files written whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys

import onnx
import pytest
from command import Outcome, aa, failed
from small_nets import blurred_classifier, phase_classifier, pooled_net, save, stripes

from aarewrite.errors import CheckFailed
from aarewrite.verification import before_after, job, resume


@pytest.fixture
def files(tmp_path):
    onnx.save(phase_classifier(), tmp_path / "before.onnx")
    onnx.save(blurred_classifier(), tmp_path / "after.onnx")
    save(tmp_path / "stripes.npz", x=stripes(12), labels=[1] * 12)
    return tmp_path


def invoke(files, *args) -> Outcome:
    return aa("verify", files / "after.onnx", "--data", files / "stripes.npz", *args)


def test_table_json_and_page(files):
    page, values = files / "out.html", files / "out.json"
    result = invoke(
        files,
        "--against",
        files / "before.onnx",
        "--protocol",
        "crop,circular",
        "--layers",
        "--report",
        page,
        "--json",
        values,
    )
    assert result.status == 0, result.err
    assert result.err == ""
    assert "100.0 % [75.8, 100.0]" in result.out
    found = json.loads(values.read_text())
    assert found["passed"] is True
    assert found["classification"][0]["consistency"]["value"] == 1.0
    assert found["classification"][0]["top1"]["value"] == 1.0
    assert found["classification"][1]["model"] == "before.onnx"
    assert [c["protocol"] for c in found["classification"]] == ["crop", "crop", "circular", "circular"]
    text = page.read_text()
    assert text.count("<svg") >= 5
    assert text.count("data:image/png;base64,") >= 2
    assert list(files.glob(".*")) == []


def test_the_paired_change_of_consistency_is_stated(files):
    result = invoke(files, "--against", files / "before.onnx", "--crop-pairs", 4, "--json", files / "out.json")
    (change,) = json.loads((files / "out.json").read_text())["changes"]
    assert change["name"] == "crop consistency"
    assert (change["after"], change["n"]) == (100, 12)
    assert 0 < change["low"] < change["after"] - change["before"] < change["high"]
    points = 100 - change["before"]
    line = f"against before.onnx: +{points:.2f} points [+{change['low']:.2f}, +{change['high']:.2f}], p = "
    assert f"crop consistency {line}" in result.out
    assert "4 pairs an image" in json.loads((files / "out.json").read_text())["classification"][0]["description"]


def test_json_to_stdout_is_only_json(files):
    result = invoke(files, "--json", "-")
    assert json.loads(result.out)["model"] == "after.onnx"


def test_limits_decide_the_exit_status(files):
    assert invoke(files, "--min-consistency", 0.99).status == 0
    result = aa("verify", files / "before.onnx", "--data", files / "stripes.npz", "--min-consistency", "0.99")
    assert result.status == 1
    assert "crop consistency of before.onnx is" in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert invoke(files, "--against", files / "before.onnx", "--max-diff", 1e-6).status == 1


def test_interrupt_leaves_no_file(files, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "run_studies", stop)
    result = invoke(files, "--report", files / "out.html", "--json", files / "out.json")
    assert result.status == 130
    assert not (files / "out.html").exists()
    assert not (files / "out.json").exists()
    failed(result, 130, "interrupted")


def test_before_after_fails_before_anything_is_written(files):
    data = str(files / "stripes.npz")
    good = before_after(phase_classifier(), blurred_classifier(), data, min_consistency=0.99)
    assert good.passed
    assert (good.model, good.against) == ("after", "before")
    bad = before_after(blurred_classifier(), phase_classifier(), data, min_consistency=0.99)
    with pytest.raises(CheckFailed, match="consistency"):
        bad.raise_for_failures()


def test_models_are_not_changed():
    before, after = pooled_net(blur=False), pooled_net(blur=True)
    bytes_before = before.SerializeToString(deterministic=True), after.SerializeToString(deterministic=True)
    before_after(before, after, "synthetic:2", layers=True, protocols=("crop", "circular"))
    assert (before.SerializeToString(deterministic=True), after.SerializeToString(deterministic=True)) == bytes_before


def test_importing_the_command_is_light():
    heavy = "{'onnx', 'onnxruntime', 'numpy', 'polygraphy'}"
    code = f"import sys, aarewrite.cli.verify; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_long_run_that_is_stopped_goes_on(files, monkeypatch):
    monkeypatch.setattr(resume, "PATIENCE", 0)
    measure = job.Job.measure

    def stopped(*arguments):
        yield next(measure(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(job.Job, "measure", stopped)
    result = invoke(files, "--json", files / "out.json")
    log = files / "out.json.resume.jsonl"
    assert (result.status, result.err.count("\n")) == (130, 2)
    assert f"note: {log} holds what was measured" in result.err
    assert len(log.read_text().splitlines()) == 2
    monkeypatch.setattr(job.Job, "measure", measure)
    assert invoke(files, "--json", files / "out.json").status == 0
    assert json.loads((files / "out.json").read_text())["n"] == 12
    assert not log.exists()


def test_quiet_prints_nothing_and_still_judges(files):
    done = invoke(files, "-q", "--json", files / "out.json", "--protocol", "crop")
    assert done == (0, "", "")
    assert json.loads((files / "out.json").read_text())["passed"] is True
    failed(invoke(files, "--quiet", "--max-diff", "1e-9", "--against", files / "before.onnx"), 1, "differ")
    assert invoke(files, "--json", "-", "--protocol", "crop").out == invoke(
        files, "-q", "--json", "-", "--protocol", "crop"
    ).out  # fmt: skip


def test_a_profile_is_not_written_over(files, tmp_path):
    profile = tmp_path / "profile.toml"
    profile.write_text("[boxes]")
    failed(invoke(files, "--decode", profile, "--json", profile), 2, "--json", "what --decode reads")
    assert profile.read_text() == "[boxes]"
