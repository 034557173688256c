"""What kind of answer real models give, told from their outputs."""

from __future__ import annotations

import numpy as np
import pytest
from small_nets import SHARED, needs_shared

from aarewrite.verification import verify

MODELS = SHARED / "models"


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
@needs_shared
def test_task_is_inferred(name, task):
    report = verify(MODELS / name, "synthetic:1", max_shift=1)
    assert report.task == task
    for result in report.maps:
        assert np.isfinite(result.relative_error.value)
