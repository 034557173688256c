"""Decoding profiles: the built-in ones, the TOML schema and its errors."""

from __future__ import annotations

import pytest

from aarewrite.errors import UsageError
from aarewrite.verification.profiles import BUILT_IN, Boxes, Profile, Scores, load_profile, parse_profile


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_profiles_load_under_their_name(name):
    profile = load_profile(name)
    assert profile.name == name
    assert profile.boxes
    assert profile.scores


def test_own_file_is_read_with_its_defaults(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        '[boxes]\noutputs = ["b"]\nunits = "relative"\n[scores]\noutputs = ["s", "conf*"]\nchannels = [1]\n'
    )
    found = load_profile(str(path))
    boxes, scores = Boxes(("b",), units="relative"), Scores(("s", "conf*"), channels=(1,))
    assert found == Profile("mine", scores=scores, boxes=boxes)
    assert (found.threshold, found.nms, boxes.code, boxes.layout, found.unbatched) == (
        0.5,
        0.45,
        "corners",
        "nac",
        False,
    )
    assert list(found.parts) == ["scores", "boxes"]
    assert load_profile("nms-rows-batched").unbatched


BOXES = '[boxes]\noutputs = ["b"]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[boxes", "profile mine: "),
        ("threshold = 0.5", r"neither \[boxes\] nor \[keypoints\]"),
        ('[boxes]\ncode = "corners"', r"\[boxes\]: no 'outputs'"),
        ("[boxes]\noutputs = []", "outputs = .* is not a list of names"),
        (BOXES + 'code = "polar"', "code = 'polar' is not one of corners"),
        (BOXES + 'layout = "nac"\nchannels = [4, 4]', r"channels = \[4, 4\] is not \[from, to\]"),
        (BOXES + 'code = "yolox"', r"code 'yolox' needs strides; write strides = \[8, 16, 32\]"),
        (f'strides = [8]\n{BOXES}code = "ssd"', r"code 'ssd' needs anchors, a list of \[width, height\] a stride"),
        (f'strides = [8]\nanchors = [[[1]]]\n{BOXES}code = "ssd"', r"an anchor is \[width, height\]"),
        (f"strides = [8, 16]\nper_cell = [1, 2, 3]\n{BOXES}", "per_cell has one number, or one a stride"),
        (BOXES + 'layout = "nchw"', "a grid needs strides"),
        ("threshold = 0\n" + BOXES, "threshold = 0 is not above 0 and up to 1"),
        (BOXES + "channels = [-4, 0]", r"channels = \[-4, 0\] is not \[from, to\]"),
        ("strides = [8, 0]\n" + BOXES, r"strides = \[8, 0\] is not a list of whole numbers of 1 or more"),
        ("per_cell = []\n" + BOXES, "per_cell = .* is not a list of whole numbers"),
        ("nms = 2\n" + BOXES, "nms = 2 is not 0 to 1"),
        ("speed = 1\n" + BOXES, "unknown key 'speed'"),
        (BOXES + '[scores]\noutputs = ["s"]\nactivation = "relu"', "activation = 'relu' is not one of none, sigmoid"),
        (BOXES + '[keypoints]\noutputs = ["k"]\nstep = 1', "step = 1 is not 2 or more"),
    ],
)
def test_what_is_wrong_with_a_profile_is_said(text, message):
    with pytest.raises(UsageError, match=message):
        parse_profile(text, "mine")


def test_no_such_profile():
    with pytest.raises(UsageError, match=r"--decode yolo99: no such profile; use auto, blazeface, .* or a TOML file"):
        load_profile("yolo99")
