"""Measures on models whose shift behaviour is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from pairs import Net
from small_nets import blurred_classifier, phase_classifier, save, stripes

from aarewrite.calibration.judge import Judge, answer, camera_pairs, compare, drift
from aarewrite.data.canvases import from_array, from_setup
from aarewrite.data.geometry import Geometry
from aarewrite.data.setup import open_setup
from aarewrite.data.views import draw_pairs
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.verification import verify

SAMPLES = Path(__file__).parents[2] / "sample_models"


def subsampler(stride: int, head: bool = True) -> onnx.ModelProto:
    """The mean of each channel over every `stride`-th pixel, or the map of these pixels."""
    net = Net(["n", 2, 16, 16])
    net.conv("x", "sampled", np.eye(2)[:, :, None, None], strides=[stride, stride])
    if not head:
        return net.model("sampled")
    net.node("GlobalAveragePool", ["sampled"], "pooled")
    net.node("Flatten", ["pooled"], "y")
    return net.model("y", 2)


def samples(count: int = 24) -> np.ndarray:
    """Noise whose even columns are a little brighter in channel 0, or odd ones in channel 1."""
    rng = np.random.default_rng(0)
    data = rng.standard_normal((count, 2, 24, 24)).astype(np.float32) * 0.01
    data[:, 0, :, ::2] += 1
    data[:, 1, :, 1::2] += 1
    return data


def test_a_shift_blind_model_is_told_from_one_that_flips() -> None:
    canvases = from_array(samples(), "x", size=(16, 16))
    everything = range(canvases.count)
    flips, steady = answer([subsampler(2), subsampler(1)], canvases, everything, pairs=6)
    verdict = compare(flips, steady)
    # Stride 2 sees only even or only odd columns: the class is the parity of the offset.
    assert 25 < verdict.consistency.before < 75
    assert verdict.one_pixel.before == pytest.approx(100 / 3)  # vertical neighbours agree, the other two do not
    assert compare(flips, flips).consistency.change == 0
    assert compare(flips, flips).consistency.p == 1
    assert not compare(flips, flips).better
    assert verdict.top1 is None


def test_judge_ranks_variants_by_crop_noise() -> None:
    canvases = from_array(samples(), "x", size=(16, 16))
    judge = Judge(subsampler(2), canvases, range(12))
    assert judge.effect(subsampler(2)).noise == pytest.approx(1)
    assert judge.effect(subsampler(2)).disagreement == 0
    assert judge.effect(subsampler(1)).noise < 0.5


def test_drift_of_maps_is_taken_after_moving_them_back() -> None:
    data = np.random.default_rng(1).standard_normal((6, 2, 24, 24)).astype(np.float32)
    canvases = from_array(data, "x", size=(16, 16))
    found = drift(subsampler(2, head=False), subsampler(2, head=False), canvases, range(6))
    assert found.step == (2, 2)
    assert found.before == found.after == pytest.approx(0, abs=1e-6)  # a shift by the stride moves the map exactly
    assert found.apart == 0


def test_maps_are_no_classes_and_small_samples_are_named() -> None:
    canvases = from_array(samples(2), "x", size=(16, 16))
    with pytest.raises(CannotHandle, match="no vector of classes"):
        answer([subsampler(2, head=False)], canvases, [0])
    with pytest.raises(UsageError, match="smaller than the model's input"):
        answer([subsampler(2)], from_array(samples(2), "x", size=(32, 32)), [0])


def test_calibration_and_verify_give_the_same_consistency(tmp_path) -> None:
    data = save(tmp_path / "stripes.npz", x=np.concatenate([stripes(7), np.zeros((5, 1, 20, 20), np.float32)]))
    before, after = phase_classifier(), blurred_classifier()
    canvases = from_setup(open_setup(before, data, seed=3))
    verdict = compare(*answer([before, after], canvases, range(12), pairs=6, seed=3), seed=3)
    assert (verdict.protocol, verdict.pairs) == ("crop", 6)  # floats are no pictures
    judged = verdict.consistency
    report = verify(after, data, against=before, pairs=6, seed=3, names=("after", "before"))
    assert report.changes == (judged,)
    assert [r.consistency.value for r in report.classification] == pytest.approx([1, judged.before / 100])
    # By hand: a pair of a striped image agrees when both crops begin on columns of the same parity.
    geometry = Geometry((16, 16), (20, 20))
    shares = [np.mean([(a[1] - b[1]) % 2 == 0 for a, b in draw_pairs(3, i, geometry, 6)]) for i in range(7)] + [1] * 5
    assert judged.before == pytest.approx(100 * np.mean(shares))
    half = 1.959964 * 100 * np.std(shares, ddof=1) / np.sqrt(12)
    assert (judged.low, judged.high) == pytest.approx((judged.change - half, judged.change + half))
    assert (judged.after, judged.n) == (100, 12)


def test_pictures_are_judged_under_a_camera_as_verify_measures_it(tmp_path) -> None:
    stored = np.load(SAMPLES / "digits_eval.npz")
    data = save(tmp_path / "digits.npz", x=stored["x"][:40])
    before, after = SAMPLES / "resnet.onnx", SAMPLES / "resnet_blurtrained.onnx"
    canvases = from_setup(open_setup(before, data, preprocess="unit", seed=3))
    verdict = compare(*answer([onnx.load(before), onnx.load(after)], canvases, range(40), pairs=2, seed=3), seed=3)
    assert (verdict.protocol, verdict.pairs) == ("camera", 16)
    report = verify(
        after, data, against=before, preprocess="unit", protocols=("camera", "crop"), conditions=("mixed",),
        camera_pairs=16, pairs=2, seed=3, max_shift=1,
    )  # fmt: skip
    near, far = report.camera[0].conditions
    assert (verdict.consistency, verdict.one_pixel) == (far.change, near.change)
    assert far.change.change != 0
    assert (verdict.crop_consistency,) == report.changes
    assert [one.name for one in verdict.measures] == [
        "far agreement, mixed", "near agreement, mixed", "crop consistency", "crop 1-px agreement"
    ]  # fmt: skip


def test_few_images_are_judged_by_more_pairs() -> None:
    assert [camera_pairs(n) for n in (1, 62, 63, 133, 200, 400, 10_000)] == [16, 16, 16, 8, 5, 3, 3]
