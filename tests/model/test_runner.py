"""A model as something to run: loaded on the provider asked for, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from command import aa
from reference import build
from refusals import refused

from aarewrite.errors import CannotHandle
from aarewrite.model.runner import Model


def test_model_that_does_not_load(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    refused(3, "broken.onnx", "not a readable ONNX model", args=[str(tmp_path / "broken.onnx")])
    with pytest.raises(CannotHandle, match=r"broken\.onnx: ONNX Runtime does not load it"):
        Model(tmp_path / "broken.onnx")


def test_cuda_is_refused_where_there_is_none(net):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has CUDA")
    refused(3, "CUDAExecutionProvider", args=[net, "--provider", "cuda"])
    result = aa("verify", net, "--provider", "all")
    assert result.status == 0
    assert "only the CPU was measured" in result.out


def test_only_tensors_are_measured_and_only_those_asked_for() -> None:
    model = Model(
        build(
            """(float[N, 2] x) => (float[N, 2] y, seq(float[N, 1]) s, float[N, 2] z) {
            y = Neg(x)
            s = SplitToSequence<axis = 1>(x)
            z = Abs(x)
        }"""
        )
    )
    assert model.output_names == ("y", "z")
    x = np.float32([[1, -2], [3, 4], [-5, 6]])
    assert model.run({"x": x}).keys() == {"y", "z"}
    found = model.run({"x": x}, ["z"])
    assert found.keys() == {"z"}
    np.testing.assert_array_equal(found["z"], np.abs(x))


def test_a_model_that_gives_no_tensor_at_all():
    model = build(
        "(float[N, 2] x) => (seq(map(int64, float)) y) { y = ai.onnx.ml.ZipMap<classlabels_int64s = [3, 5]>(x) }",
        imports=', "ai.onnx.ml" : 3',
    )
    with pytest.raises(CannotHandle, match="none of its outputs is a tensor"):
        Model(model)


def test_a_fixed_batch_that_nobody_fills_is_refused() -> None:
    model = Model(build(f"(float[{2**40}, 2, 8, 8] x) => (float[] y) {{ y = Relu(x) }}"))
    with pytest.raises(CannotHandle, match="a fixed batch of 1099511627776"):
        model.run({"x": np.zeros((1, 2, 8, 8), np.float32)})
