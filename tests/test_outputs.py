"""No output is ever an input or another output, by any path; all are checked before the work, and written whole."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import pytest
from command import aa, failed, files, small_net

import aarewrite
from aarewrite.outputs import atomic_file, text_output


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_net(tmp_path / "net.onnx")


def test_output_that_is_the_input_by_another_name(path: Path) -> None:
    link = path.parent / "link.onnx"
    link.symlink_to(path)
    before = path.read_bytes()
    failed(aa(path, "-o", link), 2, "is the input itself")
    failed(aa(link, "-o", path), 2, "is the input itself")
    assert path.read_bytes() == before


def test_json_over_the_input_or_the_output_is_refused(path: Path) -> None:
    before = path.read_bytes()
    assert aa(path, "--json", path, "-q").status == 2
    assert path.read_bytes() == before


def test_json_that_cannot_be_written(path: Path) -> None:
    outcome = aa(path, "-q", "--json", path.parent / "absent" / "r.json")
    failed(outcome, 2, "r.json: cannot be written")
    assert "another -o" not in outcome.err
    assert files(path.parent) == {"net.onnx"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_folder(path: Path) -> None:
    path.parent.chmod(0o500)
    try:
        failed(aa(path, "-q"), 2, "cannot be written (Permission denied)")
    finally:
        path.parent.chmod(0o700)


def test_atomic_file_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    target.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic_file(target) as temporary:
        temporary.write_bytes(b"half" * (1 // 0))
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.onnx"]


def test_atomic_file_has_ordinary_permissions(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        with atomic_file(tmp_path / "out.onnx") as temporary:
            temporary.write_bytes(b"new")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "out.onnx").stat().st_mode) == 0o644


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(aarewrite.UsageError, match="cannot be written"), atomic_file(tmp_path / "absent" / "out.onnx"):
        pass


def test_a_text_that_cannot_be_written_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), text_output(path, "new \ud800"):
        pass
    assert path.read_text() == "old"
    assert files(tmp_path) == {"report.html"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and every kind of file that a command reads."""
    small_net(tmp_path / "net.onnx")
    model = onnx.load(small_net(tmp_path / "other.onnx"))
    onnx.save(model, tmp_path / "ext.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    np.savez(tmp_path / "data.npz", x=np.zeros((4, 2, 20, 20), np.float32))
    np.savez(tmp_path / "saved.npz", y=np.zeros((1, 4, 1, 1), np.float32))
    (tmp_path / "labels.csv").write_text("class_index\n0\n0\n0\n0\n")
    (tmp_path / "prep.toml").write_text("preset = 'none'\n")
    (tmp_path / "mine.toml").write_text("filter = 3\n")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"a photo")
    (tmp_path / "photos" / "b.PNG").symlink_to(tmp_path / "data.npz")
    assert aa("inspect", tmp_path / "net.onnx", "--json", tmp_path / "plan.json").status == 0
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("net.onnx -o net.onnx", "net.onnx: is the input itself; choose another -o"),
        ("net.onnx --json net.onnx", "net.onnx: is the input itself; choose another --json"),
        ("net.onnx --json net.aa.onnx", "net.aa.onnx: is the file of -o; choose another --json"),
        ("net.onnx -o out --json out", "out: is the file of -o; choose another --json"),
        ("net.onnx -o - --json -", "-: is the file of -o; choose another --json"),
        ("net.onnx -o plan.json --plan plan.json", "plan.json: is what --plan reads; choose another -o"),
        ("net.onnx --dry-run --plan plan.json --json plan.json", "plan.json: is what --plan reads"),
        ("net.onnx -o mine.toml --recipe mine.toml", "mine.toml: is what --recipe reads; choose another -o"),
        ("net.onnx -o data.npz --calibrate data.npz", "data.npz: is what --calibrate reads; choose another -o"),
        ("net.onnx -o data.npz --verify data.npz", "data.npz: is what --verify reads"),
        ("net.onnx --report data.npz --verify data.npz", "data.npz: is what --verify reads; choose another --report"),
        ("net.onnx --json data.npz --calibrate data.npz", "data.npz: is what --calibrate reads"),
        ("net.onnx -o labels.csv --verify data.npz --labels labels.csv", "labels.csv: is what --labels reads"),
        ("net.onnx -o prep.toml --calibrate data.npz --preprocess prep.toml", "prep.toml: is what --preprocess reads"),
        ("net.onnx -o x --json y --verify data.npz --report y", "y: is the file of --json; choose another --report"),
        ("net.onnx -o photos/a.png --calibrate photos", "photos/a.png: is among what --calibrate reads"),
        ("net.onnx -o photos/c.Jpg --calibrate photos", "photos/c.Jpg: would be among what --calibrate reads"),
        ("net.onnx -o data.npz --calibrate photos", "data.npz: is among what --calibrate reads"),
        ("net.onnx --report photos/a.png --verify photos", "photos/a.png: is among what --verify reads"),
        ("ext.onnx --json w.bin", "w.bin: is a data file of the input itself; choose another --json"),
        ("ext.onnx -o w.bin", "w.bin: is the model's own data file"),
        ("inspect net.onnx --json net.onnx", "net.onnx: is the input itself; choose another --json"),
        ("inspect ext.onnx --json w.bin", "w.bin: is a data file of the input itself"),
        ("verify net.onnx --data synthetic:2 --report net.onnx", "net.onnx: is the input itself"),
        ("verify net.onnx --data synthetic:2 --json net.onnx", "net.onnx: is the input itself; choose another --json"),
        ("verify net.onnx --data data.npz --report data.npz", "data.npz: is what --data reads"),
        ("verify net.onnx --data synthetic:2 --json a --report a", "a: is the file of --json; choose another --report"),
        ("verify net.onnx --json - --report -", "-: is the file of --json; choose another --report"),
        ("verify net.onnx --data data.npz --labels labels.csv --json labels.csv", "labels.csv: is what --labels reads"),
        ("verify net.onnx --preprocess prep.toml --json prep.toml", "prep.toml: is what --preprocess reads"),
        ("verify net.onnx --against other.onnx --json other.onnx", "other.onnx: is what --against reads"),
        ("verify net.onnx --against saved.npz --json saved.npz", "saved.npz: is what --against reads"),
        ("verify net.onnx --against ext.onnx --json w.bin", "w.bin: is a data file of the model of --against"),
        ("verify ext.onnx --data synthetic:2 --report w.bin", "w.bin: is a data file of the input itself"),
        ("verify net.onnx --data photos --report photos/page.png", "photos/page.png: would be among what --data reads"),
    ],
)  # fmt: skip
def test_no_output_is_an_input_or_another_output(home: Path, command: str, message: str) -> None:
    before = contents(home)
    failed(aa(*command.split()), 2, message)
    assert contents(home) == before


