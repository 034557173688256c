"""Finding files: nested, linked, by pattern, behind an address."""

from __future__ import annotations

import os
import sys

import pytest

from aarewrite.data.files import find_files
from aarewrite.errors import CannotHandle, UsageError


@pytest.fixture
def tree(tmp_path):
    for name in ("b.txt", "a/2.txt", "a/1.txt", ".hidden/x.txt", "a/._1.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def names(source) -> list[str]:
    return [file.name for file in find_files(str(source))]


def test_nested_sorted_and_nothing_hidden(tree):
    assert names(tree) == ["a/1.txt", "a/2.txt", "b.txt"]
    with find_files(str(tree))[1].open() as stream:
        assert stream.read() == b"a/2.txt"


def test_links_are_followed_once(tree):
    (tree / "a" / "up").symlink_to(tree)
    (tree / "blobs").mkdir()
    (tree / "blobs" / "7f3a").write_text("content")
    (tree / "c.txt").symlink_to(tree / "blobs" / "7f3a")  # as caches of hubs have it
    (tree / "d").symlink_to(tree / "a")
    assert names(tree) == ["a/1.txt", "a/2.txt", "b.txt", "blobs/7f3a", "c.txt"]
    with find_files(str(tree))[-1].open() as stream:
        assert stream.read() == b"content"


def test_patterns(tree):
    assert names(tree / "a" / "*.txt") == ["1.txt", "2.txt"]
    assert names(tree / "**" / "*.txt") == ["a/1.txt", "a/2.txt", "b.txt"]
    assert names(tree / "a" / "{1..2}.txt") == ["1.txt", "2.txt"]
    with pytest.raises(UsageError, match="no such file or folder"):
        find_files(str(tree / "*.png"))


def test_a_fifo_is_there_and_no_file(tree):
    os.mkfifo(tree / "waiting.png")
    with pytest.raises(UsageError, match=r"waiting\.png: neither a file nor a folder"):
        find_files(str(tree / "waiting.png"))


def test_addresses(tree):
    pytest.importorskip("pyarrow")
    assert names(f"file://{tree}") == ["a/1.txt", "a/2.txt", "b.txt"]
    assert names(f"file://{tree}/a/1.txt") == ["1.txt"]
    with find_files(f"file://{tree}/a")[1].open() as stream:
        assert stream.read() == b"a/2.txt"
    with pytest.raises(UsageError, match="no files there"):
        find_files(f"file://{tree}/nowhere")
    with pytest.raises(UsageError, match="cannot be listed"):
        find_files("gopher://host/x")


def test_an_address_without_pyarrow_names_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CannotHandle, match=r"pip install 'aarewrite\[arrow\]'"):
        find_files("s3://bucket/photos")


def test_buckets(tree, in_bucket):
    address = in_bucket(tree / "a")
    assert names(address) == ["1.txt", "2.txt"]
    assert names(address.replace("/a?", "/a/1.txt?")) == ["1.txt"]
    with find_files(address)[1].open() as stream:
        assert stream.read() == b"a/2.txt"
    for where in ("bucket/nowhere", "other/photos"):  # the key is not told
        with pytest.raises(UsageError, match=rf"^s3://{where}: "):
            find_files(address.replace("bucket/a", where))
