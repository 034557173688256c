"""Weights and inputs computed from their names, so that no golden file has to store them.

Both `make_golden.py` (which gives them to the PyTorch implementations) and `tests/test_golden.py` (which puts
them back into the stored graphs) call these functions. Only integers of the legacy Mersenne Twister are
drawn, a stream that NumPy keeps frozen, and every step after it is exact or rounds once.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx

BATCHNORM_EPSILON = 1e-5
SHIFT = 0.2


def make_weight(key: str, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """The tensor that belongs to a state_dict key.

    Kernels are uniform with the variance of He's initialisation. BatchNorm statistics are such that the
    scale a fused convolution receives, gamma / sqrt(var + eps), is exactly 1: a fused kernel then equals the
    unfused one bit for bit, and a fused bias equals beta.
    """
    leaf = key.rpartition(".")[2]
    if leaf == "running_mean":
        return np.zeros(shape, np.float32)
    if leaf == "running_var":
        return np.full(shape, 1 - BATCHNORM_EPSILON, np.float32)
    if len(shape) < 2 and leaf == "weight":
        return np.ones(shape, np.float32)
    limit = SHIFT if len(shape) < 2 else (6 / float(np.prod(shape[1:]))) ** 0.5
    return _uniform(key, shape, limit)


def make_input(shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """White noise of unit variance, the same for every case of one shape."""
    return _uniform("input", shape, 3**0.5)


def _uniform(key: str, shape: Sequence[int], limit: float) -> npt.NDArray[np.float32]:
    draws = np.random.RandomState(zlib.crc32(key.encode())).randint(0, 1 << 16, tuple(shape), dtype=np.uint16)
    centred = draws.astype(np.float32) - np.float32(32767.5)
    return centred * np.float32(limit / 32768)


MARK = "weight of "  # doc_string of an initializer whose data was taken out: MARK + state_dict key


def take_out(model: onnx.ModelProto, keys: dict[bytes, str]) -> None:
    """Remove the data of every initializer that is one of `keys` (raw little-endian bytes -> key)."""
    for tensor in model.graph.initializer:
        key = keys.get(onnx.numpy_helper.to_array(tensor).tobytes())
        if key is not None:
            tensor.CopyFrom(
                onnx.TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type, doc_string=MARK + key)
            )


def fill_in(model: onnx.ModelProto) -> None:
    """Compute the data that `take_out` removed."""
    for tensor in model.graph.initializer:
        if tensor.doc_string.startswith(MARK):
            tensor.raw_data = make_weight(tensor.doc_string.removeprefix(MARK), tensor.dims).tobytes()
            tensor.doc_string = ""
