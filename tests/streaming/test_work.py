"""Multiply-accumulates counted by hand."""

import numpy as np
import pytest
from reference import build, weight

from aarewrite.model.model_file import load
from aarewrite.streaming.source import Source
from aarewrite.streaming.work import macs


@pytest.mark.parametrize(
    ("body", "shape", "constants", "expected"),
    [
        ("y = Conv<strides = [2], group = 2>(x, w)", "N, 4, 17", {"w": weight(6, 2, 3)}, 6 * 8 * 2 * 3),
        ("y = ConvTranspose<strides = [2]>(x, w)", "1, 4, 16", {"w": weight(4, 3, 2)}, 4 * 16 * 3 * 2),
        ("y = Gemm<transB = 1>(x, w)", "5, 4", {"w": weight(7, 4)}, 5 * 7 * 4),
        ("y = MatMul(x, w)", "2, 5, 4", {"w": weight(4, 7)}, 2 * 5 * 7 * 4),
        ("y = AveragePool<kernel_shape = [2]>(x)", "1, 4, 16", {}, 4 * 15 * 2),
        ("y = MaxPool<kernel_shape = [2]>(x)", "1, 4, 16", {}, 0),
        ("y = other.Thing(x)", "1, 4, 16", {}, 0),
    ],
)
def test_macs(body: str, shape: str, constants, expected: int) -> None:
    model = build(f"(float[{shape}] x) => (float[] y) {{ {body} }}", imports=', "other" : 1', **constants)
    source = Source(load(model), {})
    assert macs(source, source.nodes[-1:]) == [expected]


def test_macs_of_integers() -> None:
    model = build(
        "(uint8[1, 2, 40] x) => (uint8[] y) { y = QLinearConv<pads = [1, 1]>(x, s, z, w, s, z, s, z) }",
        s=np.float32(1), z=np.uint8(0), w=np.ones((4, 2, 3), np.uint8),
    )  # fmt: skip
    source = Source(load(model), {})
    assert macs(source, source.nodes) == [4 * 40 * 2 * 3]


def test_sizes_that_are_open_are_taken_from_a_run() -> None:
    """NonZero and Compress decide on sizes as they run: of a whole window here, for all is kept."""
    model = build(
        """(float[N, 2, 8] x) => (float[] y) {
        kept = Compress<axis = 1>(x, both)
        y = MatMul(kept, w)
    }""",
        both=np.array([True, True]), w=weight(8, 5),
    )  # fmt: skip
    source = Source(load(model), {})
    assert source.dims("y") != ("N", 2, 5)
    assert macs(source, source.nodes) == [0, 2 * 5 * 8]
