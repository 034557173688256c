"""Dense outputs and vectors whose error under a shift one can count; what kind of answer real models give."""

from __future__ import annotations

import numpy as np
import pytest
from small_nets import SHARED, needs_shared, parse, ramp_map, save, subsample_map

from aarewrite.verification import verify


@pytest.mark.parametrize("protocol", ["crop", "circular"])
def test_dense_output_of_a_subsampler_follows_shifts_by_its_stride(tmp_path, protocol):
    images = np.random.default_rng(0).standard_normal((3, 1, 24, 24)).astype(np.float32)
    data = save(tmp_path / "noise.npz", x=images)
    report = verify(subsample_map(), data, protocols=(protocol,), max_shift=2)
    (result,) = report.maps
    assert report.task == "dense"
    assert {p.distance for p in result.points} == {2}
    assert all(p.relative_error.value == 0 and p.agreement.value == 1 for p in result.points)


def test_dense_error_of_a_position_ramp_is_counted(tmp_path):
    data = save(tmp_path / "zero.npz", x=np.zeros((2, 1, 20, 20), np.float32))
    report = verify(ramp_map(), data, max_shift=2)
    errors = {(p.direction, p.distance): p.relative_error.value for p in report.maps[0].points}
    columns = np.arange(16.0)
    for d in (1, 2):
        kept = columns[d:]  # the output moved back holds the column number less d
        expected = d * np.sqrt(len(kept)) / np.linalg.norm(kept)
        assert errors["horizontal", d] == pytest.approx(expected)
        assert errors["vertical", d] == 0


def test_shifts_of_one_image_are_one_sample(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((8, 1, 20, 20)).astype(np.float32)
    net = parse("pass (float[N,1,16,16] x) => (float[N,1,16,16] y) <float[1] one = {1}> { y = Mul(x, one) }")
    report = verify(net, save(tmp_path / "d.npz", x=images), task="vector", max_shift=2)
    (result,) = report.maps
    assert len(result.points) == 6
    centre = images[..., 2:18, 2:18].reshape(8, -1)
    errors = []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (2, 2)):
        moved = images[..., 2 + dy : 18 + dy, 2 + dx : 18 + dx].reshape(8, -1)
        errors.append(np.linalg.norm(moved - centre, axis=1) / np.linalg.norm(centre, axis=1))
    by_image = np.mean(errors, axis=0)
    total = result.relative_error
    assert (total.n, result.n) == (8, 8)  # not 48
    assert total.value == pytest.approx(by_image.mean(), rel=1e-5)
    half = 1.959964 * by_image.std(ddof=1) / np.sqrt(8)
    assert (total.low, total.high) == pytest.approx((total.value - half, total.value + half), rel=1e-5)
    assert {point.relative_error.n for point in result.points} == {8}


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("deeplab_v3_mnv2_tf.onnx", "dense"),
        ("fastestdet.onnx", "detect"),
        ("mnist_cntk_winml.onnx", "classify"),
        ("mlperf_tiny_kws_dscnn.onnx", "classify"),
        ("mlperf_tiny_resnet8_cifar10_int8.onnx", "classify"),
        ("st_mobilenet_v2_035_128_tfs_nchw.onnx", "classify"),
    ],
)
@needs_shared
def test_task_is_inferred(name, task):
    report = verify(SHARED / "models" / name, "synthetic:1", max_shift=1)
    assert report.task == task
    for result in report.maps:
        assert np.isfinite(result.relative_error.value)
