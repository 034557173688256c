"""Where nodes run, and parity of CUDA with the CPU; the latter is skipped where onnxruntime has no CUDA provider."""

from __future__ import annotations

import onnx
import onnxruntime
import pytest
from small_nets import SHARED, needs_shared, pooled_net

from aarewrite.model.runner import Model
from aarewrite.verification import verify
from aarewrite.verification.providers import node_placement

needs_cuda = pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="no CUDA provider here"
)


@needs_cuda
@pytest.mark.parametrize("blur", [False, True])
def test_small_net_agrees_with_the_cpu(blur):
    report = verify(pooled_net(blur), "synthetic:8", provider="cuda", names=("net", ""))
    assert report.passed, report.failures
    assert report.provider == "cuda"
    assert {place.provider for place in report.placement} == {"cpu", "cuda"}


@needs_cuda
@needs_shared
@pytest.mark.parametrize(
    "name", ["squeezenet1_1_fp32.onnx", "squeezenet_fp16_winml.onnx", "cifar10_resnet20_dynamo_op20.onnx"]
)
def test_shared_models_agree_with_the_cpu(name):
    report = verify(SHARED / "models" / name, "synthetic:4", provider="cuda")
    assert report.passed, report.failures


def test_placement_on_the_cpu_names_every_node(tmp_path, monkeypatch):
    import numpy as np

    monkeypatch.chdir(tmp_path)
    net = pooled_net(blur=True)
    place = node_placement(Model(net), "cpu", {"x": np.zeros((1, 1, 32, 32), np.float32)})
    assert set(place.counts) == {"CPUExecutionProvider"}
    assert place.counts["CPUExecutionProvider"] >= 4
    assert place.fallen_back == ()
    assert place.milliseconds > 0
    assert list(tmp_path.iterdir()) == []  # the profile does not stay behind
    assert isinstance(net, onnx.ModelProto)
