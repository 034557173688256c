"""Detectors whose consistency, shaking and survival one can count by hand, and real ones."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from refusals import refused
from small_nets import GRID_PROFILE, SHARED, detector, grid_profile, needs_shared, parse, scene

from aarewrite.errors import UsageError
from aarewrite.verification import verify
from aarewrite.verification.decode import Detections
from aarewrite.verification.detect import match


def test_a_detector_that_translates_exactly_scores_100_and_0_px(tmp_path):
    data = scene(tmp_path, 32, [(10, 12, 0.9), (20, 18, 0.7)], [(16, 16, 0.6)])
    report = verify(detector(32), data, decode=grid_profile(tmp_path))
    (result,) = report.detections
    assert (report.task, result.profile, result.detections, result.images, result.n) == ("detect", "stride1", 3, 2, 2)
    assert {(p.direction, p.distance) for p in result.points} == {
        (name, d) for name in ("horizontal", "vertical", "diagonal") for d in (1, 2)
    }  # below the stride of 1 there is nothing; at it and above
    for p in (result, *result.points):
        assert (p.consistency.value, p.consistency.high) == (1, 1)
        assert (p.instability.value, p.score_change.value, p.jitter.value, p.births, p.deaths) == (0, 0, 0, 0, 0)
    assert (result.largest_jitter, result.jitter_of_side.value, result.survival) == (0, 0, None)
    assert report.frames == ()


def test_boxes_that_snap_to_a_grid_of_8_px_shake_as_counted(tmp_path):
    data = scene(tmp_path, 128, [(67, 67, 0.9)])  # 3 px behind the cell's corner
    (result,) = verify(detector(128, 8), data, decode=grid_profile(tmp_path, 8)).detections
    assert max(p.distance for p in result.points) == 9  # the stride and one more
    for p in result.points:
        d = int(p.distance)
        away = abs((67 - d) // 8 * 8 + d - 64)  # 1, 2, 3, 4, 3, 2, 1, 0, 1
        assert p.jitter.value == pytest.approx(away)
        assert p.consistency.value == 1
        union = (2 * 48 * 48 - (48 - away) ** 2) if p.direction == "diagonal" else 48 * (48 + away)
        shared = (48 - away) ** 2 if p.direction == "diagonal" else 48 * (48 - away)
        assert p.instability.value == pytest.approx(1 - shared / union)
    assert result.jitter.value == result.largest_jitter == pytest.approx(4)
    assert result.jitter_of_side.value == pytest.approx(4 / 48)


def test_births_deaths_and_survival_are_counted(tmp_path):
    data = scene(tmp_path, 32, [(10, 12, 0.9), (20, 19, 0.7)], [(16, 16, 0.6)])
    nets = detector(32, mask=True), detector(32)
    report = verify(nets[0], data, against=nets[1], names=("masked", "all"), decode=grid_profile(tmp_path))
    masked, every = report.detections
    at = {(p.direction, p.distance): p for p in masked.points}
    # One step sideways the first image swaps its two, the second loses its one.
    for direction in ("horizontal", "diagonal"):
        assert (at[direction, 1].births, at[direction, 1].deaths, at[direction, 1].consistency.value) == (1, 2, 0)
        assert at[direction, 1].jitter.n == 0
    for point in (at["vertical", 1], at["horizontal", 2], at["diagonal", 2]):
        assert (point.births, point.deaths, point.consistency.value) == (0, 0, 1)
    assert masked.consistency.value == pytest.approx(2 * 8 / (2 * 8 + 2 * 3))
    assert (masked.detections, every.detections) == (2, 3)
    assert masked.survival.value == pytest.approx(2 / 3)
    assert every.survival is None
    assert every.consistency.value == 1
    # By image 2 * 4 / (2 * 4 + 4), 2 * 4 / (2 * 4 + 2)
    (change,) = report.changes
    assert (change.before, change.after, change.n) == (100, pytest.approx(50 * (8 / 12 + 8 / 10)), 2)
    shown = report.frames[0]
    assert (shown.name, shown.offset) == ("scene[0]", (0, 1))
    first, second = shown.boxes[0]
    assert [(box.corners, box.paired) for box in (*first, *second)] == [
        ((9, 7, 15, 13), False), ((15, 17, 21, 23), False),
    ]  # fmt: skip
    assert all(box.paired for side in shown.boxes[1] for box in side)


def test_scores_that_change_are_told(tmp_path):
    ramp = ", ".join(str(0.5 + k / 128) for k in range(32))
    net = parse(f"""
    ramp (float[N,1,32,32] x) => (float[N,1,32,32] score, float[N,4,32,32] boxes)
    <float[1,1,1,32] seen = {{{ramp}}}, float[4,1,1,1] w = {{0, 0, 0, 0}}, float[4] half = {{3, 3, 3, 3}}> {{
        score = Mul(x, seen)
        boxes = Conv(x, w, half)
    }}""")
    (result,) = verify(net, scene(tmp_path, 32, [(16, 16, 1.0)]), decode=grid_profile(tmp_path)).detections
    changes = {(p.direction, p.distance): p.score_change.value for p in result.points}
    assert changes["horizontal", 2] == pytest.approx(2 / 128)
    assert changes["vertical", 2] == 0


def test_what_the_border_cuts_is_not_counted(tmp_path):
    net, decode = detector(32, mask=True), grid_profile(tmp_path)
    data = scene(tmp_path, 32, [(2, 15, 0.9), (10, 2, 0.9), (16, 4, 0.9)])  # the first two reach over the border
    (result,) = verify(net, data, decode=decode).detections
    assert [p.births + p.deaths for p in result.points if p.direction == "horizontal"] == [1, 0]  # of the third alone
    (margin,) = verify(net, data, decode=decode, margin=2).detections
    assert (margin.births, margin.deaths, margin.images) == (0, 0, 0)
    with pytest.raises(UsageError, match="--margin 8: leaves no region; give 0 to less than 8 px"):
        verify(net, data, decode=decode, margin=8)


def test_nothing_seen_is_no_signal(tmp_path):
    data = scene(tmp_path, 32, [(5, 5, 0.1)], [])
    report = verify(detector(32), data, decode=grid_profile(tmp_path), min_consistency=0.5)
    (result,) = report.detections
    assert (result.signal, result.images, result.detections, result.n) == (False, 0, 0, 2)
    assert np.isnan(result.consistency.value)
    assert report.to_dict()["detections"][0]["consistency"]["value"] is None
    assert report.failures == ("crop consistency of detections of model has no signal in 2 samples",)
    assert report.frames == ()


def test_keypoints_shake_with_their_detector(tmp_path):
    path = tmp_path / "points.toml"
    path.write_text(
        GRID_PROFILE.format(stride=8) + '[keypoints]\noutputs = ["boxes"]\nlayout = "nchw"\ncode = "cells"\n'
    )
    (result,) = verify(detector(128, 8), scene(tmp_path, 128, [(67, 67, 0.9)]), decode=str(path)).detections
    assert {(p.direction, p.distance): p.points_jitter.value for p in result.points}["horizontal", 3] == 3


def boxes(*corners: tuple[float, ...], classes: list[int] | None = None) -> Detections:
    n = len(corners)
    return Detections(
        np.array(corners, float).reshape(n, 4), np.ones(n), np.array(classes or [0] * n), np.zeros((n, 0, 2))
    )


def test_matching_is_greedy_within_a_class():
    first = boxes((0, 0, 10, 10), (2, 0, 12, 10), (50, 0, 60, 10))
    second = boxes((2, 0, 12, 10), (0, 0, 10, 9), (50, 0, 60, 10), classes=[0, 0, 1])
    left, right = match(first, second)
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == [(0, 1), (1, 0)]
    # The best partner of the first is taken from the second, which has to do with what is left.
    left, right = match(boxes((1, 0, 11, 10), (0, 0, 10, 10)), boxes((0, 0, 10, 10), (6, 0, 16, 10)))
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == [(0, 0)]
    assert match(first, boxes())[0].size == 0


def test_frames_are_the_worst_six(tmp_path):
    pixels = [[(8 + 2 * i, 12, 0.9)] for i in range(8)]  # each is gone a step to the right
    pixels[5] += [(10, 20, 0.8)]
    report = verify(detector(32, mask=True), scene(tmp_path, 32, *pixels), decode=grid_profile(tmp_path))
    assert [frames.name for frames in report.frames] == [f"scene[{i}]" for i in (5, 0, 1, 2, 3, 4)]


def anchors(tmp_path) -> str:
    model = parse("""
    heads (float[N,1,16,16] x) => (float[N,64,4] rects, float[N,64,2] probs)
    <float[4,1,1,1] w = {1, 1, 1, 1}, float[2,1,1,1] v = {3, -3}, int64[3] r = {0, 4, -1}, int64[3] p = {0, 2, -1}> {
        a = Conv<strides = [2, 2]>(x, w)
        b = Reshape(a, r)
        rects = Transpose<perm = [0, 2, 1]>(b)
        c = Conv<strides = [2, 2]>(x, v)
        d = Reshape(c, p)
        probs = Transpose<perm = [0, 2, 1]>(d)
    }""")
    onnx.save(model, tmp_path / "heads.onnx")
    return str(tmp_path / "heads.onnx")


def test_a_list_of_anchors_is_refused_by_name_and_never_a_vector(tmp_path):
    net = anchors(tmp_path)
    what = "heads.onnx: no built-in profile decodes outputs rects (1, 64, 4), probs (1, 64, 2)"
    for more in ([], ["--task", "detect"], ["--decode", "auto"]):
        refused(3, what, 'outputs = ["rects"]', "--decode", args=[net, "--data", "synthetic:1", *more])
    says = "rects (1, 64, 4), probs (1, 64, 2) lists predictions"
    refused(3, says, "--task detect", args=[net, "--data", "synthetic:1", "--task", "vector"])


def test_options_that_do_not_suit_detectors(tmp_path, net):
    data = scene(tmp_path, 32, [(16, 16, 0.9)])
    onnx.save(detector(32), tmp_path / "d.onnx")
    args = [str(tmp_path / "d.onnx"), "--data", data, "--decode", grid_profile(tmp_path)]
    refused(2, "boxes that wrap around", "use crop", args=[*args, "--protocol", "circular"])
    refused(2, "--decode does nothing for task classify", args=[*args, "--task", "classify"])
    refused(2, "--decode nothing: no such profile", args=[*args[:-1], "nothing"])
    refused(2, "--margin does nothing for task classify", args=[net, "--margin", "2"])


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("ultraface_rfb320.onnx", "ssd"),
        ("yunet_n_dynamic.onnx", "yunet"),
        ("fastestdet.onnx", "fastestdet"),
        ("lightweight_person_detector.onnx", "yolox"),
        ("zaru_face_detection_short_range.onnx", "blazeface"),
    ],
)
@needs_shared
def test_real_detectors_are_decoded_by_a_built_in_profile(name, profile):
    report = verify(SHARED / "models" / name, "synthetic:1", max_shift=1)
    assert (report.task, [r.profile for r in report.detections]) == ("detect", [profile])


@needs_shared
def test_fastestdet_finds_what_is_in_a_photograph(tmp_path):
    pytest.importorskip("PIL")
    (tmp_path / "unit.toml").write_text('preset = "unit"\nchannels = "bgr"\n')
    images = SHARED / "images" / "imagenet_sample"
    preprocess = str(tmp_path / "unit.toml")
    report = verify(SHARED / "models" / "fastestdet.onnx", images, limit=3, preprocess=preprocess, max_shift=1)
    (result,) = report.detections
    assert 3 <= result.detections <= 12
    assert 0 < result.consistency.value < 1
    assert report.frames[0].pictures[0].shape[-1] == 3
