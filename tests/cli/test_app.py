"""The command line: every option, every exit status, one clear line on stderr, nothing half written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from reference import build, ops, weight

import aarewrite
from aarewrite.cli import app as cli
from aarewrite.rewriting import pipeline


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def aa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process; any traceback fails the test."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["aarewrite", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return Outcome(int(stopped.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    model = build(
        """(float[1, 2, 17, 17] x) => (float[] y) {
        [conv] a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)
        [relu] b = Relu(a)
        [pool] c = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(b)
        [mean] y = GlobalAveragePool(c)
    }""",
        w=weight(4, 2, 3, 3),
    )
    file = tmp_path / "net.onnx"
    onnx.save(model, file)
    return file


def failed(outcome: Outcome, status: int, *texts: str) -> None:
    assert outcome.status == status, outcome
    assert outcome.out == ""
    assert outcome.err.startswith("aarewrite: error: ")
    assert outcome.err.count("\n") == 1
    assert "Traceback" not in outcome.err
    for text in texts:
        assert text in outcome.err


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


# ---- the main job ------------------------------------------------------------------------------------------


def test_default_output_is_beside_the_input(aa: Run, path: Path) -> None:
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


def test_second_run_changes_nothing(aa: Run, path: Path, tmp_path: Path) -> None:
    aa(path)
    outcome = aa(tmp_path / "net.aa.onnx", "-o", tmp_path / "again.onnx")
    assert outcome.status == 0
    assert "equal to the input: nothing to rewrite" in " ".join(outcome.out.split())
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "net.aa.onnx").read_bytes()


def test_rewrite_command_by_name(aa: Run, path: Path, tmp_path: Path) -> None:
    assert aa("rewrite", path, "--output", tmp_path / "a.onnx").status == 0
    assert aa(path, "-o", tmp_path / "b.onnx").status == 0
    assert aa("-q", path, "-o", tmp_path / "c.onnx").status == 0
    assert len({(tmp_path / f"{name}.onnx").read_bytes() for name in "abc"}) == 1


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
def test_options(aa: Run, path: Path, options: list[str], expected: list[str]) -> None:
    assert aa(path, *options).status == 0
    assert ops(onnx.load(path.with_suffix(".aa.onnx"))) == [*expected, "GlobalAveragePool"]


def test_max_window(aa: Run, tmp_path: Path) -> None:
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


def test_recipe_file(aa: Run, path: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('filter = 5\n[[site]]\nmatch = "pool"\naction = "keep"\n')
    outcome = aa(path, "--recipe", tmp_path / "mine.toml", "--json", "-")
    plan = json.loads(outcome.out)
    assert plan["recipe"]["name"] == "mine"
    assert plan["changed"] is False


def test_input_sizes(aa: Run, tmp_path: Path) -> None:
    model = build("""(float[N, 2, H, W] x) => (float[] y) {
        [pool] y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER">(x)
    }""")
    onnx.save(model, tmp_path / "m.onnx")
    assert "auto_pad=SAME over a symbolic size" in " ".join(aa("inspect", tmp_path / "m.onnx").out.split())
    outcome = aa(tmp_path / "m.onnx", "--input", "x:1x2x8x8")
    assert outcome.status == 0
    assert ops(onnx.load(tmp_path / "m.aa.onnx")) == ["MaxPool", "Pad", "Conv"]
    assert "SAME" not in aa("inspect", tmp_path / "m.onnx", "--input", "x:1x2x8x8").out


def test_quiet(aa: Run, path: Path) -> None:
    outcome = aa(path, "-q")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    assert path.with_suffix(".aa.onnx").exists()


def test_no_verify(aa: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the proof was run")

    monkeypatch.setattr(pipeline, "prove", never)
    outcome = aa(path, "--no-verify", "--json", path.parent / "r.json")
    assert outcome.status == 0
    assert "identity proof" not in outcome.out
    assert json.loads((path.parent / "r.json").read_text())["proof"] is None


# ---- plans -------------------------------------------------------------------------------------------------


def test_dry_run_writes_no_model(aa: Run, path: Path) -> None:
    outcome = aa(path, "--dry-run")
    assert outcome.status == 0
    assert "would become" in outcome.out
    assert files(path.parent) == {"net.onnx"}


def test_json_on_stdout_is_all_there_is(aa: Run, path: Path) -> None:
    for command in ((path,), (path, "--dry-run"), ("inspect", path)):
        outcome = aa(*command, "--json", "-")
        assert outcome.status == 0
        table = json.loads(outcome.out)
        assert [site["node"] for site in table["sites"]] == ["conv", "pool"]
    result = json.loads(aa(path, "--json", "-").out)
    assert result["changed"] is True
    assert result["proof"]["passed"] is True


def test_plan_round_trip_and_edit(aa: Run, path: Path, tmp_path: Path) -> None:
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


def test_report_can_be_applied_as_a_plan(aa: Run, path: Path, tmp_path: Path) -> None:
    assert aa(path, "--json", tmp_path / "report.json", "-o", tmp_path / "a.onnx").status == 0
    assert aa(path, "--plan", tmp_path / "report.json", "-o", tmp_path / "b.onnx").status == 0
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_dry_run_of_a_plan(aa: Run, path: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    aa(path, "--dry-run", "--json", plan)
    outcome = aa(path, "--plan", plan, "--dry-run")
    assert outcome.status == 0
    assert files(tmp_path) == {"net.onnx", "plan.json"}


@pytest.mark.parametrize(
    "options", [["--filter", "3"], ["--recipe", "timm"], ["--only", "conv"], ["--first-conv"], ["--no-first-conv"]]
)
def test_plan_excludes_recipe_options(aa: Run, path: Path, tmp_path: Path, options: list[str]) -> None:
    plan = tmp_path / "plan.json"
    aa(path, "--dry-run", "--json", plan)
    failed(aa(path, "--plan", plan, *options), 2, "--plan and --", "exclude each other")


@pytest.mark.parametrize(("content", "message"), [("{", "not JSON"), ("[]", "not a plan"), ("{}", "not a plan")])
def test_plan_files_that_are_none(aa: Run, path: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    failed(aa(path, "--plan", tmp_path / "plan.json"), 2, message)


def test_inspect(aa: Run, path: Path, tmp_path: Path) -> None:
    outcome = aa("inspect", path, "--json", tmp_path / "i.json")
    assert outcome.status == 0
    text = " ".join(outcome.out.split())
    assert "first conv: left strided by the recipe" in text
    assert "1 of 2 sites" in text
    assert "multiply-accumulates" in text
    assert outcome.err == ""
    assert json.loads((tmp_path / "i.json").read_text())["format"] == 1
    assert files(tmp_path) == {"net.onnx", "i.json"}


def test_names_that_look_like_markup_are_printed_as_they_are(aa: Run, tmp_path: Path) -> None:
    model = build("""(float[1, 2, 8, 8] x) => (float[] y) {
        ["[bold]pool[/bold]"] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
    }""")
    onnx.save(model, tmp_path / "m.onnx")
    assert "[bold]pool[/bold]" in aa("inspect", tmp_path / "m.onnx").out


# ---- what goes wrong ---------------------------------------------------------------------------------------


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
        (["{path}", "--filter", "three"], "--filter"),
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
def test_usage_errors(aa: Run, path: Path, arguments: list[str], message: str) -> None:
    filled = [a.replace("{path}", str(path)).replace("{folder}", str(path.parent)) for a in arguments]
    failed(aa(*filled, "-q" if filled and filled[0] != "inspect" else "--json=-"), 2, message) if arguments else failed(
        aa(), 2, message
    )
    assert files(path.parent) == {"net.onnx"}


def test_output_that_is_the_input_by_another_name(aa: Run, path: Path) -> None:
    link = path.parent / "link.onnx"
    link.symlink_to(path)
    before = path.read_bytes()
    failed(aa(path, "-o", link), 2, "is the input itself")
    failed(aa(link, "-o", path), 2, "is the input itself")
    assert path.read_bytes() == before


def test_json_over_the_input_or_the_output_is_refused(aa: Run, path: Path) -> None:
    before = path.read_bytes()
    assert aa(path, "--json", path, "-q").status == 2
    assert path.read_bytes() == before


def test_json_that_cannot_be_written(aa: Run, path: Path) -> None:
    outcome = aa(path, "-q", "--json", path.parent / "absent" / "r.json")
    failed(outcome, 2, "r.json: cannot be written")
    assert "another -o" not in outcome.err
    assert files(path.parent) == {"net.onnx"}


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08\x12"])
def test_models_that_cannot_be_handled(aa: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    failed(aa(tmp_path / "m.onnx"), 3, "m.onnx")
    failed(aa("inspect", tmp_path / "m.onnx"), 3, "m.onnx")
    assert files(tmp_path) == {"m.onnx"}


def test_opset_6(aa: Run, path: Path) -> None:
    model = onnx.load(path)
    model.opset_import[0].version = 6
    onnx.save(model, path)
    failed(aa(path), 3, "opset 6 is older than 7; convert it")


def test_a_runtime_that_refuses_the_original(aa: Run, path: Path) -> None:
    model = onnx.load(path)
    model.opset_import.add(domain="my.domain", version=1)
    mean = next(n for n in model.graph.node if n.name == "mean")
    mean.domain, mean.op_type = "my.domain", "Unknown"
    onnx.save(model, path)
    failed(aa(path, "-q"), 3, "ONNX Runtime refuses the model")
    assert files(path.parent) == {"net.onnx"}
    assert aa(path, "-q", "--no-verify").status == 0


def test_failed_proof_writes_nothing(aa: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = pipeline.apply_plan

    def wrong(*arguments: Any, as_twin: bool = False, **options: Any) -> Any:
        model = original(*arguments, as_twin=as_twin, **options)
        if as_twin:
            pool = next(n for n in model.proto.graph.node if n.name == "pool")
            next(a for a in pool.attribute if a.name == "pads").ints[:] = [2, 2, 0, 0]
        return model

    monkeypatch.setattr(pipeline, "apply_plan", wrong)
    (path.parent / "net.aa.onnx").write_bytes(b"from before")
    outcome = aa(path, "-q", "--json", path.parent / "r.json")
    failed(outcome, 1, "identity proof failed at tensor '", "nothing was written")
    assert (path.parent / "net.aa.onnx").read_bytes() == b"from before"
    assert files(path.parent) == {"net.onnx", "net.aa.onnx"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_folder(aa: Run, path: Path) -> None:
    path.parent.chmod(0o500)
    try:
        failed(aa(path, "-q"), 2, "cannot be written (Permission denied)")
    finally:
        path.parent.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_model(aa: Run, path: Path) -> None:
    path.chmod(0)
    failed(aa(path, "-q"), 2, "net.onnx", "Permission denied")


def test_external_data_beside_the_model(aa: Run, path: Path, tmp_path: Path) -> None:
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


# ---- the program -------------------------------------------------------------------------------------------


def program(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aarewrite", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_program_keeps_stdout_for_its_result(path: Path) -> None:
    done = program(path, "--json", "-")
    assert done.returncode == 0
    assert json.loads(done.stdout)["proof"]["passed"] is True


def test_program_statuses(path: Path) -> None:
    missing = program("absent.onnx")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr == "aarewrite: error: absent.onnx: no such file; give the path of an .onnx file\n"
    path.write_bytes(b"broken")
    broken = program(path)
    assert (broken.returncode, broken.stdout) == (3, "")


@pytest.mark.parametrize("arguments", [("--help",), ("rewrite", "--help"), ("inspect", "--help"), ("--version",)])
def test_help_and_version(arguments: tuple[str, ...]) -> None:
    done = program(*arguments)
    assert done.returncode == 0
    assert done.stderr == ""
    assert ("aarewrite " + aarewrite.__version__ if "--version" in arguments else "Usage: ") in done.stdout


def test_help_names_every_option() -> None:
    text = program("rewrite", "--help").stdout
    for option in (
        "-o", "--recipe", "--filter", "--pad", "--placement", "--first-conv", "--no-first-conv", "--max-window",
        "--only", "--skip", "--input", "--plan", "--dry-run", "--json", "--no-verify", "-q",
    ):  # fmt: skip
        assert option in text


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nimport aarewrite.cli.app as c\nsys.argv = ['aarewrite', '--help']\n"
        "try:\n    c.main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'onnx_graphsurgeon', 'polygraphy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_closed_pipe_is_no_error(path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m aarewrite inspect {path} --json - | head -c 10",
        shell=True, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
