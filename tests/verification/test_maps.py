"""Dense outputs and vectors whose error under a shift one can count; what kind of answer real models give."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from refusals import refused
from small_nets import SHARED, needs_shared, parse, ramp_map, save, stripes, subsample_map

from aarewrite.errors import CannotHandle
from aarewrite.verification import verify


@pytest.mark.parametrize("protocol", ["crop", "circular"])
def test_dense_output_of_a_subsampler_follows_shifts_by_its_stride(tmp_path, protocol):
    images = np.random.default_rng(0).standard_normal((3, 1, 24, 24)).astype(np.float32)
    data = save(tmp_path / "noise.npz", x=images)
    report = verify(subsample_map(), data, protocols=(protocol,), max_shift=2)
    (result,) = report.maps
    assert report.task == "dense"
    assert {p.distance for p in result.points} == {1, 2}
    for p in result.points:
        if p.distance == 2:
            assert (p.relative_error.value, p.agreement.value) == (0, 1)
        else:  # noise has as much beyond the map's band as within
            assert p.relative_error.value > 0.8


@pytest.mark.parametrize(("protocol", "most"), [("crop", 0.005), ("circular", 1e-6)])
def test_shifts_below_the_stride_are_undone_where_nothing_aliases(tmp_path, protocol, most):
    across = np.sin(2 * np.pi * np.arange(72) / 32)
    data = save(tmp_path / "wave.npz", x=np.broadcast_to(across, (1, 1, 72, 72)).astype(np.float32))
    (result,) = verify(subsample_map(64), data, protocols=(protocol,), max_shift=3).maps
    assert {p.distance for p in result.points} == {1, 2, 3}
    assert max(p.relative_error.value for p in result.points) < most
    assert 0 < result.flicker.value < most or protocol == "circular"


def test_stripes_that_a_subsampler_loses_are_seen_below_its_stride(tmp_path):
    data = save(tmp_path / "stripes.npz", x=stripes(2))
    (result,) = verify(subsample_map(), data, max_shift=2).maps
    at = {(p.direction, p.distance): p.relative_error.value for p in result.points}
    assert (at["horizontal", 1], at["vertical", 1], at["horizontal", 2]) == (1, 0, 0)  # all 0, all 1


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


def test_flicker_is_what_changes_from_frame_to_frame(tmp_path):
    data = save(tmp_path / "zero.npz", x=np.zeros((2, 1, 20, 20), np.float32))
    (result,) = verify(ramp_map(), data, max_shift=2).maps
    step = np.sqrt(15) / np.linalg.norm(np.arange(1.0, 16))  # the column number less 1, of two directions in three
    assert result.flicker.value == pytest.approx(2 / 3 * step)


def test_depth_is_compared_up_to_scale_and_shift(tmp_path):
    ramp = np.broadcast_to(np.arange(20.0), (3, 1, 20, 20)).astype(np.float32)
    net = parse("""
    depth (float[N,1,16,16] x) => (float[N,1,16,16] y) {
        mean = GlobalAveragePool(x)
        y = Mul(x, mean)
    }""")
    report = verify(net, save(tmp_path / "ramp.npz", x=ramp), task="depth", max_shift=2)
    (result,) = report.maps
    assert (report.task, result.headline, result.images) == ("depth", "aligned_error", 3)
    mean = 9.5  # of columns 2 to 17; d px on it is larger by d, and so is the scale
    at = {(p.direction, p.distance): p for p in result.points}
    for d in (1, 2):
        for direction, moved in (("horizontal", d), ("vertical", 0), ("diagonal", d)):
            point = at[direction, d]
            assert point.aligned_error.value == pytest.approx(0, abs=1e-6)
            assert point.scale_change.value == pytest.approx(moved / (mean + moved), abs=1e-6)
            assert point.relative_error.value == pytest.approx(moved / mean, abs=1e-6)
            assert point.agreement is None


def test_depth_that_turns_around_is_not_fitted(tmp_path):
    ramp = np.broadcast_to(np.arange(20.0), (1, 1, 20, 20)).astype(np.float32)
    net = parse("""
    turned (float[N,1,16,16] x) => (float[N,1,16,16] y) <float[1] middle = {9.6}> {
        mean = GlobalAveragePool(x)
        side = Sub(middle, mean)
        sign = Sign(side)
        y = Mul(x, sign)
    }""")
    (result,) = verify(net, save(tmp_path / "ramp.npz", x=ramp), task="depth", max_shift=1).maps
    errors = {p.direction: p.aligned_error.value for p in result.points}
    assert errors == {
        "horizontal": pytest.approx(1),
        "vertical": pytest.approx(0, abs=1e-6),
        "diagonal": pytest.approx(1),
    }


def blocks(kind: str) -> onnx.ModelProto:
    """A mask in blocks of 8 px, lit where anything in them is: as one value, scores of two classes, or their number."""
    ones = ", ".join("1" * 64)
    output = {"value": "float[N,1,64,64]", "scores": "float[N,2,64,64]", "number": "int64[N,64,64]"}[kind]
    last = {
        "value": "y = Identity(up)",
        "scores": "y = Conv(up, v, b)",
        "number": "s = Conv(up, v, b) y = ArgMax<axis = 1, keepdims = 0>(s)",
    }[kind]
    return parse(f"""
    blocks (float[N,1,64,64] x) => ({output} y)
    <float[1,1,8,8] w = {{{ones}}}, float[2,1,1,1] v = {{0, 1}}, float[2] b = {{0.5, 0}}> {{
        best = MaxPool<kernel_shape = [8, 8], strides = [8, 8]>(x)
        up = ConvTranspose<strides = [8, 8]>(best, w)
        {last}
    }}""")


@pytest.mark.parametrize("kind", ["value", "scores", "number"])
def test_a_mask_that_snaps_to_blocks_moves_its_boundary_as_counted(tmp_path, kind):
    scene = np.zeros((2, 1, 73, 73), np.float32)
    scene[..., 4 + 35 :] = 1  # in the centre crop from column 35 on, 3 px behind the block's edge
    (result,) = verify(blocks(kind), save(tmp_path / "edge.npz", x=scene), task="segment", max_shift=4).maps
    assert (result.headline, result.images, result.relative_error) == ("agreement", 2, None)
    for p in result.points:
        away = 0 if p.direction == "vertical" else abs((35 - p.distance) // 8 * 8 + p.distance - 32)
        assert p.boundary.value == pytest.approx(away)
        assert p.agreement.value == pytest.approx(1 - away / (64 - (p.direction != "vertical") * p.distance))
        assert (p.vanished.value, p.appeared.value) == (0, 0)
    # From frame to frame it goes along, 1 px on the map, but for the frame in which it snaps back by 7
    assert result.flicker.value == pytest.approx((2 * (3 + 7) / 63) / 12)


def test_spots_that_come_and_go_are_counted(tmp_path):
    columns = ", ".join(str((k + 1) % 2) for k in range(16))
    net = parse(f"""
    spots (float[N,1,16,16] x) => (float[N,1,16,16] y) <float[1,1,1,16] seen = {{{columns}}}> {{ y = Mul(x, seen) }}""")
    scene = np.zeros((1, 1, 20, 20), np.float32)
    for row, column in ((4, 6), (8, 8), (12, 11)):  # in the centre crop 4, 6 and 9: two are seen, then one
        scene[0, 0, row, column] = 1
    (result,) = verify(net, save(tmp_path / "spots.npz", x=scene), task="segment", max_shift=2).maps
    at = {(p.direction, p.distance): (p.vanished.value, p.appeared.value) for p in result.points}
    assert at == {
        ("horizontal", 1): (2, 1), ("diagonal", 1): (2, 1), ("vertical", 1): (0, 0),
        ("horizontal", 2): (0, 0), ("diagonal", 2): (0, 0), ("vertical", 2): (0, 0),
    }  # fmt: skip
    assert (result.total.vanished.value, result.total.appeared.value) == (pytest.approx(4 / 6), pytest.approx(2 / 6))


@pytest.mark.parametrize("task", ["dense", "depth", "segment", "image"])
def test_a_map_that_is_always_the_same_constant_has_no_signal(tmp_path, task):
    net = parse("""
    flat (float[N,1,16,16] x) => (float[N,1,16,16] y) <float[1] zero = {0}, float[1] one = {0.25}> {
        a = Mul(x, zero)
        y = Add(a, one)
    }""")
    data = save(tmp_path / "noise.npz", x=np.random.default_rng(0).random((3, 1, 20, 20)).astype(np.float32))
    (result,) = verify(net, data, task=task, max_shift=1).maps
    assert (result.signal, result.images, result.n, result.flicker) == (False, 0, 3, None)
    assert all(getattr(p, result.headline) is None for p in (result.total, *result.points))
    if task == "segment":
        report = verify(net, data, task=task, max_shift=1, min_consistency=0.9)
        assert report.failures == ("crop pixel agreement of 'y' of model has no signal in 3 samples",)


@pytest.mark.parametrize("task", ["dense", "depth", "segment", "image"])
def test_a_shift_as_large_as_the_map_shows_nothing(tmp_path, task):
    data = save(tmp_path / "noise.npz", x=np.random.default_rng(0).standard_normal((3, 1, 8, 8)).astype(np.float32))
    pool = parse("""
    g (float[N,1,4,4] x) => (float[N,1,2,2] y) { y = AveragePool<kernel_shape = [3, 3], strides = [1, 1]>(x) }""")
    (result,) = verify(pool, data, task=task, max_shift=2, size=(4, 4), protocols=("crop",)).maps
    seen = {p.distance: getattr(p, result.headline) for p in result.points}
    assert (seen[1].n, seen[2], result.images) == (3, None, 3)
    twice = parse("""
    g (float[N,1,1,1] x) => (float[N,1,2,2] y) <float[4] s = {1, 1, 2, 2}> { y = Resize<mode = "nearest">(x, , s) }""")
    (result,) = verify(twice, task=task, protocols=("crop",)).maps
    assert (result.signal, result.images) == (False, 0)


def test_outputs_without_values_are_left_out(tmp_path):
    text = """g (float[N,1,16,16] x) => (float[N,0,16,16] none{also}) <int64[2] cut = {{0, 1}}> {{
        none, y = Split<axis = 1>(x, cut)
    }}"""
    report = verify(parse(text.format(also=", float[N,1,16,16] y")), "synthetic:2", max_shift=1)
    assert [result.output for result in report.maps] == ["y"]
    with pytest.raises(CannotHandle, match="model: outputs without values: none; check the model"):
        verify(parse(text.format(also="")), "synthetic:2")


def test_images_without_signal_do_not_count(tmp_path):
    rng = np.random.default_rng(0)
    images = np.stack([np.zeros((1, 20, 20)), rng.random((1, 20, 20))]).astype(np.float32)
    (result,) = verify(subsample_map(), save(tmp_path / "half.npz", x=images), max_shift=1).maps
    assert (result.images, result.n, result.relative_error.n) == (1, 2, 1)


@pytest.mark.parametrize("task", ["vector", "dense", "classify"])
def test_a_model_of_two_images_is_a_metric(task):
    model = parse("net (float[n, 1, 8, 8] x, float[n, 1, 8, 8] y) => (float[n, 1, 8, 8] z) { z = Sub(x, y) }")
    with pytest.raises(CannotHandle, match=f"task {task} shifts one input, the model takes x, y; use --task metric"):
        verify(model, "synthetic:2", task=task)


def test_a_task_of_maps_needs_maps_that_suit(net, tmp_path):
    onnx.save(subsample_map(), tmp_path / "two.onnx")
    refused(3, "no output fits task depth", "y (1, 2, 8, 8)", args=[str(tmp_path / "two.onnx"), "--task", "depth"])
    for task in ("depth", "segment", "image"):
        refused(3, f"no output fits task {task}", "logits (1, 2)", args=[net, "--task", task])


@needs_shared
def test_a_text_detector_on_photographs_without_text_has_no_signal():
    pytest.importorskip("PIL")
    model, images = SHARED / "models" / "ppocr_mobile_v11_det_hist.onnx", SHARED / "images" / "imagenet_sample"
    (result,) = verify(model, images, limit=2, size=(64,), max_shift=1).maps
    assert (result.signal, result.n) == (False, 2)


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
    assert {p.distance for p in result.points if p.relative_error.value == 0} == {4}


def test_time_steps_are_found_where_the_path_has_them(tmp_path):
    """The last axis has 8 channels, and 8 is a divisor of the 64 samples; the steps are on the axis before."""
    net = parse("""net (float[N,1,64] x) => (float[N,31,8] y) <float[8,1,3] w = {0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0,
        0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0}> {
        a = Conv<strides = [2]>(x, w)
        y = Transpose<perm = [0, 2, 1]>(a)
    }""")
    images = np.random.default_rng(0).standard_normal((2, 1, 80)).astype(np.float32)
    (result,) = verify(net, save(tmp_path / "noise.npz", x=images), max_shift=4).maps
    assert {p.distance for p in result.points if p.relative_error.value == 0} == {2, 4}


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
