"""A verification as printed, in a pipe and in a terminal."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from command import aa
from reference import build
from small_nets import blurred_classifier, phase_classifier


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("FORCE_COLOR", "1"), ("NO_COLOR", "1"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)


@pytest.fixture
def nets(tmp_path: Path) -> list[Path]:
    onnx.save(blurred_classifier(), tmp_path / "after.onnx")
    onnx.save(phase_classifier(), tmp_path / "before.onnx")
    return [tmp_path / "after.onnx", tmp_path / "before.onnx"]


def test_models_stand_beside_each_other(narrow: None, nets: list[Path]) -> None:
    done = aa("verify", nets[0], "--against", nets[1], "--data", "synthetic:4", "--protocol", "crop,circular")
    lines = done.out.splitlines()
    assert done.status == 0
    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines if line.startswith(("model     ", "protocol"))] == [
        ["model", "after.onnx", "before.onnx"], ["protocol", "crop", "crop"],
        ["model", "after.onnx", "before.onnx"], ["protocol", "circular", "circular"],
    ]  # fmt: skip
    assert sum(line.startswith("consistency ") for line in lines) == 2
    assert "parity of after.onnx, with before.onnx" in lines


def test_a_pipe_gets_a_row_a_model(nets: list[Path]) -> None:
    lines = aa("verify", nets[0], "--against", nets[1], "--data", "synthetic:4").out.splitlines()
    head = next(line for line in lines if line.startswith("model"))
    assert head.split("  ")[-1].strip() == "n"
    assert {line.split()[0] for line in lines if "[" in line and " crop " in line} == {"after.onnx", "before.onnx"}


def test_maps_share_their_names(narrow: None, tmp_path: Path) -> None:
    model = build(
        """(float[1, 2, 32, 32] x) => (float[] a_map_with_a_rather_long_name_of_its_own) {
        a_map_with_a_rather_long_name_of_its_own = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
    }"""
    )
    onnx.save(model, tmp_path / "a_network_with_a_long_file_name.onnx")
    lines = aa("verify", tmp_path / "a_network_with_a_long_file_name.onnx", "--data", "synthetic:2").out.splitlines()
    assert max(map(len, lines)) <= 80
    start = lines.index("model a_network_with_a_long_file_name.onnx, output")
    assert lines[start - 1].split() == ["shift", "relative", "error", "PSNR", "dB", "same", "class", "cosine", "n"]
    assert lines[start + 1] == "  a_map_with_a_rather_long_name_of_its_own, protocol crop"
    assert [line.split()[0] for line in lines[start + 2 : start + 5]] == ["horizontal", "vertical", "diagonal"]
