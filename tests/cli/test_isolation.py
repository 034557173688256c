"""`--isolate`: the same answers from a process of its own, and one line where that process crashes or hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import aa, files, small_net

from aarewrite.cli.isolation import run_isolated
from aarewrite.errors import CannotHandle

BEGIN = "import hashlib, itertools, sys; from aarewrite.cli.isolation import begin; assert begin();"


def ended(code: str) -> int | str:
    """How a process that runs `code` ends for who isolated it: its status or the error's line."""
    try:
        run_isolated([], [sys.executable, "-c", BEGIN + code])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    except CannotHandle as error:
        return error.message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_net(tmp_path / "net.onnx")


def isolated(*words: object) -> subprocess.CompletedProcess[str]:
    """The program with `--isolate`: its child writes where this process cannot look."""
    command = [sys.executable, "-m", "aarewrite", *map(str, words), "--isolate"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_answer_is_the_same(path: Path) -> None:
    done = isolated(path, "-o", path.with_name("a.onnx"))
    plain = aa(path, "-o", path.with_name("b.onnx"))
    assert (done.returncode, plain.status) == (0, 0)
    assert done.stdout.replace("a.onnx", "b.onnx") == plain.out
    assert path.with_name("a.onnx").read_bytes() == path.with_name("b.onnx").read_bytes()


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_an_error_is_the_same(path: Path, command: str) -> None:
    path.write_bytes(b"no model")
    done, plain = isolated(command, path), aa(command, path)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", plain.err)


def test_a_status_is_handed_on() -> None:
    assert [ended("sys.exit(0)"), ended("sys.exit(1)"), ended("sys.exit(130)")] == [0, 1, 130]


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGFPE", "SIGABRT", "SIGILL", "SIGBUS"])
def test_a_crash_is_one_line_that_says_where(name: str) -> None:
    said = ended(f"import os, signal\ndef deep():\n    os.kill(os.getpid(), signal.{name})\n    input()\ndeep()")
    assert said == f"the process was ended by {name}, in deep (<string>:3)"


def test_a_process_that_is_killed_for_its_memory_is_one_line() -> None:
    assert ended("import os; os.kill(os.getpid(), 9)") == "the process was ended by SIGKILL"


@pytest.mark.parametrize("endless", ["sum(itertools.repeat(1))", "hashlib.pbkdf2_hmac('md5', b'', b'', 2**31 - 1)"])
def test_a_hang_is_one_line_that_says_where(monkeypatch: pytest.MonkeyPatch, endless: str) -> None:
    """A call that never comes back, holding Python's lock or not."""
    monkeypatch.setenv("AAREWRITE_ISOLATE_SECONDS", "3")  # a busy machine takes a second to start the process
    assert ended(endless) == "nothing moved for 3 s, in <module> (<string>:1)"


def test_long_work_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AAREWRITE_ISOLATE_SECONDS", "3")
    code = "\nfor _ in range(800):\n    hashlib.pbkdf2_hmac('md5', b'', b'', 5_000)\nsys.exit(7)"
    assert ended(code) == 7


def test_what_asks_the_program_to_end_reaches_its_child(path: Path) -> None:
    target = path.with_name("out.onnx")
    fifo = path.with_name("plan")
    os.mkfifo(fifo)  # reading it waits
    command = [sys.executable, "-m", "aarewrite", str(path), "--isolate", "--plan", str(fifo), "-o", str(target)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with fifo.open("wb"):  # open as soon as the child reads
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert files(path.parent) == {"net.onnx", "plan"}
