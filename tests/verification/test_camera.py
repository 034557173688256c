"""Steadiness under a camera: known answers, the crop protocol at severity 0, a user's own pairs, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import aa
from refusals import refused
from small_nets import COLOUR, SHARED, blurred_classifier, needs_shared, parse, phase_classifier, save, stripes

from aarewrite.data.camera import CONDITIONS, draw_camera_pairs
from aarewrite.data.geometry import Geometry
from aarewrite.verification import VerifyReport, verify
from aarewrite.verification.statistics import Proportion

Image = pytest.importorskip("PIL.Image")
GEOMETRY = Geometry((16, 16), (20, 20))
BASE = 2  # column of the canvas where the centre crop begins
MEAN = """
mean (float[N,3,16,16] x) => (float[N,2] y)
<float[2,3,1,1] w = {0, 0, 0, 1, 1, 1}, float[2] bias = {0.9, 0}> {
    a = GlobalAveragePool(x)
    b = Conv(a, w, bias)
    y = Flatten(b)
}"""


def byte_stripes(count: int) -> np.ndarray:
    """Columns that alternate 0, 255: `phase_classifier` answers by the parity of the first one seen."""
    return (255 * stripes(count)).astype(np.uint8)


def parities(count: int, conditions: tuple[str, ...], regime: str, severity: float = 1, pairs: int = 1) -> np.ndarray:
    """Parity of the first column of each view, (images, pairs, 2); where it is sampled between two, of the nearer."""
    drawn = [draw_camera_pairs(0, i, GEOMETRY, conditions, pairs, severity) for i in range(count)]
    columns = [
        [[view.offset[1] + BASE for view in pair.views] for pair in each if pair.near == (regime == "near")]
        for each in drawn
    ]
    return np.rint(columns).astype(int) % 2


def test_a_phase_model_flips_at_exactly_the_rate_of_odd_moves(tmp_path):
    data = save(tmp_path / "stripes.npz", x=byte_stripes(60), labels=np.arange(60) % 2)
    conditions = ("shift", "noise")
    report = verify(
        phase_classifier(), data, preprocess="unit", protocols=("camera",), conditions=conditions, camera_pairs=2
    )
    (result,) = report.camera
    for row in (result.near, result.far, *result.conditions):
        wanted = conditions if row.condition == "pooled" else (row.condition,)
        seen = parities(60, wanted, row.regime, pairs=2)
        same = (seen[..., 0] == seen[..., 1]).mean(1)
        right = (seen == (np.arange(60) % 2)[:, None, None]).mean((1, 2))
        assert 0 < same.mean() < 1
        assert row.agreement.value == pytest.approx(same.mean())
        assert row.worst_case == Proportion.of(int((same < 1).sum()), 60)
        assert row.top1.value == pytest.approx(right.mean())
        assert row.agreement.n == 60
    assert result.top1.value == pytest.approx((result.near.top1.value + result.far.top1.value) / 2)
    assert [(row.condition, row.regime) for row in result.conditions] == [
        ("shift", "near"), ("shift", "far"), ("noise", "near"), ("noise", "far"),
    ]  # fmt: skip


@pytest.mark.parametrize("severity", [1, 4])
def test_a_model_of_the_mean_alone_is_always_steady(folder, severity):
    report = verify(parse(MEAN), folder, preprocess="unit", severity=severity)
    (result,) = report.camera
    for row in (result.near, result.far, *result.conditions):
        assert row.agreement == Proportion.of(12, 12)
        assert row.worst_case == Proportion.of(0, 12)
    assert {row.condition for row in result.conditions} == set(CONDITIONS)
    assert report.protocols == ("camera", "crop")


def test_only_noise_moves_the_mean_of_a_constant_picture(tmp_path):
    pictures = np.broadcast_to(np.arange(0, 240, 40, dtype=np.uint8)[:, None, None, None], (6, 20, 20, 3))
    report = verify(parse(MEAN), save(tmp_path / "flat.npz", x=pictures), preprocess="unit", protocols=["camera"])
    drifts = {(row.condition, row.regime): row.drift.value for row in report.camera[0].conditions}
    moved = {group for group, drift in drifts.items() if drift > 1e-6}
    assert moved == {(condition, regime) for condition in ("noise", "mixed") for regime in ("near", "far")}


def test_severity_zero_is_the_crop_protocol(tmp_path):
    data = save(tmp_path / "stripes.npz", x=byte_stripes(50))
    report = verify(phase_classifier(), data, preprocess="unit", severity=0, seed=3, camera_pairs=3, pairs=3)
    crop = report.classification[0].consistency
    far = [row.agreement for row in report.camera[0].conditions if row.regime == "far"]
    assert far == [crop] * len(CONDITIONS)
    assert 0 < crop.value < 1
    assert "severity 0: whole-pixel crops without any effect" in report.camera[0].description


@needs_shared
def test_severity_zero_on_photographs():
    model, images = SHARED / "models" / "squeezenet1_1_fp32.onnx", SHARED / "images" / "imagenet_sample"
    report = verify(model, images, preprocess="caffe", severity=0, limit=10, conditions=("jpeg", "mixed"), max_shift=1)
    crop = report.classification[0].consistency
    assert [row.agreement for row in report.camera[0].conditions if row.regime == "far"] == [crop, crop]


def test_same_seed_same_numbers(folder):
    found = [verify(parse(COLOUR), folder, seed=seed, names=("net", "")).camera for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_the_change_is_after_minus_before(tmp_path):
    data = save(tmp_path / "stripes.npz", x=byte_stripes(40), labels=np.ones(40, int))
    nets = {"steady": blurred_classifier(), "shaky": phase_classifier()}

    def changed(first: str, second: str) -> VerifyReport:
        return verify(
            nets[first], data, against=nets[second], names=(first, second), preprocess="unit", conditions=["noise"]
        )

    after, before = changed("steady", "shaky").camera
    assert before.near.change is before.top1_change is None
    for row, other in ((after.near, before.near), (after.far, before.far)):
        assert row.agreement.value == 1
        assert row.change.before == pytest.approx(100 * other.agreement.value)
        assert 0 < row.change.low < row.change.change < row.change.high
    assert (after.judgement, before.judgement) == ("better", None)
    assert after.top1_change.after == pytest.approx(100 * after.top1.value)
    back = changed("shaky", "steady").camera[0]
    assert back.near.change.change == pytest.approx(-after.near.change.change)
    assert back.judgement == "worse"
    assert back.top1_change.change == pytest.approx(-after.top1_change.change)


def test_what_is_no_picture_is_measured_by_crops_alone(net, tmp_path):
    floats = save(tmp_path / "floats.npz", x=stripes(3))
    for data, reason in (
        ("synthetic:3", "synthetic noise is no picture"),
        (floats, "samples of (1, 20, 20) floats are no pictures"),
    ):
        report = verify(net, data)
        assert report.protocols == ("crop",)
        assert any(f"not under a camera: {reason}" in note for note in report.notes)
        refused(2, f"--protocol camera: {reason}", "use crop", args=[net, "--data", data, "--protocol", "camera,crop"])
    report = verify(net, floats, task="vector")
    assert any("task vector gives no single answer to agree" in note for note in report.notes)
    assert not verify(net, floats, protocols=["crop"]).notes
    grey = save(tmp_path / "bytes.npz", x=byte_stripes(3))
    assert verify(net, grey, preprocess="unit").protocols == ("camera", "crop")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--conditions", "shift,fog"], "--conditions fog: unknown; use shift, noise, jpeg"),
        (["--conditions", "shift,shift"], "one twice"),
        (["--conditions", ""], "--conditions '': none"),
        (["--severity", "-1"], "--severity -1: out of range; give a number from 0 to 4"),
        (["--severity", "nan"], "--severity nan: out of range"),
        (["--camera-pairs", "0"], "--camera-pairs 0: needs at least one pair"),
        (["--min-near", "2"], "--min-near 2.0: not a share"),
        (["--protocol", "crop", "--severity", "2"], "--severity does nothing without camera in --protocol"),
        (["--protocol", "crop", "--min-near", "0.5"], "--min-near does nothing without camera in --protocol"),
        (["--protocol", "camera", "--min-consistency", "0.5"], "--min-consistency does nothing without crop, circular"),
        (["--protocol", "camera", "--crop-pairs", "2"], "--crop-pairs does nothing without crop, circular"),
        (["--protocol", "camera", "--max-shift", "2"], "--max-shift does nothing without crop, circular"),
        (["--task", "vector", "--conditions", "shift"], "--conditions does nothing for task vector"),
        (
            ["--task", "vector", "--protocol", "camera"],
            "--protocol camera: task vector gives no single answer to agree",
        ),
    ],
)
def test_wrong_usage(colour_net, folder, options, word):
    refused(2, word, args=[colour_net, "--data", str(folder), *options])


def test_near_agreement_can_be_demanded(tmp_path):
    onnx.save(phase_classifier(), tmp_path / "net.onnx")
    data = save(tmp_path / "stripes.npz", x=byte_stripes(20))
    arguments = [tmp_path / "net.onnx", "--data", data, "--preprocess", "unit", "--min-near"]
    assert aa("verify", *arguments, 0.1).status == 0
    outcome = aa("verify", *arguments, 0.99)
    assert outcome.status == 1
    assert "near agreement under a camera of net.onnx is 0." in outcome.err


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Red and green pictures, and pairs of them from two clips."""
    (tmp_path / "frames").mkdir()
    for name, colour in (("red", (200, 20, 20)), ("dark", (90, 10, 10)), ("green", (10, 180, 30))):
        Image.new("RGB", (40, 30), colour).save(tmp_path / "frames" / f"{name}.png")
    rows = ["red,dark,0,one", "red,green,0,one", "green,green,1,two", "dark,red,1,two"]
    lines = [f"frames/{a}.png,frames/{b}.png,{rest}" for a, b, rest in (row.split(",", 2) for row in rows)]
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(["file_a,file_b,class_index,cluster", *lines]) + "\n")
    return path


