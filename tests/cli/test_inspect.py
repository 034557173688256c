"""The command `inspect`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import aa, failed, files, small_net
from reference import build


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


def test_what_a_runtime_does_not_take(path: Path, tmp_path: Path) -> None:
    model = onnx.load(path)
    model.opset_import[0].version = 22
    onnx.save(model, path)
    done = aa("inspect", path, "--target", "ort-cuda", "--json", tmp_path / "i.json")
    line = (
        "MaxPool 'pool': ONNX Runtime's CUDA provider has no MaxPool of version 22; "
        "export with an older opset: it has MaxPool to version 12"
    )
    assert line in done.words
    assert json.loads((tmp_path / "i.json").read_text())["unsupported"] == [line]
    assert "the runtime takes every node" in aa("inspect", path, "--target", "tensorrt").words
    assert "unsupported" not in json.loads(aa("inspect", path, "--json", "-").out)
    failed(aa("inspect", path, "--target", "npu"), 2, "target 'npu' is not one of portable")


def test_given_sizes_are_those_that_a_runtime_sees(tmp_path: Path) -> None:
    model = build(
        "(float[1, 2, h, w] x) => (float[] y) { y = Slice(x, zero, two) }", zero=np.array([0]), two=np.array([1])
    )
    onnx.save(model, tmp_path / "m.onnx")
    assert "slices maps of known sizes alone" in aa("inspect", tmp_path / "m.onnx", "--target", "coreml").words
    done = aa("inspect", tmp_path / "m.onnx", "--target", "coreml", "--input", "x:1x2x8x8")
    assert "the runtime takes every node" in done.words


def test_quiet_prints_nothing(path: Path, tmp_path: Path) -> None:
    assert aa("inspect", path, "-q", "--json", tmp_path / "i.json") == (0, "", "")
    assert json.loads((tmp_path / "i.json").read_text())["sites"]