@pytest.mark.parametrize("command", ["verify net.onnx --report", "inspect net.onnx --json", "net.onnx -o"])
@pytest.mark.parametrize("way", ["link", "hard", "photos/../net.onnx", "here/net.onnx", "{home}/net.onnx"])
def test_whatever_path_leads_to_it(home: Path, command: str, way: str) -> None:
    (home / "link").symlink_to("net.onnx")
    (home / "hard").hardlink_to(home / "net.onnx")
    (home / "here").symlink_to(home, target_is_directory=True)
    before = (home / "net.onnx").read_bytes()
    failed(aa(*command.split(), way.format(home=home)), 2, "is the input itself")
    assert (home / "net.onnx").read_bytes() == before
    assert (home / "link").is_symlink()


def test_outputs_that_lead_to_one_file(home: Path) -> None:
    (home / "dangling").symlink_to("page.html")
    for first, second in (("page.html", "dangling"), ("Page.html", "page.HTML"), ("page.html", "photos/../page.html")):
        outcome = aa("verify", "net.onnx", "--json", first, "--report", second)
        failed(outcome, 2, f"{second}: is the file of --json; choose another --report")
    assert not (home / "page.html").exists()


def test_a_name_that_is_no_file_is_not_read(home: Path) -> None:
    (home / "photos" / "gone.png").symlink_to("nowhere/gone.png")
    failed(aa("verify", "net.onnx", "--data", "photos", "--json", "new.json"), 2, "a.png: cannot be decoded")
    assert aa("verify", "net.onnx", "--data", "synthetic:2", "--preprocess", "unit", "--json", "unit").status == 0
    assert json.loads((home / "unit").read_text())["preprocess"].startswith("unit")


