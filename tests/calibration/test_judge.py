"""Measures on models whose shift behaviour is known."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from pairs import Net

from aarewrite.calibration import Judge, answer, compare, drift, from_array
from aarewrite.calibration.judge import difference
from aarewrite.errors import CannotHandle, UsageError


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
    flips = answer(subsampler(2), canvases, everything, pairs=6)
    steady = answer(subsampler(1), canvases, everything, pairs=6)
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


def test_difference_states_interval_and_chance() -> None:
    rng = np.random.default_rng(2)
    before = rng.random(200)
    better = difference("x", before, before + 0.05 + 0.01 * rng.standard_normal(200))
    assert better.low < better.change < better.high
    assert better.low > 0
    assert better.p < 0.01
    assert difference("x", before, rng.permutation(before)).p > 0.05


def test_maps_are_no_classes_and_small_samples_are_named() -> None:
    canvases = from_array(samples(2), "x", size=(16, 16))
    with pytest.raises(CannotHandle, match="no vector of classes"):
        answer(subsampler(2, head=False), canvases, [0])
    with pytest.raises(UsageError, match="smaller than the model's input"):
        answer(subsampler(2), from_array(samples(2), "x", size=(32, 32)), [0])


def test_samples_as_large_as_the_input_are_shifted_within_a_reflected_border() -> None:
    canvases = from_array(samples(3), "x")
    sample = canvases.load(0)
    assert sample.shape == (2, 30, 30)
    assert canvases.crop(sample, (3, 3)).shape == (2, 24, 24)
    np.testing.assert_array_equal(canvases.crop(sample, (3, 3)), samples(3)[0])


def test_batches_repeat_and_the_split_is_disjoint() -> None:
    canvases = from_array(samples(10), "x", size=(16, 16), batch=4)
    batches = canvases.batches([1, 5, 7], crops=2, seed=9)
    first, second = list(batches()), list(batches())
    assert [len(feed["x"]) for feed in first] == [4, 2]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one["x"], other["x"])
    fitted, judged = canvases.split(1 / 3, seed=1)
    assert len(judged) == 3
    assert sorted([*fitted, *judged]) == list(range(10))
    with pytest.raises(UsageError, match="too few"):
        from_array(samples(1), "x", size=(16, 16)).split(0.3)
