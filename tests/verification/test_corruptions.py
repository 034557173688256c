"""Classifiers on spoilt pictures, against figures that can be counted; and what is said of a loss."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from command import aa, failed
from refusals import refused
from small_nets import COLOUR, parse, save

from aarewrite.data.setup import open_setup
from aarewrite.verification import verify
from aarewrite.verification.corruptions import CorruptionStudy, loss
from aarewrite.verification.statistics import difference

pytest.importorskip("PIL")
# Class 1 where the mean is above 0.55: brightness 1 adds 0.1, 2 adds 0.2
BRIGHT = """
g (float[N,3,16,16] x) => (float[N,2] y)
<float[2,3,1,1] w = {0, 0, 0, 0.3333333, 0.3333333, 0.3333333}, float[2] b = {0.55, 0}> {
    a = GlobalAveragePool(x)
    c = Conv(a, w, b)
    y = Flatten(c)
}"""
ONE = BRIGHT.replace("0.55", "-9")  # always class 1


@pytest.fixture
def greys(tmp_path):
    """Flat pictures of 0.3, 0.4, 0.5 and 0.6: with brightness 1/3, 2/3, 1, 2, 3, 4, 5 more of them are bright."""
    values = np.uint8([0.3 * 255, 0.4 * 255, 0.5 * 255, 0.6 * 255])
    x = np.broadcast_to(values[:, None, None, None], (4, 20, 20, 3))
    return save(tmp_path / "greys.npz", x=x, labels=np.array([0, 0, 0, 1]))


def test_brightness_can_be_counted(greys):
    options = {"protocols": ("corruptions",), "corruptions": ("brightness",), "preprocess": "unit"}
    report = verify(parse(BRIGHT), greys, against=parse(ONE), names=("net", "one"), **options)
    result, other = report.corruptions
    (kind,) = result.kinds
    # 0.3 turns at severity 3, 0.4 at 2, 0.5 at 1 (0.5 + 0.2/3 is above 0.55, so at the second frame), 0.6 never
    assert [share.successes for share in kind.kept] == [3, 2, 1, 1, 1]
    assert kind.failed.value == pytest.approx((3 + 4 + 5 + 0) / 20)
    assert kind.flips.value == pytest.approx(1 / 3 / 4)
    assert (result.clean.value, other.clean.value) == (1.0, 0.25)
    assert other.kinds[0].failed.value == 0.75
    assert kind.relative_failed == pytest.approx(0.6 / 0.75)
    assert (kind.relative_flips, result.mean_flips) == (None, None)  # the other never flips
    assert result.mean_failed == pytest.approx(0.8)
    assert (other.mean_failed, other.change) == (1.0, None)
    assert (result.change.name, result.change.change) == ("right under corruptions", pytest.approx(15))
    assert report.protocols == ("corruptions",)


def test_without_labels_a_lost_class_counts(greys, tmp_path):
    with np.load(greys) as arrays:
        data = save(tmp_path / "x.npz", x=arrays["x"])
    report = verify(
        parse(BRIGHT), data, protocols=["corruptions"], corruptions=["brightness"], preprocess="unit", names=("net", "")
    )
    (result,) = report.corruptions
    assert (result.labelled, result.clean, result.change, result.mean_failed) == (False, None, None, None)
    assert result.failed.value == pytest.approx(12 / 20)


def test_the_first_view_is_the_centre_crop_bit_for_bit(folder):
    setup = open_setup(parse(COLOUR), folder)
    study, sample = CorruptionStudy(setup, ["y"], ["fog", "shot noise"]), setup.sample(3)
    assert study.count(3) == 1 + 2 * (5 + 2)
    render = study.look(sample)
    assert np.array_equal(render(0)[0], setup.centre(sample)[0][0])
    others = [render(number)[0] for number in range(1, study.count(3))]
    assert not any(np.array_equal(render(0)[0], other) for other in others)
    assert len({other.tobytes() for other in others}) == len(others)


def test_table_json_and_page(folder, tmp_path):
    onnx.save(parse(COLOUR), tmp_path / "net.onnx")
    onnx.save(parse(COLOUR.replace("1, 0, 0, 0, 1, 0", "0, 1, 0, 0, 0, 1")), tmp_path / "old.onnx")
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    ran = aa("verify", tmp_path / "net.onnx", "--against", tmp_path / "old.onnx", "--data", folder, "--protocol",
             "corruptions", "--corruptions", "shot-noise,fog", "--json", out, "--report", page)  # fmt: skip
    assert (ran.status, ran.err) == (0, "")
    found = json.loads(out.read_text())["corruptions"]
    assert [kind["kind"] for kind in found[0]["kinds"]] == ["shot noise", "fog"]
    assert f"relative to old.onnx (1): mean error {found[0]['mean_failed']:.3f}" in ran.words
    assert ran.out.count("shot noise") >= 2
    assert "Spoilt pictures" in page.read_text()


def test_requests_that_cannot_be(colour_net, folder, tmp_path):
    given = [colour_net, "--data", str(folder)]
    refused(2, "--corruptions hail: unknown", args=[*given, "--protocol", "corruptions", "--corruptions", "hail"])
    refused(2, "--corruptions does nothing without corruptions", args=[*given, "--corruptions", "fog"])
    twice = ["--protocol", "corruptions", "--corruptions", "fog,fog"]
    refused(2, "one twice", args=[*given, *twice])
    failed(aa("verify", colour_net, "--protocol", "corruptions"), 2, "--protocol corruptions: synthetic noise")


def test_a_gain_under_shifts_with_a_loss_under_corruptions_is_said(greys):
    options = {"protocols": ("corruptions",), "corruptions": ("brightness",), "preprocess": "unit", "names": ("a", "b")}
    result = verify(parse(BRIGHT), greys, against=parse(ONE), **options).corruptions[0]
    gain, none = difference("near", [0] * 20, [1] * 20), difference("near", [0, 1] * 10, [1, 0] * 10)
    worse = replace(result, change=difference("right under corruptions", [1] * 20, [0] * 20))
    says = loss(worse, [none, gain])
    assert says.startswith("steadier under shifts (near +100.00")
    assert "but worse under corruptions: right under corruptions -100.00" in says
    assert loss(worse, [none]) == loss(result, [gain]) == loss(replace(result, change=None), [gain]) == ""
