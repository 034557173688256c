"""The program: the default command, exit statuses, one clear line on stderr, a light start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from command import aa, failed, small_net

import aarewrite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_net(tmp_path / "net.onnx")


def test_rewrite_command_by_name(path: Path, tmp_path: Path) -> None:
    assert aa("rewrite", path, "--output", tmp_path / "a.onnx").status == 0
    assert aa(path, "-o", tmp_path / "b.onnx").status == 0
    assert aa("-q", path, "-o", tmp_path / "c.onnx").status == 0
    assert len({(tmp_path / f"{name}.onnx").read_bytes() for name in "abc"}) == 1


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
    assert aa(path)[:2] == (3, "")


@pytest.mark.parametrize("arguments", [("--help",), ("rewrite", "--help"), ("inspect", "--help"), ("--version",)])
def test_help_and_version(arguments: tuple[str, ...]) -> None:
    done = aa(*arguments)
    assert (done.status, done.err) == (0, "")
    assert ("aarewrite " + aarewrite.__version__ if "--version" in arguments else "Usage: ") in done.out


def test_help_names_every_option() -> None:
    text = aa("rewrite", "--help").out
    for option in (
        "-o", "--recipe", "--filter", "--pad", "--placement", "--first-conv", "--no-first-conv", "--max-window",
        "--only", "--skip", "--input", "--plan", "--dry-run", "--json", "--no-verify", "-q",
    ):  # fmt: skip
        assert option in text


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nimport aarewrite.cli.app as c\nsys.argv = ['aarewrite', '--help']\n"
        "try:\n    c.main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'onnx_graphsurgeon', 'polygraphy', 'rich', 'jinja2'}\n"
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


@pytest.mark.parametrize(
    ("word", "command"), [("verfy", "verify"), ("inspct", "inspect"), ("rewrit", "rewrite"), ("Verify", "verify")]
)
def test_a_mistyped_command_is_answered_with_the_nearest_one(word: str, command: str, path: Path) -> None:
    failed(aa(word, path), 2, f"no command and no file '{word}'; did you mean aarewrite {command}?")


def test_what_may_be_a_model_is_no_mistyped_command(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    failed(aa("verfy.onnx"), 2, "verfy.onnx: no such file; give the path of an .onnx file")
    failed(aa("network"), 2, "network: no such file")
    path.rename("verfy")
    assert aa("verfy", "-q").status == 0


@pytest.mark.parametrize(
    "arguments", [("verify",), ("verify", "m.onnx", "--batch", "0"), ("inspect", "m.onnx", "n.onnx"), ("m.onnx", "--x")]
)
def test_every_error_has_one_prefix(arguments: tuple[str, ...]) -> None:
    failed(aa(*arguments), 2)


EARLY = """
import builtins, os, signal, sys
imported = builtins.__import__
def interrupting(name, *more):
    if name == "typer":
        os.kill(os.getpid(), signal.SIGINT)
    return imported(name, *more)
builtins.__import__ = interrupting
sys.argv = ["aarewrite", "--version"]
from aarewrite.__main__ import main
main()
"""


def test_an_interrupt_while_the_program_is_still_being_imported() -> None:
    done = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "aarewrite: error: interrupted\n")


NASTY = "\x1b[2J\x1b]0;owned\x07\n<script>alert(1)</script>\u202e\x9b31m"


def test_names_that_a_terminal_or_a_browser_would_obey(path: Path, tmp_path: Path) -> None:
    model = onnx.load(path)
    for node in model.graph.node:
        node.name += NASTY
        node.input[:] = [name and name + NASTY for name in node.input]
        node.output[:] = [name + NASTY for name in node.output]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.name += NASTY
    onnx.save(model, path)
    report, found = tmp_path / "r.html", tmp_path / "r.json"
    done = aa(
        path, "--verify", "synthetic:2", "--layers", "--report", report, "--json", found, "-o", tmp_path / "o.onnx"
    )
    assert done.status == 0, done
    texts = [aa("inspect", path).out, aa("inspect", path, "--input", "none:1x3").err, done.out, done.err]
    assert not [letter for text in texts for letter in text if letter != "\n" and not letter.isprintable()]
    assert "\\x1b[2J" in texts[0]
    assert "<script>alert" not in report.read_text("utf-8")
    assert "&lt;script&gt;alert" in report.read_text("utf-8")
    assert "\x1b" not in report.read_text("utf-8")
    assert "\x1b" not in found.read_text("utf-8")
    assert NASTY in json.loads(found.read_text("utf-8"))["sites"][0]["node"]


def test_a_shared_file_of_that_kind(hostile: Path) -> None:
    done = aa("inspect", hostile / "esc.onnx")
    assert done.status == 0
    assert "\x1b" not in done.out
    assert "\\x1b[2J\\x1b]0;pwned" in done.out


@pytest.mark.parametrize("command", [("inspect", "--json", "-"), ("inspect",), ("verify", "--limit", "1")])
def test_a_full_disk_behind_stdout_is_one_line(path: Path, command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "aarewrite", command[0], path, *command[1:]],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "aarewrite: error: stdout: cannot be written (No space left on device); choose another place\n"
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_without_a_stdout_or_stderr_the_work_is_done(path: Path, tmp_path: Path, closed: str) -> None:
    done = subprocess.run(
        f"{sys.executable} -m aarewrite {path} -o {tmp_path}/out.onnx {closed}",
        shell=True, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "error" not in done.stdout + done.stderr
    assert (tmp_path / "out.onnx").read_bytes() == aarewrite.rewrite(path).model.SerializeToString()
