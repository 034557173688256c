"""A verification as printed, in a pipe and in a terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import onnx
import pytest
from command import aa
from reference import build
from small_nets import (
    COLOUR,
    blurred_classifier,
    detector,
    grid_profile,
    parse,
    phase_classifier,
    save,
    scene,
    stripes,
)  # fmt: skip


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
    heads = [line for line in lines if line.startswith(("model     ", "protocol")) and "confidence" not in line]
    assert [line.split() for line in heads] == [
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
    assert lines[start - 1].split() == [
        "shift", "same", "class", "relative", "error", "PSNR", "dB", "flicker", "n",
    ]  # fmt: skip
    assert lines[start + 1] == "  a_map_with_a_rather_long_name_of_its_own, protocol crop"
    assert [line.split()[0] for line in lines[start + 2 : start + 4]] == ["all", "horizontal"]


def camera_report(tmp_path: Path, nets: list[Path], *arguments: object) -> tuple[list[str], dict[str, Any]]:
    pictures = (255 * stripes(20)).astype("uint8")
    data = save(tmp_path / "stripes.npz", x=pictures, labels=[1] * 20)
    done = aa(
        "verify", nets[0], "--against", nets[1], "--data", data, "--preprocess", "unit", "--json", tmp_path / "r.json",
        *arguments,
    )  # fmt: skip
    assert done.status == 0, done.err
    return done.out.splitlines(), json.loads((tmp_path / "r.json").read_text())


def test_the_camera_comes_first(tmp_path: Path, nets: list[Path]) -> None:
    lines, found = camera_report(tmp_path, nets, "--conditions", "shift,noise")
    says = next(line for line in lines if line.startswith("Under a real camera after.onnx gives the same answer to "))
    change = found["camera"][0]["near"]["change"]
    assert f"against before.onnx: {change['after'] - change['before']:+.2f} [{change['low']:+.2f}, " in says
    assert says.endswith("points: better")
    heads = [i for i, line in enumerate(lines) if line.startswith("model ")]
    assert "near agreement" in lines[heads[0]]
    assert "consistency" in lines[heads[1]]
    rows = [line.split() for line in lines[heads[0] + 1 : heads[0] + 7]]
    assert [row[:2] for row in rows] == [
        [net, condition] for net in ("after.onnx", "before.onnx") for condition in ("pooled", "shift", "noise")
    ]
    for row, result in zip(rows[::3], found["camera"], strict=True):
        figures = [result["near"]["agreement"]["value"], result["far"]["agreement"]["value"], result["top1"]["value"]]
        assert [row[2], row[6], row[10]] == [f"{100 * figure:.1f}" for figure in figures]
    changes = next(i for i, line in enumerate(lines) if line.startswith("change, points"))
    assert [line.split()[0] for line in lines[changes + 1 : changes + 4]] == ["pooled", "shift", "noise"]
    parameters = next(line for line in lines if line.startswith("camera "))
    for words in ("up to 0.5 px, band-limited", "noise of sigma 0..5 of 255", "up to 3 px apart", "seed 0"):
        assert words in parameters


def test_the_camera_fits_a_terminal(narrow: None, tmp_path: Path, nets: list[Path]) -> None:
    lines, _ = camera_report(tmp_path, nets)
    assert max(map(len, lines)) <= 80
    head = next(line for line in lines if line.startswith("condition "))
    assert head.split() == ["condition", "near", "agreement", "far", "agreement", "top-1"]
    assert "model before.onnx" in lines


def test_own_pairs_have_their_table(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name, colour in (("red", (200, 0, 0)), ("green", (0, 200, 0))):
        image.new("RGB", (30, 30), colour).save(tmp_path / f"{name}.png")
    (tmp_path / "pairs.csv").write_text("file_a,file_b\nred.png,green.png\nred.png,red.png\n")
    onnx.save(parse(COLOUR), tmp_path / "net.onnx")
    lines = aa("verify", tmp_path / "net.onnx", "--pairs", tmp_path / "pairs.csv").out.splitlines()
    assert "pairs       centre crops of 2 pairs of images in pairs.csv, each its own" in lines
    head = next(i for i, line in enumerate(lines) if line.startswith("model "))
    assert lines[head].split() == ["model", "condition", "agreement", "drift", "worst", "n"]
    assert lines[head + 1].split()[:4] == ["net.onnx", "pairs", "50.0", "%"]


def test_detectors_show_consistency_beside_survival(narrow: None, tmp_path: Path) -> None:
    onnx.save(detector(32, mask=True), tmp_path / "masked.onnx")
    onnx.save(detector(32), tmp_path / "all.onnx")
    data = scene(tmp_path, 32, [(10, 12, 0.9), (20, 19, 0.7)], [(16, 16, 0.6)])
    request = ["verify", tmp_path / "masked.onnx", "--data", data, "--decode", grid_profile(tmp_path)]
    done = aa(*request, "--against", tmp_path / "all.onnx")
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    at = [i for i, line in enumerate(lines) if line.startswith("consistency ")]
    assert all(lines[i + 1].startswith("survival ") for i in at)
    assert re.split("  +", lines[at[0]])[1].startswith("72.7 % [")
    assert re.split("  +", lines[at[0] + 1])[1:] == ["66.7 % [14.8, 95.8]", "itself"]
    assert "crop consistency of detections against all.onnx: -26.67 points" in done.words
    assert "needs --against" in aa(*request).words
    (gone,) = [line for line in lines if line.startswith("horizontal 1") and " 0.0 %" in line]
    assert gone.split()[-2:] == ["-", "-"]  # nothing is left to shake


def test_a_detector_that_finds_nothing_has_no_signal(tmp_path: Path) -> None:
    onnx.save(detector(32), tmp_path / "d.onnx")
    done = aa("verify", tmp_path / "d.onnx", "--data", scene(tmp_path, 32, []), "--decode", grid_profile(tmp_path))
    assert done.status == 0
    assert "d.onnx: no signal in 1 samples" in done.out
    assert "consistency" not in done.out


def test_maps_show_the_measures_of_their_task(narrow: None, tmp_path: Path) -> None:
    net = "d (float[N,1,16,16] x) => (float[N,1,16,16] y) { m = GlobalAveragePool(x) y = Mul(x, m) }"
    onnx.save(parse(net), tmp_path / "d.onnx")
    titles = {
        "depth": ["aligned error", "scale off by", "PSNR dB", "flicker"],
        "segment": ["same class", "boundary px", "vanish", "appear", "flicker"],
        "image": ["relative error", "PSNR dB", "flicker"],
    }
    for task, shown in titles.items():
        done = aa("verify", tmp_path / "d.onnx", "--data", "synthetic:2", "--task", task, "--max-shift", "1")
        lines = done.out.splitlines()
        assert max(map(len, lines)) <= 80
        head = next(line for line in lines if "shift  " in line)
        assert all(title in head for title in shown), head
        assert next(line for line in lines if "all  " in line)


def test_a_constant_map_has_no_signal(tmp_path: Path) -> None:
    net = "c (float[N,1,16,16] x) => (float[N,1,16,16] y) <float[1] zero = {0}> { y = Mul(x, zero) }"
    onnx.save(parse(net), tmp_path / "c.onnx")
    done = aa("verify", tmp_path / "c.onnx", "--data", "synthetic:2", "--report", tmp_path / "c.html")
    assert "y of c.onnx, crop: no signal in 2 samples" in done.out
    assert "relative error" not in done.out
    assert "no signal in 2 samples" in (tmp_path / "c.html").read_text()


def test_embeddings_show_drift_neighbours_and_the_index(narrow: None, tmp_path: Path) -> None:
    net = "e (float[N,1,16,16] x) => (float[N,256] y) { y = Flatten(x) }"
    for name in ("a", "b"):
        onnx.save(parse(net), tmp_path / f"{name}.onnx")
    request = ["verify", tmp_path / "a.onnx", "--against", tmp_path / "b.onnx", "--data", "synthetic:4"]
    done = aa(*request, "--task", "embed", "--max-shift", "1")
    assert done.status == 0
    assert max(map(len, done.out.splitlines())) <= 80
    for words in ("drift of apart", "same neighbour", "finds itself"):
        assert words in done.out
    assert "index of b.onnx, crop: a.onnx finds 100.0 % [51.0, 100.0] of its images" in done.words
    assert "nearest neighbours that stay against b.onnx: +0.00 points" in done.words
