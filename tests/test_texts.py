"""Files and texts that others wrote: plain values, one line of refusal, and nothing that a terminal obeys."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import aa, failed, small_net

from aarewrite.errors import UsageError
from aarewrite.texts import number, printable, read_json, read_toml

DIGITS = "9" * 5000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_net(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"format": ' + DIGITS + "}", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "not a plan"),
        ('{"format": 2, "sites": 5}', "not a plan"),
        ('{"format": 2, "sites": [], "stages": {"do": []}}', "stage"),
        ('{"format": 2, "sites": [{"node": "conv", "action": []}]}', "action"),
        ('{"format": 2, "sites": [{"node": "conv", "action": "blur", "filter": 1e999}]}', "filter"),
    ],
)
def test_plans_that_are_none(path: Path, text: str, word: str) -> None:
    plan = path.with_name("plan.json")
    plan.write_text(text)
    failed(aa(path, "--plan", plan), 2, word)


@pytest.mark.parametrize("option", ["--recipe", "--preprocess"])
@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b"size = " + DIGITS.encode(), "not valid TOML"),
        (b"scale = ", "not valid TOML"),
        (b"\0", "not valid TOML"),
        (b"\xff\xfe", "not a text file"),
    ],
)
def test_tables_that_are_none(path: Path, option: str, text: bytes, word: str) -> None:
    table = path.with_name("table.toml")
    table.write_bytes(text)
    command = [path, "--dry-run"] if option == "--recipe" else ["verify", path]
    failed(aa(*command, option, table), 2, str(table) if option == "--preprocess" else "table", word)


@pytest.mark.parametrize("value", ["nan", "-inf", "9" * 400, '"1"', "[]", "{}", "true"])
def test_numbers_in_tables_that_are_none(path: Path, value: str) -> None:
    table = path.with_name("table.toml")
    table.write_text(f"strength = {value}")
    failed(aa(path, "--recipe", table), 2, "strength")
    table.write_text(f"scale = {value}")
    failed(aa("verify", path, "--preprocess", table), 2, "scale")
    table.write_text(f"size = {value}")
    failed(aa("verify", path, "--preprocess", table), 2, "size")


def test_a_device_is_read_no_further_than_a_file_may_be(path: Path) -> None:
    failed(aa(path, "--plan", "/dev/zero"), 2, "/dev/zero: more than 64 MB")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--input", f"x:{DIGITS}x3"],
        ["--input", "x:1x2x-3x4"],
        ["--filter", DIGITS],
        ["--max-window", DIGITS],
        ["--views", DIGITS],
        ["--views", f"{DIGITS},{DIGITS} 1,1"],
        ["--anchor", "wide", "--anchor-phases", DIGITS],
        ["--verify", "synthetic:2", "--limit", DIGITS],
        ["--verify", "synthetic:2", "--seed", DIGITS],
        ["--verify", "synthetic:2", "--min-consistency", "nan"],
        ["--verify", "synthetic:2", "--max-diff", "inf"],
        ["--steady", "synthetic:2", "--minutes", "nan"],
        ["--steady", "synthetic:2", "--budget", f"{DIGITS}x"],
    ],
)
def test_numbers_that_are_none(path: Path, arguments: list[str]) -> None:
    outcome = aa(path, *arguments)
    failed(outcome, 2)
    assert len(outcome.err) < 2100
    failed(aa("verify", path, "--data", f"synthetic:{DIGITS}"), 2, "is not a count")


def test_a_number_is_plain_digits_that_fit() -> None:
    assert [number(text) for text in ("0", "12", "9" * 18)] == [0, 12, 10**18 - 1]
    assert [number(text) for text in ("", "-1", "+1", " 1", "1.0", "\u0663", "9" * 19)] == [None] * 7


def test_what_a_terminal_obeys_is_written_out() -> None:
    assert printable("layer1.0/Conv 3x3 é 漢") == "layer1.0/Conv 3x3 é 漢"
    assert printable("\x1b[2J\n\t\x9b1m\u202e\u2028") == "\\x1b[2J\\n\\t\\x9b1m\\u202e\\u2028"
    assert printable("\ud800") == "\\ud800"


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(UsageError, match="directory"):
        read_toml(tmp_path)


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n")
    assert read_toml(tmp_path / "a.toml") == {"a": 1, "b": 2}
