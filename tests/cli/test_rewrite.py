"""The command `rewrite`: what it writes and prints, plans, and one clear line for what goes wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command import aa, failed, files, small_net
from reference import build, ops, weight

import aarewrite
from aarewrite.rewriting import pipeline


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_net(tmp_path / "net.onnx")


def test_default_output_is_beside_the_input(path: Path) -> None:
    before = path.read_bytes()
    outcome = aa(path)
    assert outcome.status == 0
    assert path.read_bytes() == before
    written = path.parent / "net.aa.onnx"
    assert files(path.parent) == {"net.onnx", "net.aa.onnx"}
    assert written.read_bytes() == aarewrite.rewrite(path).model.SerializeToString()
    assert "MaxPool stride 1x1 -> blur 3x3 stride 2x2 reflect" in " ".join(outcome.out.split())
    assert "identity proof: " in outcome.out
    assert "largest difference" in outcome.out
    assert f"wrote {written}" in outcome.out
    assert "lose accuracy when blurred" in outcome.err


def test_second_run_changes_nothing(path: Path, tmp_path: Path) -> None:
    aa(path)
    outcome = aa(tmp_path / "net.aa.onnx", "-o", tmp_path / "again.onnx")
    assert outcome.status == 0
    assert "equal to the input: nothing to rewrite" in " ".join(outcome.out.split())
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "net.aa.onnx").read_bytes()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["Conv", "Relu", "MaxPool", "Pad", "Conv"]),
        (["--first-conv"], ["Conv", "Relu", "Pad", "Conv", "MaxPool", "Pad", "Conv"]),
        (["--first-conv", "--pad", "zero"], ["Conv", "Relu", "Conv", "MaxPool", "Conv"]),
        (["--filter", "1"], ["Conv", "Relu", "MaxPool", "Conv"]),
        (["--first-conv", "--placement", "before", "--skip", "pool"], ["Pad", "Conv", "Conv", "Relu", "MaxPool"]),
        (["--first-conv", "--only", "conv"], ["Conv", "Relu", "Pad", "Conv", "MaxPool"]),
        (
            ["--first-conv", "--only", "c*", "--only", "p*", "--skip", "conv"],
            ["Conv", "Relu", "MaxPool", "Pad", "Conv"],
        ),
        (["--recipe", "composer"], ["Conv", "Relu", "MaxPool", "Conv"]),
        (["--recipe", "timm", "--no-first-conv"], ["Conv", "Relu", "MaxPool", "Pad", "Conv"]),
    ],
)
def test_options(path: Path, options: list[str], expected: list[str]) -> None:
    assert aa(path, *options).status == 0
    assert ops(onnx.load(path.with_suffix(".aa.onnx"))) == [*expected, "GlobalAveragePool"]


def test_max_window(tmp_path: Path) -> None:
    model = build(
        "(float[1, 2, 16, 16] x) => (float[] y) "
        "{ [pool] y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x) }"
    )
    onnx.save(model, tmp_path / "m.onnx")
    for window, size in (("2", [2, 2]), ("keep", [3, 3])):
        outcome = aa(tmp_path / "m.onnx", "--recipe", "zhang2019-resnet", "--max-window", window)
        assert outcome.status == 0
        pool = onnx.load(tmp_path / "m.aa.onnx").graph.node[0]
        assert next(list(a.ints) for a in pool.attribute if a.name == "kernel_shape") == size
        assert ("outside the proof (the operator itself changes): pool" in outcome.out) is (window == "2")


def test_recipe_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('filter = 5\n[[site]]\nmatch = "pool"\naction = "keep"\n')
    outcome = aa(path, "--recipe", tmp_path / "mine.toml", "--json", "-")
    plan = json.loads(outcome.out)
    assert plan["recipe"]["name"] == "mine"
    assert plan["changed"] is False


def test_input_sizes(tmp_path: Path) -> None:
    model = build("""(float[N, 2, H, W] x) => (float[] y) {
        [pool] y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER">(x)
    }""")
    onnx.save(model, tmp_path / "m.onnx")
    assert "auto_pad=SAME over a symbolic size" in " ".join(aa("inspect", tmp_path / "m.onnx").out.split())
    outcome = aa(tmp_path / "m.onnx", "--input", "x:1x2x8x8")
    assert outcome.status == 0
    assert ops(onnx.load(tmp_path / "m.aa.onnx")) == ["MaxPool", "Pad", "Conv"]
    assert "SAME" not in aa("inspect", tmp_path / "m.onnx", "--input", "x:1x2x8x8").out


def test_quiet(path: Path) -> None:
    outcome = aa(path, "-q")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    assert path.with_suffix(".aa.onnx").exists()


def test_no_verify(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the proof was run")

    monkeypatch.setattr(pipeline, "prove", never)
    outcome = aa(path, "--no-verify", "--json", path.parent / "r.json")
    assert outcome.status == 0
    assert "identity proof" not in outcome.out
    assert json.loads((path.parent / "r.json").read_text())["proof"] is None


def test_dry_run_writes_no_model(path: Path) -> None:
    outcome = aa(path, "--dry-run")
    assert outcome.status == 0
    assert "would become" in outcome.out
    assert files(path.parent) == {"net.onnx"}


def test_json_on_stdout_is_all_there_is(path: Path) -> None:
    for command in ((path,), (path, "--dry-run"), ("inspect", path)):
        outcome = aa(*command, "--json", "-")
        assert outcome.status == 0
        table = json.loads(outcome.out)
        assert [site["node"] for site in table["sites"]] == ["conv", "pool"]
    result = json.loads(aa(path, "--json", "-").out)
    assert result["changed"] is True
    assert result["proof"]["passed"] is True


def test_plan_round_trip_and_edit(path: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    assert aa(path, "--first-conv", "--filter", "5", "--dry-run", "--json", plan, "-q").status == 0
    assert aa(path, "--first-conv", "--filter", "5", "-o", tmp_path / "direct.onnx").status == 0
    assert aa(path, "--plan", plan, "-o", tmp_path / "planned.onnx").status == 0
    assert (tmp_path / "planned.onnx").read_bytes() == (tmp_path / "direct.onnx").read_bytes()
    table = json.loads(plan.read_text())
    table["sites"][1].update(action="keep", reason="as the customer wants it")
    plan.write_text(json.dumps(table))
    outcome = aa(path, "--plan", plan, "-o", tmp_path / "edited.onnx")
    assert "kept: as the customer wants it" in " ".join(outcome.out.split())
    assert ops(onnx.load(tmp_path / "edited.onnx")) == ["Conv", "Relu", "Pad", "Conv", "MaxPool", "GlobalAveragePool"]
    table["sites"][1].update(action="blur", placement="after", filter=11)
    plan.write_text(json.dumps(table))
    failed(aa(path, "--plan", plan), 2, "plan: pool: filter = 11 is not one of 1, 2, 3, 4, 5, 6, 7")


def test_report_can_be_applied_as_a_plan(path: Path, tmp_path: Path) -> None:
    assert aa(path, "--json", tmp_path / "report.json", "-o", tmp_path / "a.onnx").status == 0
    assert aa(path, "--plan", tmp_path / "report.json", "-o", tmp_path / "b.onnx").status == 0
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_dry_run_of_a_plan(path: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    aa(path, "--dry-run", "--json", plan)
    outcome = aa(path, "--plan", plan, "--dry-run")
    assert outcome.status == 0
    assert files(tmp_path) == {"net.onnx", "plan.json"}


@pytest.mark.parametrize(("content", "message"), [("{", "not valid JSON"), ("[]", "not a plan"), ("{}", "not a plan")])
def test_plan_files_that_are_none(path: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    failed(aa(path, "--plan", tmp_path / "plan.json"), 2, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no model given"),
        ([""], ""),
        (["."], ""),
        (["/"], ""),
        (["absent.onnx"], "absent.onnx: no such file"),
        (["{path}", "--filter", "9"], "filter = 9 is not one of 1, 2, 3, 4, 5, 6, 7"),
        (["{path}", "--filter", "0"], "filter = 0 is not one of"),
        (["{path}", "--filter", "three"], "filter = 'three' is not one of 1, 2, 3"),
        (["{path}", "--pad", "wrap"], "pad = 'wrap' is not one of reflect, edge, zero"),
        (["{path}", "--placement", "around"], "placement 'around' is not one of after, before"),
        (["{path}", "--max-window", "big"], "max_window 'big' is neither keep nor a window size"),
        (["{path}", "--recipe", "blurry"], "no recipe 'blurry'; choose one of aligned,"),
        (["{path}", "--only", "nothing*"], "--only 'nothing*' matches no node; the model's sites are conv, pool"),
        (["{path}", "--skip", "nothing*"], "--skip 'nothing*' matches no node"),
        (["{path}", "--input", "x"], "--input 'x' is not NAME:SHAPE; write it like data:1x3x224x224"),
        (["{path}", "--input", "x:1x0"], "is not NAME:SHAPE"),
        (["{path}", "--input", "x:1x\u00b2"], "is not NAME:SHAPE"),
        (["{path}", "--input", "z:1x2x8x8"], "--input z: the model has no such input; it has x"),
        (["{path}", "--input", "x:1x2x8x8"], "--input x: 1x2x8x8 contradicts 1x2x17x17"),
        (["{path}", "--plan", "absent.json"], "absent.json"),
        (["{path}", "--plan", "{folder}"], ""),
        (["{path}", "--colour"], "--colour"),
        (["{path}", "other.onnx"], "other.onnx"),
        (["{path}", "-o", "{path}"], "is the input itself; choose another -o"),
        (["{path}", "-o", "{folder}/absent/out.onnx"], "cannot be written"),
        (["{path}", "-o", "{folder}"], "cannot be written"),
        (["inspect"], ""),
        (["inspect", "absent.onnx"], "absent.onnx: no such file"),
    ],
)
def test_usage_errors(path: Path, arguments: list[str], message: str) -> None:
    filled = [a.replace("{path}", str(path)).replace("{folder}", str(path.parent)) for a in arguments]
    failed(aa(*filled, "-q" if filled and filled[0] != "inspect" else "--json=-"), 2, message) if arguments else failed(
        aa(), 2, message
    )
    assert files(path.parent) == {"net.onnx"}


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08\x12"])
def test_models_that_cannot_be_handled(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    failed(aa(tmp_path / "m.onnx"), 3, "m.onnx")
    failed(aa("inspect", tmp_path / "m.onnx"), 3, "m.onnx")
    assert files(tmp_path) == {"m.onnx"}


def test_opset_6(path: Path) -> None:
    model = onnx.load(path)
    model.opset_import[0].version = 6
    onnx.save(model, path)
    failed(aa(path), 3, "opset 6 is older than 7; convert it")


def test_a_runtime_that_refuses_the_original(path: Path) -> None:
    model = onnx.load(path)
    model.opset_import.add(domain="my.domain", version=1)
    mean = next(n for n in model.graph.node if n.name == "mean")
    mean.domain, mean.op_type = "my.domain", "Unknown"
    onnx.save(model, path)
    failed(aa(path, "-q"), 3, "ONNX Runtime refuses the model")
    assert files(path.parent) == {"net.onnx"}
    assert aa(path, "-q", "--no-verify").status == 0


def test_failed_proof_writes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = pipeline.applied

    def wrong(*arguments: Any, twin: bool = False, **options: Any) -> Any:
        model = original(*arguments, twin=twin, **options)
        if twin:
            pool = next(n for n in model.proto.graph.node if n.name == "pool")
            next(a for a in pool.attribute if a.name == "pads").ints[:] = [2, 2, 0, 0]
        return model

    monkeypatch.setattr(pipeline, "applied", wrong)
    (path.parent / "net.aa.onnx").write_bytes(b"from before")
    outcome = aa(path, "-q", "--json", path.parent / "r.json")
    failed(outcome, 1, "identity proof failed at tensor '", "nothing was written")
    assert (path.parent / "net.aa.onnx").read_bytes() == b"from before"
    assert files(path.parent) == {"net.onnx", "net.aa.onnx"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_model(path: Path) -> None:
    path.chmod(0)
    failed(aa(path, "-q"), 2, "net.onnx", "Permission denied")


def test_external_data_beside_the_model(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "big"
    folder.mkdir()
    onnx.save(onnx.load(path), folder / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert aa(folder / "m.onnx").status == 0
    assert files(folder) == {"m.onnx", "m.aa.onnx", "w.bin"}
    inside = onnx.load(folder / "m.aa.onnx")
    kept = next(onnx.numpy_helper.to_array(t) for t in inside.graph.initializer if t.name == "w")
    assert np.array_equal(kept, weight(4, 2, 3, 3))
    (folder / "w.bin").unlink()
    outcome = aa(folder / "m.onnx", "-q", "-o", folder / "out.onnx")
    assert outcome.status in (2, 3)
    assert "w.bin" in outcome.err
    assert "Traceback" not in outcome.err
