"""The CUDA provider's kernels by version and type, and the pools that it gets wrong."""

from __future__ import annotations

import numpy as np
import pytest
from lacking import lacking, reflect_pad
from reference import weight


@pytest.mark.parametrize("opset", [11, 13, 18, 19, 21, 23, 25])
@pytest.mark.parametrize("kind", ["float", "float16"])
def test_pads_and_depthwise_convolutions_run_there(opset: int, kind: str) -> None:
    assert reflect_pad("ort-cuda", opset, kind) == ""
    taps = weight(4, 1, 3, 3, dtype=np.float16 if kind == "float16" else np.float32)
    assert lacking("ort-cuda", "Conv<group = 4, strides = [2, 2]>(x, w)", kind, opset=opset, w=taps) == ""


def test_max_pool_has_no_kernel_from_opset_22_on() -> None:
    pool = "MaxPool<kernel_shape = [2, 2], strides = [1, 1]>(x)"
    assert [lacking("ort-cuda", pool, opset=opset) for opset in (11, 12, 21)] == ["", "", ""]
    assert lacking("ort-cuda", pool, opset=22) == (
        "ONNX Runtime's CUDA provider has no MaxPool of version 22; "
        "export with an older opset: it has MaxPool to version 12"
    )


def test_types() -> None:
    assert lacking("ort-cuda", "Relu(x)", "bfloat16", opset=14) == ""
    assert "no Pad of bfloat16; it takes bool, double, float, float16" in reflect_pad("ort-cuda", 18, "bfloat16")
    assert "no MaxPool of int16" not in lacking("ort-cuda", "MaxPool<kernel_shape = [2, 2]>(x)", "int8", opset=12)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ("pads = [1, 1, 1, 1]", ""),
        ("pads = [1, 1, 0, 0]", "where the pads of the ends differ"),
        ('auto_pad = "SAME_UPPER"', "where the pads of the ends differ"),
        ("ceil_mode = 1", "with ceil_mode or dilations"),
        ("dilations = [2, 2]", "with ceil_mode or dilations"),
    ],
)
def test_average_pools_that_cudnn_cannot_say(attributes: str, reason: str) -> None:
    found = lacking("ort-cuda", f"AveragePool<kernel_shape = [2, 2], strides = [2, 2], {attributes}>(x)", opset=19)
    assert bool(found) == bool(reason)
    assert reason in found


def test_an_operator_without_a_kernel_that_onnx_defines_by_others() -> None:
    assert lacking("ort-cuda", "Mish(x)", opset=18) == ""
    assert lacking("ort-cuda", "Acos(x)", opset=18) == (
        "ONNX Runtime's CUDA provider has no Acos; the CPU runs it, with copies around it"
    )


def test_arg_max_of_the_last_index() -> None:
    last = lacking("ort-cuda", "ArgMax<select_last_index = 1>(x)", out="int64")
    assert last == "ONNX Runtime's CUDA provider has no ArgMax with select_last_index; set it to 0"
    assert lacking("ort-cuda", "ArgMax(x)", out="int64") == ""
