"""Real trained models of every task and layout; skipped where the shared folder is absent."""

from __future__ import annotations

import numpy as np
import pytest
from small_nets import SHARED, needs_shared, save

from aarewrite.data.preprocess import Preprocess
from aarewrite.verification import verify

pytestmark = needs_shared
IMAGES, MODELS = SHARED / "images" / "imagenet_sample", SHARED / "models"


def test_squeezenet_on_photographs():
    pytest.importorskip("PIL")
    report = verify(
        MODELS / "squeezenet1_1_fp32.onnx",
        IMAGES,
        labels=IMAGES / "labels.csv",
        preprocess="caffe",
        limit=16,
        max_shift=1,
    )
    (result,) = report.classification
    assert report.task == "classify"
    assert result.top5.value > 0.5  # a wrong preprocessing would be far below
    assert 0 < result.consistency.value <= 1
    assert report.class_names[1] == "goldfish"


def test_fixed_batch_fp16_with_a_spatial_rank_agrees_with_its_fp32_twin():
    pytest.importorskip("PIL")
    report = verify(
        MODELS / "squeezenet_fp16_winml.onnx", IMAGES, preprocess="caffe", limit=1, max_shift=1, layers=True
    )
    assert report.task == "classify"
    assert report.classification[0].outputs == "probabilities"
    assert [layer.stride[0] for layer in report.layers[0].layers] == [2, 4, 8, 16]


def test_cifar_classifier_on_arrays():
    report = verify(
        MODELS / "cifar10_resnet20_ts_op11.onnx",
        SHARED / "images" / "cifar10_test_2000.npz",
        preprocess="imagenet",
        limit=64,
    )
    assert any("reflected" in note for note in report.notes)
    assert report.classification[0].top1.value > 0.6


def test_quantised_channels_last_with_background_class():
    pytest.importorskip("PIL")
    report = verify(
        MODELS / "mobilenet_v1_025_128_tf_qdq_uint8.onnx", IMAGES, labels=IMAGES / "labels.csv", limit=24, max_shift=1
    )
    assert report.preprocess.startswith("raw255")
    assert "nhwc" in report.input
    assert report.classification[0].top5.value > 0.4


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("deeplab_v3_mnv2_tf.onnx", "dense"),
        ("fastestdet.onnx", "dense"),
        ("ultraface_rfb320.onnx", "vector"),
        ("yunet_n_dynamic.onnx", "vector"),
        ("mnist_cntk_winml.onnx", "classify"),
        ("mlperf_tiny_kws_dscnn.onnx", "classify"),
        ("mlperf_tiny_resnet8_cifar10_int8.onnx", "classify"),
        ("st_mobilenet_v2_035_128_tfs_nchw.onnx", "classify"),
    ],
)
def test_task_is_inferred(name, task):
    layers = not name.startswith("deeplab")  # its maps are large, and fastestdet is dense as well
    report = verify(MODELS / name, "synthetic:1", max_shift=1, layers=layers, protocols=("crop", "circular"))
    assert report.task == task
    for result in report.maps:
        assert np.isfinite(result.relative_error.value)


def test_recurrent_model_with_state_and_rate(tmp_path):
    rng = np.random.default_rng(0)
    data = save(
        tmp_path / "speech.npz",
        input=rng.standard_normal((4, 600)).astype(np.float32) * 0.1,
        state=np.zeros((2, 1, 128), np.float32),
        sr=np.array(16000, np.int64),
    )
    report = verify(MODELS / "silero_vad_16k_op15.onnx", data, size=(512,), max_shift=4, task="vector")
    assert {p.direction for p in report.maps[0].points} == {"time"}


def test_c875_preprocessing_file_gives_the_known_accuracy():
    pytest.importorskip("PIL")
    report = verify(
        MODELS / "mobilenet_v1_075_192_tf_fp32.onnx",
        IMAGES,
        labels=IMAGES / "labels.csv",
        preprocess=Preprocess("c875", mean=(128.0,), std=(128.0,)),
        limit=40,
        max_shift=1,
    )
    assert report.classification[0].top1.value > 0.6