def test_the_default_output_may_be_a_link_to_the_input(home: Path) -> None:
    (home / "net.aa.onnx").hardlink_to(home / "net.onnx")
    failed(aa("net.onnx"), 2, "net.aa.onnx: is the input itself; choose another -o")


def test_data_files_copied_beside_the_output_count(home: Path) -> None:
    (home / "out").mkdir()
    failed(aa("ext.onnx", "-o", "out/m.onnx", "--json", "out/w.bin"), 2, "w.bin: is the file of --json")
    assert files(home / "out") == set()
    (home / "out" / "w.bin").write_bytes(b"mine")
    with mock.patch("aarewrite.rewriting.pipeline.rewrite") as work:
        failed(aa("ext.onnx", "-o", "out/m.onnx"), 2, "another data file is in the way")
    work.assert_not_called()
    assert (home / "out" / "w.bin").read_bytes() == b"mine"
    failed(aa("ext.onnx", "-o", "-"), 2, "-o -: the model keeps weights in files of their own")


@pytest.mark.parametrize("option", ["-o", "--json"])
def test_only_files_are_written(home: Path, option: str) -> None:
    os.mkfifo(home / "fifo")
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind("plug")
        for place, what in (("photos", "folder"), (os.devnull, "device"), ("fifo", "fifo"), ("plug", "socket")):
            failed(aa("net.onnx", option, place), 2, f"{place}: cannot be written (it is a {what})")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert stat.S_ISFIFO((home / "fifo").stat().st_mode)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("absent/out", "No such file or directory"), ("net.onnx/out", "Not a directory"), ("loop", "symbolic links"),
        ("x" * 300, "name too long"), ("", "it is a folder"),
    ],
)  # fmt: skip
def test_a_place_that_cannot_be_written_is_refused_before_the_work(home: Path, place: str, reason: str) -> None:
    (home / "loop").symlink_to("loop")
    before = contents(home)
    for command, work in (
        ("net.onnx -o", "aarewrite.rewriting.pipeline.rewrite"),
        ("net.onnx --json", "aarewrite.rewriting.pipeline.rewrite"),
        ("inspect net.onnx --json", "aarewrite.rewriting.pipeline.plan"),
        ("verify net.onnx --data data.npz --report", "aarewrite.verification.run.verify"),
    ):
        with mock.patch(work, side_effect=AssertionError("the work was begun")):
            failed(aa(*command.split(), place), 2, "cannot be written", reason)
    assert contents(home) == before


def test_a_link_is_followed_and_stays(home: Path) -> None:
    (home / "out.onnx").symlink_to("photos/real.onnx")
    (home / "photos" / "report.json").write_text("old")
    (home / "report.json").symlink_to("photos/report.json")
    assert aa("net.onnx", "-o", "out.onnx", "--json", "report.json", "-q").status == 0
    for name in ("out.onnx", "report.json"):
        assert (home / name).is_symlink()
    assert (home / "photos" / "real.onnx").read_bytes() == aarewrite.rewrite("net.onnx").model.SerializeToString()
    assert json.loads((home / "photos" / "report.json").read_text())["changed"] is True
    assert files(home / "photos") == {"a.png", "b.PNG", "real.onnx", "report.json"}


