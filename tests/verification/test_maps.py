"""Dense outputs and vectors whose error under a shift one can count; what kind of answer real models give."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from small_nets import SHARED, needs_shared, parse, ramp_map, save, subsample_map

from aarewrite.errors import CannotHandle
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


CROPPED = """net (float[N,1,96,96] x) => (float[N,1,15,15] y) <float[1,1,3,3] w = {0, 0, 0, 0, 1, 0, 0, 0, 0}> {
    p = Conv<strides = [2, 2]>(x, w)
    q = Conv<strides = [2, 2]>(p, w)
    y = MaxPool<kernel_shape = [9, 9]>(q)
}"""


def test_maps_with_cropped_borders_are_shifted_by_their_stride(tmp_path):
    """15 samples of 96 px speak for a stride of 6; along the path it is 4."""
    images = np.random.default_rng(0).standard_normal((2, 1, 128, 128)).astype(np.float32)
    net = parse(CROPPED)
    report = verify(net, save(tmp_path / "noise.npz", x=images), max_shift=5)
    (result,) = report.maps
    assert {p.distance for p in result.points} == {4}
    assert all(p.relative_error.value == 0 for p in result.points)


def test_time_steps_are_found_where_the_path_has_them(tmp_path):
    """The last axis has 8 channels, and 8 is a divisor of the 64 samples; the steps are on the axis before."""
    net = parse("""net (float[N,1,64] x) => (float[N,31,8] y) <float[8,1,3] w = {0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0,
        0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0}> {
        a = Conv<strides = [2]>(x, w)
        y = Transpose<perm = [0, 2, 1]>(a)
    }""")
    images = np.random.default_rng(0).standard_normal((2, 1, 80)).astype(np.float32)
    (result,) = verify(net, save(tmp_path / "noise.npz", x=images), max_shift=4).maps
    assert {p.distance for p in result.points} == {2, 4}
    assert all(p.relative_error.value == 0 for p in result.points)


def test_wide_integers_are_no_class_scores(tmp_path):
    data = save(tmp_path / "noise.npz", x=np.random.default_rng(0).standard_normal((2, 1, 20, 20)).astype(np.float32))
    triple = """net (float[N,1,16,16] x) => (int64[N,3] y) {
        a = GlobalMaxPool(x)
        b = Flatten(a)
        c = Concat<axis = 1>(b, b, b)
        y = Cast<to = 7>(c)
    }"""
    assert verify(parse(triple), data, max_shift=1).task == "vector"
    assert verify(parse(triple), data, max_shift=1, task="classify").task == "classify"
    for kind, to in (("uint8", 2), ("int8", 3), ("float16", 10)):
        net = parse(triple.replace("int64", kind).replace("to = 7", f"to = {to}"))
        assert verify(net, data, max_shift=1).task == "classify"


SELECTING = """net (float[1,1,16,16] x) => (int64[4,n] y{output}) {{
    a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
    {also}
    y = NonZero(r)
}}"""


def test_outputs_whose_size_depends_on_values_are_left_out(tmp_path):
    data = save(tmp_path / "noise.npz", x=np.random.default_rng(0).standard_normal((2, 1, 20, 20)).astype(np.float32))
    alone = parse(SELECTING.format(output="", also="r = Relu(a)"))
    with pytest.raises(CannotHandle, match=r"the size of every output depends on values \(y\)"):
        verify(alone, data, max_shift=2)
    both = parse(SELECTING.format(output=", float[1,1,8,8] r", also="r = Relu(a)"))
    report = verify(both, data, max_shift=2)
    assert [result.output for result in report.maps] == ["r"]
    assert report.task_why.endswith("; without y, whose size depends on values")
    against = parse(SELECTING.format(output=", float[1,1,8,8] r", also="m = Neg(a) r = Relu(m)"))
    compared = verify(both, data, against=against, max_shift=2)
    assert [output.name for output in compared.parity[0].outputs] == ["r"]
    assert compared.failures == ()


def test_sequences_and_maps_are_not_measured(tmp_path):
    net = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 2]>
    net (float[N,2,16,16] x) => (float[N,2] y, seq(map(int64, float)) z, seq(float[N,1,16,16]) s) {
        a = GlobalAveragePool(x)
        y = Flatten(a)
        z = ai.onnx.ml.ZipMap<classlabels_int64s = [3, 5]>(y)
        s = SplitToSequence<axis = 1>(x)
    }""")
    data = save(tmp_path / "noise.npz", x=np.random.default_rng(0).standard_normal((2, 2, 20, 20)).astype(np.float32))
    report = verify(net, data, against=net, max_shift=1)
    assert report.task == "classify"
    assert [output.name for output in report.parity[0].outputs] == ["y"]
    assert report.failures == ()
