"""The plan's table as printed."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from command import aa, small_net
from reference import build


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_net(tmp_path / "net.onnx")


def test_names_that_look_like_markup_are_printed_as_they_are(tmp_path: Path) -> None:
    model = build("""(float[1, 2, 8, 8] x) => (float[] y) {
        ["[bold]pool[/bold]"] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
    }""")
    onnx.save(model, tmp_path / "m.onnx")
    assert "[bold]pool[/bold]" in aa("inspect", tmp_path / "m.onnx").out
