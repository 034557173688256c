"""Classifiers whose consistency one can count by hand, for every shift."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from refusals import refused
from small_nets import blurred_classifier, circular_classifier, parse, phase_classifier, save, stripes

from aarewrite.data.geometry import Geometry
from aarewrite.verification import verify
from aarewrite.verification.protocols import ShiftPlan
from aarewrite.verification.statistics import Proportion

GEOMETRY = Geometry((16, 16), (20, 20))


def test_subsampled_stripes_flip_with_every_odd_shift(tmp_path):
    data = save(tmp_path / "stripes.npz", x=stripes(12))
    report = verify(phase_classifier(), data, max_shift=2)
    (result,) = report.classification
    shares = {(a.direction, a.distance): a.share.value for a in result.agreement}
    assert shares == {
        ("horizontal", 1): 0.0,
        ("horizontal", 2): 1.0,
        ("vertical", 1): 1.0,
        ("vertical", 2): 1.0,
        ("diagonal", 1): 0.0,
        ("diagonal", 2): 1.0,
    }
    assert result.worst_case.value == 1.0
    assert result.flip_rate.value == pytest.approx(2 / 3)  # every step of two of three directions


def test_consistency_is_the_share_of_pairs_of_equal_parity(tmp_path):
    data = save(tmp_path / "stripes.npz", x=stripes(40))
    report = verify(phase_classifier(), data, seed=3)
    plan = ShiftPlan("crop", GEOMETRY, (1, 2), 1, 1, seed=3)
    same = sum((first[1] - second[1]) % 2 == 0 for first, second in (plan.pairs(i)[0] for i in range(40)))
    assert 0 < same < 40
    assert report.classification[0].consistency == Proportion.of(same, 40)


def test_images_without_stripes_never_flip(tmp_path):
    images = np.concatenate([stripes(6), np.zeros((4, 1, 20, 20), np.float32)])
    report = verify(phase_classifier(), save(tmp_path / "mixed.npz", x=images), max_shift=1)
    (result,) = report.classification
    assert result.worst_case == Proportion.of(6, 10)
    assert {a.direction: a.share.successes for a in result.agreement} == {
        "horizontal": 4,
        "vertical": 10,
        "diagonal": 4,
    }


@pytest.mark.parametrize(("radius", "kept", "shifts"), [(1, 2, 9), (2, 1, 25)])
def test_every_shift_of_the_grid_is_tried(tmp_path, radius, kept, shifts):
    """Left parts of 11, 12 and 13 columns: of the 8 seen, more than half lie in them up to 0, 1 and 2 px."""
    images = np.zeros((3, 1, 20, 20), np.float32)
    for image, columns in zip(images, (11, 12, 13), strict=True):
        image[..., :columns] = 1
    data = save(tmp_path / "d.npz", x=images, labels=np.array([1, 1, 0]))
    (result,) = verify(phase_classifier(), data, max_shift=1, worst_radius=radius).classification
    assert result.worst_case == Proportion.of(3 - kept, 3)
    assert result.worst_top1 == Proportion.of(kept - 1, 3)  # the third is not what its label says
    assert result.certificate == (
        f"{kept} of 3 images keep their class under each of the {shifts} shifts up to {radius} px"
    )


def test_blur_keeps_the_answer(tmp_path):
    data = save(tmp_path / "stripes.npz", x=stripes(12))
    report = verify(blurred_classifier(), data, against=phase_classifier(), max_shift=2, names=("after", "before"))
    after, before = report.classification
    assert (after.model, before.model) == ("after", "before")
    assert after.consistency.value == 1.0
    assert after.worst_case.value == 0.0
    assert before.worst_case.value == 1.0
    counts = report.flip_counts
    assert counts.only_model_flips == counts.both_flip == 0
    assert counts.only_against_flips == 12 - before.consistency.successes
    assert all(flip.classes[0] == (1, 1) and flip.classes[1][0] != flip.classes[1][1] for flip in report.flips)


def test_drift_of_the_phase_classifier_is_its_whole_range(tmp_path):
    report = verify(phase_classifier(), save(tmp_path / "stripes.npz", x=stripes(3)), max_shift=1)
    # Logits are (0.5, mean) with mean 0 or 1, the range at the centre is 0.5, the change 1.
    assert report.classification[0].drift_max.value == pytest.approx(2.0)


def test_circular_stride_one_net_is_exact(tmp_path):
    images = np.random.default_rng(0).standard_normal((6, 1, 20, 20)).astype(np.float32)
    data = save(tmp_path / "noise.npz", x=images)
    report = verify(circular_classifier(), data, protocols=("circular",), max_shift=8, layers=True)
    (result,) = report.classification
    assert result.consistency.value == 1.0
    assert result.worst_case.value == 0.0
    assert all(a.share.value == 1.0 for a in result.agreement)
    assert result.drift_max.largest < 1e-5
    assert report.circular[0].exact_possible
    assert report.layers[0].layers == ()


def test_one_dimensional_models_shift_along_time(tmp_path):
    net = parse("""
    time (float[N,1,16] x) => (float[N,2] logits)
    <float[1,1,1] w = {1}, float[2,1,1] head = {0, 1}, float[2] bias = {0.5, 0}> {
        kept = Conv<strides = [2]>(x, w)
        mean = GlobalAveragePool(kept)
        scores = Conv(mean, head, bias)
        logits = Flatten(scores)
    }""")
    signal = np.broadcast_to((np.arange(20) % 2).astype(np.float32), (4, 1, 20))
    report = verify(net, save(tmp_path / "t.npz", x=signal), max_shift=2)
    shares = {(a.direction, a.distance): a.share.value for a in report.classification[0].agreement}
    assert shares == {("time", 1): 0.0, ("time", 2): 1.0}


def test_labels_outside_the_classes(net, tmp_path):
    data = save(tmp_path / "d.npz", x=stripes(3), labels=np.array([0, 1, 7]))
    refused(2, "label 7", "2 classes", args=[net, "--data", data])


def test_model_whose_output_is_nan(tmp_path):
    model = parse("""
    g (float[N,1,16,16] x) => (float[N,2] y) <float[2,1,1,1] w = {1, 1}> {
        a = Conv(x, w)
        b = GlobalAveragePool(a)
        c = Sub(b, b)
        d = Div(c, c)
        y = Flatten(d)
    }""")
    onnx.save(model, tmp_path / "nan.onnx")
    refused(1, "NaN", args=[str(tmp_path / "nan.onnx")])


def test_shared_pairs_are_said_to_be_shared(tmp_path):
    data = save(tmp_path / "stripes.npz", x=stripes(8))
    (result,) = verify(phase_classifier(), data, batch_offsets=4, pairs=2).classification
    assert "2 pairs per 4 images (intervals as if each image had its own)" in result.description
    assert result.consistency.successes in (0, 2, 4, 6, 8)  # four equal images see the same two pairs
