"""The plan's table as printed."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from command import aa, small_net
from reference import build, weight


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_net(tmp_path / "net.onnx")


def test_names_that_look_like_markup_are_printed_as_they_are(tmp_path: Path) -> None:
    model = build("""(float[1, 2, 8, 8] x) => (float[] y) {
        ["[bold]pool[/bold]"] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
    }""")
    onnx.save(model, tmp_path / "m.onnx")
    assert "[bold]pool[/bold]" in aa("inspect", tmp_path / "m.onnx").out


def deep_net(file: Path) -> Path:
    """Strided convs with the long names of an exporter."""
    names = [f"/blocks/blocks.{i}/shortcut/shortcut.1/Conv" for i in range(3)]
    convs = "\n".join(
        f'["{name}"] a{i + 1} = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(a{i}, w)\n[r{i}] b{i} = Relu(a{i + 1})'
        for i, name in enumerate(names)
    )
    model = build(
        f"(float[1, 2, 64, 64] a0) => (float[] y) {{ {convs}\n [mean] y = GlobalAveragePool(a3) }}",
        w=weight(2, 2, 3, 3),
    )
    onnx.save(model, file)
    return file


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_table_fits_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    file = deep_net(tmp_path / "m.onnx")
    whole = aa("inspect", file).out.splitlines()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = aa("inspect", file).out.splitlines()
    assert max(map(len, lines)) <= columns < max(map(len, whole))
    assert whole[0].split("  ")[0] == lines[0].split("  ")[0] == "node"
    nodes = [line for line in lines if line.startswith("/blocks")]
    assert len({node[:columns] for node in nodes}) == 3
    after = [lines[lines.index(node) + (2 if columns == 40 else 1)] for node in nodes]
    assert [line.split()[0] for line in after] == ["kept:", "Conv", "Conv"]
