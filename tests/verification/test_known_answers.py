"""Networks small enough to count their consistency by hand, for every shift."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from small_nets import (
    blurred_classifier,
    circular_classifier,
    parse,
    phase_classifier,
    pooled_net,
    save,
    stripes,
)

import aarewrite
from aarewrite.data.geometry import Geometry
from aarewrite.data.views import fourier_shift
from aarewrite.verification import before_after, verify
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


def test_one_pair_per_batch_is_shared_by_the_batch():
    plan = ShiftPlan("crop", GEOMETRY, (1,), 1, 1, seed=0, batch_offsets=4)
    pairs = [plan.pairs(i)[0] for i in range(8)]
    assert len(set(pairs[:4])) == len(set(pairs[4:])) == 1
    assert pairs[0] != pairs[4]
    every = [ShiftPlan("crop", GEOMETRY, (1,), 1, 1, seed=0).pairs(i)[0] for i in range(400)]
    drawn = {offset + 2 for pair in every for shift in pair for offset in shift}
    assert drawn == {0, 1, 2, 3}  # canvas 20, crop 16: as 0..31 for 224 in 256


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


def test_zero_padding_and_odd_sizes_are_named():
    net = parse("""
    g (float[N,1,15,15] x) => (float[N,2] y)
    <float[2,1,3,3] w = {1, 2, 1, 2, 4, 2, 1, 2, 1, 0, 1, 0, 1, -4, 1, 0, 1, 0}> {
        a = Conv<pads = [1, 1, 1, 1], kernel_shape = [3, 3]>(x, w)
        b = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)
        c = GlobalAveragePool(b)
        y = Flatten(c)
    }""")
    for name, node in zip(("conv", "pool", "mean", "out"), net.graph.node, strict=True):
        node.name = name
    report = verify(net, "synthetic:2", protocols=("circular",))
    reasons = {(v.node, v.reason) for v in report.circular[0].violations}
    assert ("conv", "pads with zeros (1, 1, 1, 1)") in reasons
    assert ("pool", "size 15 does not divide by stride 2") in reasons
    assert not report.circular[0].exact_possible


def test_fourier_shift_rolls_and_interpolates():
    signal = np.random.default_rng(0).standard_normal((3, 8, 9))
    spectrum = np.fft.fftn(signal, axes=(1, 2))
    for dy, dx in itertools.product((-2, 0, 3), (0, 1)):
        np.testing.assert_allclose(
            fourier_shift(spectrum, (dy, dx), (1, 2)), np.roll(signal, (-dy, -dx), (1, 2)), atol=1e-12
        )
    t = np.arange(16)
    wave = np.cos(2 * np.pi * 3 * t / 16)
    np.testing.assert_allclose(
        fourier_shift(np.fft.fft(wave), (0.25,), (0,)), np.cos(2 * np.pi * 3 * (t + 0.25) / 16), atol=1e-12
    )


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


def test_fixed_batch_gives_the_same_numbers(tmp_path):
    data = save(tmp_path / "stripes.npz", x=stripes(5))
    results = [verify(phase_classifier(batch=n), data, names=("net", "")).classification for n in ("N", 1, 3)]
    assert results[0] == results[1] == results[2]


def test_layers_rank_the_pool_and_blur_lowers_its_error():
    report = verify(pooled_net(blur=True), "synthetic:4", against=pooled_net(blur=False), layers=True, names=("b", "a"))
    after, before = report.layers
    assert [layer.op for layer in before.layers] == ["MaxPool"]
    assert [layer.op for layer in after.layers] == ["Conv"]
    assert before.layers[0].stride == after.layers[0].stride == (2, 2)
    assert after.layers[0].error.value < 0.7 * before.layers[0].error.value
    for result in report.layers:
        assert result.ranking[0].added == result.layers[0].error.value
        errors = np.array(result.heat_map.errors)
        assert errors[0, 0] < 1e-6  # unmoved
        # Moved by the stride only the zero-padded border differs, moved by one pixel everything does.
        assert errors[2, 2] < errors[1, 1]


def test_a_rewrite_is_steadier_where_it_was_rewritten():
    plain = pooled_net(blur=False)
    report = before_after(plain, aarewrite.rewrite(plain, recipe="aligned").model, "synthetic:4", layers=True)
    after, before = report.layers
    assert report.passed
    assert after.layers[0].error.value < 0.7 * before.layers[0].error.value
    crop_after, crop_before = report.classification
    assert crop_after.drift_mean.value < crop_before.drift_mean.value


def test_heat_map_of_pure_subsampling_repeats_with_the_stride():
    net = parse("""
    g (float[N,1,16,16] x) => (float[N,1,8,8] y) <float[1,1,1,1] w = {1}> { y = Conv<strides = [2, 2]>(x, w) }""")
    (result,) = verify(net, "synthetic:2", layers=True).layers
    errors = np.array(result.heat_map.errors)
    assert errors[::2, ::2].max() < 1e-6
    assert errors[1::2, :].min() > 0.01
    np.testing.assert_allclose(errors[:3, :3], errors[2:, 2:], atol=1e-6)


def test_same_seed_same_numbers_other_seed_other_offsets(tmp_path):
    data = save(tmp_path / "stripes.npz", x=stripes(40))
    options = {"protocols": ("crop", "circular", "fractional"), "layers": True, "names": ("net", "")}
    first, again = (verify(phase_classifier(), data, seed=5, **options).to_json() for _ in range(2))
    assert first == again
    assert verify(phase_classifier(), data, seed=6, **options).to_json() != first
