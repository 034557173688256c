"""The CoreML provider's table, its notes and what its builders check."""

from __future__ import annotations

import numpy as np
import pytest
from lacking import PADS, lacking, reflect_pad
from reference import weight


def test_reflect_pads_are_left_to_the_cpu() -> None:
    assert reflect_pad("coreml", 18) == (
        "ONNX Runtime's CoreML provider has no Pad in mode reflect before May 2026; "
        "--target coreml writes blurs without one where it can, --pad zero everywhere"
    )
    assert lacking("coreml", "Pad(x, pads)", before=PADS) == ""


@pytest.mark.parametrize(
    ("call", "shape", "reason"),
    [
        ("Conv<group = 4>(x, w)", "1, 4, 8, 8", ""),
        ("AveragePool<kernel_shape = [2, 2], pads = [1, 1, 1, 1]>(x)", "1, 4, 8, 8", ""),
        ("AveragePool<kernel_shape = [2]>(x)", "1, 4, 8", "pools in 2 dimensions, not 1"),
        ("MaxPool<kernel_shape = [2, 2], dilations = [2, 2]>(x)", "1, 4, 8, 8", "takes no dilated pool"),
        ("Pad(x, p)", "1, 4, 8, 8", "takes no negative pads"),
        ("Slice(x, zero, two)", "1, 4, 8, 8", ""),
        ("Slice(x, zero, two)", "n, 4, 8, 8", "slices maps of known sizes alone"),
        ("GlobalAveragePool(x)", "1, 4, 8", "takes GlobalAveragePool of rank 4, not 3"),
        ("Gather(x, two)", "1, 4, 8, 8", "has no Gather; the CPU runs it, with copies around it"),
        ("Split<axis = 1>(x, two)", "1, 2, 8, 8", ""),
    ],
)
def test_notes(call: str, shape: str, reason: str) -> None:
    constants = {
        "w": weight(4, 1, 3, 3), "p": np.array([0, 0, 0, 0, 0, 0, -1, 0]), "zero": np.array([0]), "two": np.array([2]),
    }  # fmt: skip
    found = lacking("coreml", call, shape=shape, **constants)  # type: ignore[arg-type]
    assert bool(found) == bool(reason)
    assert reason in found


def test_attributes_of_old_opsets() -> None:
    assert lacking("coreml", "Pad<pads = [0, 0, 1, 1, 0, 0, 1, 1]>(x)", opset=10) == (
        "ONNX Runtime's CoreML provider takes Pad from opset 11; export with opset 11 or newer"
    )


def test_inputs_that_must_be_constants() -> None:
    found = lacking("coreml", "Conv(x, w, b)", before="b = Relu(bias)", w=weight(4, 4, 1, 1), bias=weight(4))
    assert found == ""  # computed from a constant
    sizes = "four = Shape<start = 1, end = 2>(x)"
    found = lacking("coreml", "Slice(x, zero, four)", shape="1, n, 8, 8", before=sizes, opset=15, zero=np.array([0]))
    assert found == "ONNX Runtime's CoreML provider needs a constant ends; fold the model's constants first"


def test_three_dimensions() -> None:
    found = lacking("coreml", "Conv(x, w)", shape="1, 4, 5, 5, 5", w=weight(4, 4, 1, 1, 1))
    assert found == "ONNX Runtime's CoreML provider takes no convolution in 3 dimensions; use another --target"


def test_powers_of_halves() -> None:
    half = np.float16(2)
    assert "takes Pow of float alone" in lacking("coreml", "Pow(x, p)", "float16", p=half)
    assert lacking("coreml", "Pow(x, p)", p=np.float32(2)) == ""
