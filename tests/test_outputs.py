"""No output is ever an input or another output, by any path; all are checked before the work, and written whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path

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