def test_own_pairs_count_by_clip(clips, colour_net):
    outcome = aa("verify", colour_net, "--pairs", clips, "--json", clips.parent / "out.json")
    assert outcome.status == 0, outcome.err
    found = json.loads((clips.parent / "out.json").read_text())
    (result,) = found["pairs"]
    assert (result["pairs"], result["n"], found["classification"], found["camera"]) == (4, 2, [], [])
    row = result["found"]
    assert (row["condition"], row["regime"]) == ("pairs", "own")
    assert row["agreement"]["value"] == pytest.approx((1 / 2 + 1) / 2)
    assert row["top1"]["value"] == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert row["worst_case"]["value"] == 0.5
    assert "4 pairs of images in pairs.csv, in 2 clusters" in result["description"]


def test_own_pairs_beside_data_and_against(clips, folder):
    dull = parse(MEAN)
    report = verify(dull, folder, own_pairs=clips, against=parse(COLOUR), names=("dull", "colour"))
    after, before = report.pairs
    assert (after.found.agreement.value, before.found.agreement.value) == (1.0, 0.75)
    assert after.found.change.change == 25
    assert report.protocols == ("camera", "pairs", "crop")
    assert report.n == 12
    clips.write_text("file_a,file_b\n" + "frames/red.png,frames/green.png\n" * 3)
    (single,) = verify(parse(COLOUR), own_pairs=clips, limit=2).pairs
    assert (single.pairs, single.found.agreement, single.found.top1) == (2, Proportion.of(0, 2), None)


