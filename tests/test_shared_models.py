"""Every real model at hand is rewritten and proven, with the number of sites that reading it gives."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest

import aarewrite

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("AAREWRITE_SHARED", ROOT.parent / "shared")) / "models"
SAMPLES = ROOT / "sample_models"

# rewritten sites, kept sites, other aliasing sources; the kept ones are first convs unless stated
EXPECTED = {
    "cifar10_resnet20_dynamo_op18_noopt.onnx": (2, 0, 4),  # two strided convs; option-A shortcuts are x[:, :, ::2, ::2]
    "cifar10_resnet20_dynamo_op20.onnx": (2, 0, 4),
    "cifar10_resnet20_ts_op11.onnx": (2, 0, 4),
    "deeplab_v3_mnv2_tf.onnx": (2, 1, 0),
    "fastestdet.onnx": (8, 1, 0),
    "fns_candy_winml.onnx": (2, 0, 0),  # the stem has stride 1
    "lightweight_person_detector.onnx": (6, 3, 8),  # kept: the stride-1 pools of SPP; Focus slices twice four ways
    "mlperf_tiny_kws_dscnn.onnx": (0, 1, 0),
    "mlperf_tiny_resnet8_cifar10.onnx": (4, 0, 0),
    "mlperf_tiny_resnet8_cifar10_int8.onnx": (4, 0, 0),
    "mnist_cntk_winml.onnx": (2, 0, 0),
    "mobilenet_v1_025_128_tf_fp32.onnx": (4, 1, 0),
    "mobilenet_v1_025_128_tf_qdq_uint8.onnx": (4, 1, 0),
    "mobilenet_v1_075_192_tf_fp32.onnx": (4, 1, 0),
    "mobilenet_v2_int8_nnstreamer.onnx": (4, 1, 0),
    "mobilenet_v2_tv_fp32.onnx": (4, 1, 0),
    "ppocr_ch_PP-OCRv2_det_infer.onnx": (4, 1, 0),  # its sizes are written as -1
    "ppocr_mobile_v11_det_hist.onnx": (4, 1, 0),
    "resnet18_ktb_small_ts_op13.onnx": (7, 1, 0),  # MaxPool, three strided 3x3, three 1x1 shortcuts
    "silero_vad.onnx": (4, 2, 0),  # two sample rates, each in a branch of its own
    "silero_vad_16k_op15.onnx": (2, 1, 0),
    "squeezenet1_1_dynamo_op22_ceil.onnx": (3, 1, 0),
    "squeezenet1_1_fp32.onnx": (3, 1, 0),
    "squeezenet1_1_ts_op15_functions.onnx": (3, 1, 0),
    "squeezenet_fp16_winml.onnx": (3, 1, 0),
    "st_mobilenet_v2_035_128_tfs_nchw.onnx": (4, 1, 0),
    "ultraface_rfb320.onnx": (5, 1, 0),
    "yunet_n_dynamic.onnx": (4, 1, 0),  # four MaxPools
    "zaru_face_detection_short_range.onnx": (6, 1, 0),  # three shortcuts are MaxPools
    "zaru_slim_160_latest.onnx": (4, 1, 0),
    "conv1d.onnx": (4, 0, 0),
    "densenet.onnx": (2, 0, 0),
    "mobilenet.onnx": (2, 1, 0),
    "resnet.onnx": (5, 0, 0),
    "resnet_blurtrained.onnx": (5, 0, 0),
    "resnet_blur.onnx": (0, 1, 5),  # blurred in training: five blurs, all recognised
    "vgg.onnx": (3, 0, 0),
}


def models() -> list[Path]:
    return [*sorted(SAMPLES.glob("*.onnx")), *sorted(SHARED.glob("*.onnx"))]


@pytest.mark.parametrize("path", models(), ids=lambda path: path.name)
def test_model_is_rewritten_and_proven_and_a_second_run_changes_nothing(path: Path) -> None:
    result = aarewrite.rewrite(path)
    plan = result.plan
    counts = len(plan.rewrites), len(plan.sites) - len(plan.rewrites), len(plan.sources)
    assert counts == EXPECTED.get(path.name, counts)
    assert all(planned.match or planned.reason for planned in plan.sites)
    assert all(source.reason for source in plan.sources)
    original = onnx.load(path)
    if not plan.rewrites:
        assert result.model.SerializeToString() == original.SerializeToString()
        return
    assert result.proof is not None
    assert result.proof.passed
    assert result.proof.worst.relative < 1e-4
    assert result.proof.unproven == ()
    assert [value.SerializeToString() for value in result.model.graph.output] == [
        value.SerializeToString() for value in original.graph.output
    ]
    weights = {tensor.name: tensor.SerializeToString() for tensor in original.graph.initializer}
    kept = {tensor.name: tensor.SerializeToString() for tensor in result.model.graph.initializer}
    assert weights.items() <= kept.items(), "a constant of the user's was touched"
    assert not aarewrite.plan(result.model).changes


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared models are not here")
def test_every_shared_model_has_its_expectation() -> None:
    assert {path.name for path in SHARED.glob("*.onnx")} <= EXPECTED.keys()
