"""The whole of a verification: on real models, seeded, with options that make sense."""

from __future__ import annotations

import numpy as np
import pytest
from refusals import refused
from small_nets import SHARED, needs_shared, phase_classifier, pooled_net, save, stripes

import aarewrite
from aarewrite.data.preprocess import Preprocess
from aarewrite.verification import before_after, verify

IMAGES, MODELS = SHARED / "images" / "imagenet_sample", SHARED / "models"


def test_same_seed_same_numbers_other_seed_other_offsets(tmp_path):
    data = save(tmp_path / "stripes.npz", x=stripes(40))
    options = {"protocols": ("crop", "circular", "fractional"), "layers": True, "names": ("net", "")}
    first, again = (verify(phase_classifier(), data, seed=5, **options).to_json() for _ in range(2))
    assert first == again
    assert verify(phase_classifier(), data, seed=6, **options).to_json() != first


def test_a_rewrite_is_steadier_where_it_was_rewritten():
    plain = pooled_net(blur=False)
    report = before_after(plain, aarewrite.rewrite(plain, recipe="aligned").model, "synthetic:4", layers=True)
    after, before = report.layers
    assert report.passed
    assert after.layers[0].error.value < 0.7 * before.layers[0].error.value
    crop_after, crop_before = report.classification
    assert crop_after.drift_mean.value < crop_before.drift_mean.value


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--protocol", "spiral"], "spiral"),
        (["--provider", "tpu"], "tpu"),
        (["--preprocess", "magic"], "magic"),
        (["--task", "guess"], "guess"),
        (["--max-shift", "0"], "--max-shift"),
        (["--max-shift", "40"], "at most 2"),
        (["--max-shift", "1", "--protocol", "fractional"], "--max-shift does nothing with fractional shifts alone"),
        (["--worst-radius", "2", "--protocol", "fractional"], "--worst-radius does nothing with fractional shifts"),
        (["--worst-radius", "3"], "leave 2 px around the centre; give at most 2"),
        (["--worst-radius", "0"], "needs at least one pixel"),
        (["--worst-radius", "2", "--task", "vector"], "--worst-radius does nothing for task vector"),
        (["--threshold", "1.5"], "--threshold 1.5: not a share"),
        (
            ["--crop-pairs", "2", "--task", "vector"],
            "--crop-pairs does nothing for task vector; leave --crop-pairs out",
        ),
        (["--batch-offsets", "4", "--task", "vector"], "--batch-offsets does nothing for task vector"),
        (["--limit", "0"], "--limit"),
        (["--crop-pairs", "0"], "--crop-pairs 0: needs at least one pair"),
        (["--data", "synthetic:x"], "synthetic:x"),
        (["--size", "12x"], "--size"),
        (["--min-consistency", "90"], "--min-consistency"),
        (["--max-diff", "0.1"], "--max-diff"),
        (["--heat-map", "nothing", "--layers"], "nothing"),
        (["--report", "/nowhere/at/all.html"], "cannot be written"),
    ],
)
def test_options(net, options, word):
    refused(2, word, args=[net, *options])


@needs_shared
def test_squeezenet_on_photographs():
    pytest.importorskip("PIL")
    report = verify(
        MODELS / "squeezenet1_1_fp32.onnx",
        IMAGES,
        labels=IMAGES / "labels.csv",
        preprocess="caffe",
        limit=6,
        max_shift=1,
    )
    (result,) = report.classification
    assert report.task == "classify"
    assert result.top5.value > 0.5  # a wrong preprocessing would be far below
    assert 0 < result.consistency.value <= 1
    assert report.class_names[1] == "goldfish"


@needs_shared
def test_fixed_batch_fp16_with_a_spatial_rank_is_a_classifier():
    pytest.importorskip("PIL")
    report = verify(MODELS / "squeezenet_fp16_winml.onnx", IMAGES, preprocess="caffe", limit=1, max_shift=1)
    assert report.task == "classify"
    assert report.classification[0].outputs == "probabilities"


@needs_shared
def test_cifar_classifier_on_arrays():
    report = verify(
        MODELS / "cifar10_resnet20_ts_op11.onnx",
        SHARED / "images" / "cifar10_test_2000.npz",
        preprocess="imagenet",
        limit=48,
        max_shift=1,
    )
    assert any("reflected" in note for note in report.notes)
    assert report.classification[0].top1.value > 0.6


@needs_shared
def test_quantised_channels_last_with_background_class():
    pytest.importorskip("PIL")
    report = verify(
        MODELS / "mobilenet_v1_025_128_tf_qdq_uint8.onnx", IMAGES, labels=IMAGES / "labels.csv", limit=16, max_shift=1
    )
    assert report.preprocess.startswith("raw255")
    assert "nhwc" in report.input
    assert report.classification[0].top5.value > 0.4


@needs_shared
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


@needs_shared
def test_c875_preprocessing_file_gives_the_known_accuracy():
    pytest.importorskip("PIL")
    report = verify(
        MODELS / "mobilenet_v1_075_192_tf_fp32.onnx",
        IMAGES,
        labels=IMAGES / "labels.csv",
        preprocess=Preprocess("c875", mean=(128.0,), std=(128.0,)),
        limit=8,
        max_shift=1,
    )
    assert report.classification[0].top1.value > 0.6
