"""The command `bench`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import aa, failed, files, small_net

from aarewrite.model.runner import cuda_available


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_net(tmp_path / "net.onnx")


def test_bench_beside_the_original(path: Path, tmp_path: Path) -> None:
    assert aa(path, "-q").status == 0
    done = aa(
        "bench",
        tmp_path / "net.aa.onnx",
        "--against",
        path,
        "--threads",
        1,
        "--rounds",
        3,
        "--json",
        tmp_path / "b.json",
    )
    assert (done.status, done.err) == (0, "")
    assert "cpu, 1 thread, 3 rounds" in done.words
    assert "net.onnx against itself" in done.words
    table = json.loads((tmp_path / "b.json").read_text())
    assert (table["model"]["model"], table["against"]["model"], table["rounds"]) == ("net.aa.onnx", "net.onnx", 3)
    assert files(tmp_path) == {"net.onnx", "net.aa.onnx", "b.json"}


def test_bench_on_stdout(path: Path) -> None:
    done = aa("bench", path, "--rounds", 2, "--json", "-", "--input", "x:1x2x17x17")
    assert json.loads(done.out)["against"] is None
    assert json.loads(done.out)["model"]["input_shapes"] == {"x": [1, 2, 17, 17]}


def test_usage_errors(path: Path, tmp_path: Path) -> None:
    failed(aa("bench", tmp_path / "none.onnx"), 2, "none.onnx: no such file")
    failed(aa("bench", path, "--provider", "tpu"), 2, "provider 'tpu' is not one of cpu, cuda")
    failed(aa("bench", path, "--json", path), 2, "is the input itself")
    failed(aa("bench", path, "--threads", -1), 2, "--threads")


@pytest.mark.skipif(cuda_available(), reason="this onnxruntime has a CUDA provider")
def test_cuda_without_one(path: Path) -> None:
    failed(aa("bench", path, "--provider", "cuda"), 3, "no CUDAExecutionProvider in onnxruntime")


def test_quiet_prints_nothing(path: Path, tmp_path: Path) -> None:
    assert aa("bench", path, "-q", "--rounds", 2, "--json", tmp_path / "b.json") == (0, "", "")
    assert json.loads((tmp_path / "b.json").read_text())
