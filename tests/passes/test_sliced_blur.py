"""A border of single samples: the same values for every padding, opset and size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from padded import padded
from reference import ops, run, weight

import aarewrite
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import load
from aarewrite.model.shapes import Shapes
from aarewrite.passes.lowering import padded_blurs, replace
from aarewrite.passes.sliced_blur import SlicedBlur
from aarewrite.targets.support import unsupported

EXACT = 1e-6


def sliced(model: onnx.ModelProto) -> onnx.ModelProto:
    editor = GraphEditor(load(model))
    (blur,) = padded_blurs(editor, Shapes(editor, {}), lambda _: True)
    assert SlicedBlur.fits(blur)
    assert not SlicedBlur.pays(blur)
    replace(editor, blur, SlicedBlur)
    return editor.export().to_proto()


@pytest.mark.parametrize("mode", ["reflect", "edge"])
@pytest.mark.parametrize("opset", [9, 13, 21])
@pytest.mark.parametrize(
    ("size", "sizes", "strides"),
    [((9, 8), (3, 5), (2, 3)), ((12,), (7,), (2,)), ((6, 6), (2, 2), (2, 2)), ((4, 5), (7, 7), (2, 2))],
)
def test_equal_to_pad(mode: str, opset: int, size: Sequence[int], sizes: Sequence[int], strides: Sequence[int]) -> None:
    model = padded(size, sizes, strides, mode=mode, strength=0.5 if sizes[0] % 2 else 1, channels=3, opset=opset)
    result = sliced(model)
    assert set(ops(result)) == {"Split", "Concat", "Conv"}
    x = weight(1, 3, *size)
    assert np.abs(run(result, x=x)[0] - run(model, x=x)[0]).max() < EXACT


def test_it_is_what_remains_where_a_runtime_lacks_the_pad() -> None:
    """CoreML takes a Pad with constants alone, and neither the pools nor the corrected border fit this."""
    model = padded((12, 12), (5, 5), (2, 2), strength=0.5)
    result = aarewrite.rewrite(model, target="coreml")
    assert [one.form for one in result.lowered] == ["slices"]
    open_size = aarewrite.rewrite(padded(("h", "w"), (5, 5), (2, 2), strength=0.5), target="coreml")
    assert [one.form for one in open_size.lowered] == [""]  # nor does it slice a map of unknown size


@pytest.mark.parametrize("mode", ["reflect", "edge"])
@pytest.mark.parametrize("taps", [(4, 4), (5, 5)])
def test_coreml_takes_it_at_an_open_batch(mode: str, taps: Sequence[int]) -> None:
    model = padded((9, 9), taps, (2, 2), mode=mode, strength=1 if taps == (4, 4) else 0.5, batch="n")
    result = aarewrite.rewrite(model, target="coreml")
    assert [one.form for one in result.lowered] == ["slices"]
    assert unsupported(result.model, "coreml") == []
    x = weight(3, 16, 9, 9)
    assert np.abs(run(result.model, x=x)[0] - run(model, x=x)[0]).max() < EXACT


def test_an_open_size() -> None:
    model = padded(("h", "w"), (5, 5), (2, 2), strength=0.5)
    result = sliced(model)
    assert set(ops(result)) == {"Slice", "Concat", "Conv"}
    for size in ((5, 7), (12, 12)):
        x = weight(1, 16, *size)
        assert np.abs(run(result, x=x)[0] - run(model, x=x)[0]).max() < EXACT
