"""The command `inspect`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import aa, files, small_net


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_net(tmp_path / "net.onnx")


def test_inspect(path: Path, tmp_path: Path) -> None:
    outcome = aa("inspect", path, "--json", tmp_path / "i.json")
    assert outcome.status == 0
    text = " ".join(outcome.out.split())
    assert "first conv: left strided by the recipe" in text
    assert "1 of 2 sites" in text
    assert "multiply-accumulates" in text
    assert outcome.err == ""
    assert json.loads((tmp_path / "i.json").read_text())["format"] == 2
    assert files(tmp_path) == {"net.onnx", "i.json"}