def test_pairs_of_a_stored_pair_of_crops_agree_as_crops_do(tmp_path):
    """Pictures cut by hand at the offsets of crops give the figures of the crops."""
    onnx.save(phase_classifier(), tmp_path / "net.onnx")
    offsets = np.random.default_rng(0).integers(0, 4, (12, 2))
    lines = ["file_a,file_b"]
    wide = np.broadcast_to(255 * (np.arange(30) % 2), (20, 30)).astype(np.uint8)
    for i, pair in enumerate(offsets):
        for k, start in enumerate(pair):
            Image.fromarray(wide[:, start : start + 20].repeat(3).reshape(20, 20, 3)).save(tmp_path / f"{i}_{k}.png")
        lines.append(f"{i}_0.png,{i}_1.png")
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    (result,) = verify(tmp_path / "net.onnx", own_pairs=tmp_path / "pairs.csv").pairs
    assert result.found.agreement == Proportion.of(int((offsets[:, 0] % 2 == offsets[:, 1] % 2).sum()), 12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file_a,file_b\nframes/red.png,frames/gone.png\n", ["pairs.csv line 2: frames/gone.png: no such file"]),
        ("file_a,file_b\n\nframes/red.png\n", ["pairs.csv line 3: a file is not named"]),
        ("file_a,file_b\nframes/red.png,pairs.csv\n", ["pairs.csv line 2: ", "cannot be decoded: no image"]),
        ("left,right\na,b\n", ["pairs.csv: columns are left, right; it needs `file_a` and `file_b`"]),
        ("file_a,file_b\n", ["pairs.csv: no rows"]),
        ("file_a,file_b,label\nframes/red.png,frames/red.png,x\n", ["pairs.csv line 2: class index 'x'"]),
        ("file_a,file_b,label\nframes/red.png,frames/red.png,7\n", ["label 7 of frames/red.png and", "2 classes"]),
    ],
)
def test_rows_that_cannot_be_are_named(clips, colour_net, text, words):
    clips.write_text(text)
    refused(2, *words, args=[colour_net, "--pairs", str(clips)])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--protocol", "crop"], "--protocol does nothing for --pairs without --data"),
        (["--labels", "labels.csv"], "--labels does nothing for --pairs without --data"),
        (["--severity", "2"], "--severity does nothing without camera in --protocol"),
        (["--task", "vector"], "--pairs does nothing for task vector"),
    ],
)
def test_options_that_pairs_alone_leave_idle(clips, colour_net, options, word):
    refused(2, word, args=[colour_net, "--pairs", str(clips), *options])


def test_missing_pair_file(colour_net, tmp_path):
    refused(2, "gone.csv: no such file", args=[colour_net, "--pairs", str(tmp_path / "gone.csv")])