def test_a_file_that_exists_keeps_its_mode(home: Path) -> None:
    for name, mode in (("net.aa.onnx", 0o640), ("report.json", 0o600)):
        (home / name).write_bytes(b"old")
        (home / name).chmod(mode)
    assert aa("net.onnx", "--json", "report.json", "-q").status == 0
    assert [stat.S_IMODE((home / name).stat().st_mode) for name in ("net.aa.onnx", "report.json")] == [0o640, 0o600]
    assert (home / "net.aa.onnx").stat().st_size > 3


def test_stdout(home: Path) -> None:
    written = aa("net.onnx", "-o", "-").out.encode("utf-8", "surrogateescape")
    assert written == aarewrite.rewrite("net.onnx").model.SerializeToString()
    assert aa("verify", "net.onnx", "--data", "synthetic:2", "--report", "-").out.startswith("<!")
    assert not (home / "-").exists()


def test_a_reader_that_leaves_is_not_the_page_that_cannot_be_written(home: Path) -> None:
    command = (
        f"{sys.executable} -m aarewrite verify net.onnx --data synthetic:2 --json - --report page.html | head -c 1"
    )
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout == "{"
    assert "cannot be written" not in done.stderr


KILLED = """
import os, signal, sys
from pathlib import Path
from aarewrite.outputs import atomic_file
with atomic_file(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    target.write_bytes(b"old")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    (left,) = files(tmp_path) - {"out.onnx"}
    with atomic_file(target) as temporary:
        temporary.write_bytes(b"new")
    assert files(tmp_path) == {"out.onnx", left}  # so new that its process may be about to take it
    os.utime(tmp_path / left, (0, 0))
    with atomic_file(target) as temporary:
        temporary.write_bytes(b"newer")
    assert files(tmp_path) == {"out.onnx"}
    assert target.read_bytes() == b"newer"


def test_what_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    """Two at once on one output: each has a file of its own, and the last one's is there, whole."""
    target = tmp_path / "out.onnx"
    with atomic_file(target) as slow:
        slow.write_bytes(b"slow")
        os.utime(slow, (0, 0))
        with atomic_file(target) as fast:
            fast.write_bytes(b"fast")
        assert target.read_bytes() == b"fast"
        assert slow.exists()
    assert target.read_bytes() == b"slow"
    assert files(tmp_path) == {"out.onnx"}


def test_a_full_disk_keeps_the_old_output(path: Path) -> None:
    resource = pytest.importorskip("resource")
    target = path.with_name("out.onnx")
    target.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        outcome = aa(path, "-q", "-o", target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    failed(outcome, 2, f"{target}: cannot be written (File too large)")
    assert target.read_bytes() == b"old"
    assert files(path.parent) == {"net.onnx", "out.onnx"}


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGHUP"])
def test_a_process_that_is_asked_to_end_tidies_up_and_ends_by_that_signal(tmp_path: Path, ending: str) -> None:
    target = tmp_path / "out.onnx"
    target.write_bytes(b"old")
    code = KILLED.replace("SIGKILL", ending).replace(
        "temporary:", "temporary, atomic_file(Path(sys.argv[2])) as second:"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(target), str(tmp_path / "more")], check=False)
    assert ended.returncode == -getattr(signal, ending)
    assert target.read_bytes() == b"old"
    assert files(tmp_path) == {"out.onnx"}


def test_signals_that_others_handle_are_left_to_them(tmp_path: Path) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with atomic_file(tmp_path / "out.onnx") as temporary:
            temporary.write_bytes(b"new")
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]
    assert (tmp_path / "out.onnx").read_bytes() == b"new"
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_an_interrupt_leaves_nothing_half_done(path: Path) -> None:
    target = path.with_name("out.onnx")
    target.write_bytes(b"old")
    with mock.patch.object(os, "replace", side_effect=KeyboardInterrupt):
        failed(aa(path, "-q", "-o", target), 130, "interrupted")
    assert target.read_bytes() == b"old"
    assert files(path.parent) == {"net.onnx", "out.onnx"}
