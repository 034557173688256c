"""`aarewrite stream`: what it writes, prints, refuses; what fails writes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import aa, failed, files
from reference import build, session, weight

from aarewrite.streaming import sliding


@pytest.fixture
def net(tmp_path: Path) -> Path:
    model = build(
        """(float[N, 2, time] x) => (float[] y) {
        [first] a = Conv<pads = [1, 1], strides = [2]>(x, w)
        [relu] b = Relu(a)
        [deep] c = Conv<pads = [1, 1]>(b, v)
        [mean] y = GlobalAveragePool(c)
    }""",
        w=weight(4, 2, 3), v=weight(8, 4, 3),
    )  # fmt: skip
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


SHAPE = ("--input", "x:1x2x64")


def test_it_writes_a_proven_model_and_says_what_it_did(net: Path) -> None:
    found = aa("stream", net, "--step", 4, "--axis", "time", *SHAPE, "--json", net.with_name("out.json"))
    assert found.status == 0, found
    assert "deep Conv 2 + 3 of 32 27 3.07k -> 480 " in found.words
    assert "mean GlobalAveragePool whole it averages the whole window" in found.words
    assert "exact form along axis 2 of x: window 64, step 4; 3.84k -> 648 multiply-accumulates a step" in found.words
    assert "outputs are right from step 16 on" in found.words
    assert "proof: every output (1) of 4 windows of a random signal, step by step; largest difference" in found.words
    assert "ms a window ->" in found.words
    assert "wrote" in found.words
    report = json.loads(net.with_name("out.json").read_text())
    assert (report["window"], report["step"], report["first_valid"]) == (64, 4, 16)
    written = onnx.load(net.with_name("net.stream.onnx"))
    assert session(written).get_inputs()[0].shape == [1, 2, 4]
    told = json.loads(next(e.value for e in written.metadata_props if e.key == "aarewrite.stream"))
    assert told["states"] == report["states"]
    assert {key: told[key] for key in ("input", "axis", "window", "step", "first_valid")} == {
        "input": "x", "axis": 2, "window": 64, "step": 4, "first_valid": 16,
    }  # fmt: skip


def test_a_dry_run_prints_the_table_and_writes_nothing(net: Path) -> None:
    found = aa("stream", net, "--step", 4, *SHAPE, "--dry-run")
    assert found.status == 0
    assert "first Conv 3 + 4 of 32" in found.words
    assert files(net.parent) == {"net.onnx"}
    plan = json.loads(aa("stream", net, "--step", 4, *SHAPE, "--dry-run", "--json", "-").out)
    assert [row["node"] for row in plan["rows"]] == ["first", "relu", "deep", "mean"]


def test_a_dry_run_of_what_saves_too_little_shows_why(net: Path) -> None:
    found = aa("stream", net, "--step", 60, *SHAPE, "--dry-run")
    assert found.status == 3
    assert "deep Conv whole 3.07k its borders (2 and 1) and the step (30) cover its 32" in found.words
    assert "node 'deep' (Conv) is computed on the whole window" in found.err


@pytest.mark.parametrize(
    ("arguments", "status", "texts"),
    [
        (["--step", 3, *SHAPE], 2, ["node 'first' (Conv)", "the nearest steps that work are 2, 4, 6, 8"]),
        (["--step", 60, *SHAPE], 3, ["would take 0.99 of a window's work", "node 'deep' (Conv)"]),
        (["--step", 4], 2, ["the window's length is not known", "--input x:SHAPE"]),
        (["--step", 0, *SHAPE], 2, ["--step"]),
        (["--step", "x", *SHAPE], 2, ["--step"]),
        ([*SHAPE], 2, ["--step"]),
        (["--step", 4, *SHAPE, "--form", "half"], 2, ["form 'half' is not one of exact, signal"]),
        (["--step", 4, *SHAPE, "--axis", 7], 2, ["--axis 7: no input has such an axis"]),
        (["--step", 4, "--input", "x"], 2, ["is not NAME:SHAPE"]),
        (["--step", 4, "--input", "z:1x2"], 2, ["the model has no such input"]),
    ],
)
def test_bad_input_gets_one_line_and_nothing_is_written(net: Path, arguments, status: int, texts) -> None:
    failed(aa("stream", net, *arguments), status, *texts)
    assert files(net.parent) == {"net.onnx"}


def test_what_is_not_proven_is_not_written(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = sliding.slid

    def wrong(*arguments):
        track = right(*arguments)
        return type(track)(track.axis, track.rate, 0, track.right, track.length)

    monkeypatch.setattr(sliding, "slid", wrong)
    found = aa("stream", net, "--step", 4, *SHAPE, "--json", net.with_name("out.json"))
    assert found.status == 1
    assert "the streaming model is not the original: 'y' differs by" in found.err
    assert files(net.parent) == {"net.onnx"}


def test_the_output_is_never_the_input(net: Path) -> None:
    before = net.read_bytes()
    failed(aa("stream", net, "--step", 4, *SHAPE, "-o", net), 2, "is the input itself", "choose another -o")
    assert net.read_bytes() == before


def test_a_model_on_stdout(net: Path) -> None:
    found = aa("stream", net, "--step", 4, *SHAPE, "-o", "-")
    assert found.status == 0
    model = onnx.load_from_string(found.out.encode("utf-8", "surrogateescape"))
    assert model.graph.input[0].name == "x"
    assert files(net.parent) == {"net.onnx"}


def test_the_signal_form_says_how_far_it_is(net: Path) -> None:
    found = aa("stream", net, "--step", 4, *SHAPE, "--form", "signal", "--pack-states")
    assert found.status == 0, found
    assert "signal form along axis 2 of x: window 64, step 4" in found.words
    assert "samples late" in found.words
    assert "maps equal the original's where no border reaches" in found.words
    assert "y on 40 windows of a random signal: largest difference" in found.words
    assert "NRMSE" in found.words
    told = next(e.value for e in onnx.load(net.with_name("net.stream.onnx")).metadata_props)
    assert json.loads(told)["states"] == {"states/float32": "states/float32/next"}


@pytest.mark.parametrize("form", ["exact", "signal"])
def test_a_signal_of_ones_own(net: Path, form: str) -> None:
    data = net.with_name("data.npz")
    np.savez(data, x=weight(1, 2, 200))
    found = aa("stream", net, "--step", 4, *SHAPE, "--form", form, "--verify", data)
    assert found.status == 0, found
    assert "windows of data.npz: largest difference" in found.words
    failed(aa("stream", net, "--step", 4, *SHAPE, "--verify", net.with_name("no.wav")), 2, "no such file")
    failed(aa("stream", net, "--step", 4, *SHAPE, "--verify", data, "--json", data), 2, "is what --verify reads")


def test_verify_of_a_streaming_model(net: Path) -> None:
    made, data = net.with_name("s.onnx"), net.with_name("data.npy")
    aa("stream", net, "--step", 4, *SHAPE, "-o", made)
    np.save(data, weight(2, 200))
    found = aa("verify", made, "--against", net, "--data", data)
    assert found.status == 0, found
    assert "y on 35 windows of data.npy: largest difference" in found.words
    report = json.loads(aa("verify", made, "--against", net, "--json", "-").out)
    assert report["form"] == "exact"
    assert report["agreements"][0]["windows"] == 40
    failed(aa("verify", made), 2, "verified beside the model it was made from; add --against ORIGINAL.onnx")
    failed(aa("verify", made, "--against", net, "--layers"), 2, "--layers does nothing for a streaming model")
    other = build("(float[N, 2, time] x) => (float[] y) { a = Conv(x, w) y = GlobalMaxPool(a) }", w=weight(8, 2, 3))
    onnx.save(other, net)
    failed(aa("verify", made, "--against", net), 1, "is not the original on a random signal")


def test_verify_of_the_signal_form_keeps_a_limit(net: Path) -> None:
    made = net.with_name("s.onnx")
    aa("stream", net, "--step", 4, *SHAPE, "--form", "signal", "-o", made)
    found = aa("verify", made, "--against", net, "--max-diff", 1e-6)
    assert found.status == 1
    assert "above --max-diff 1e-06" in found.err


def test_quiet_prints_nothing(net: Path) -> None:
    assert aa("stream", net, "--step", 4, *SHAPE, "--dry-run", "-q") == (0, "", "")
