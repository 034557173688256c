"""The CPU provider's kernels are asked of the installed build."""

from __future__ import annotations

import numpy as np
import pytest
from lacking import lacking, reflect_pad
from reference import build, weight

from aarewrite.model.runtime import plain_session
from aarewrite.targets.ort_cpu import installed


def test_the_installed_build_lists_its_kernels() -> None:
    operators = installed().operators
    assert ("com.microsoft.nchwc", "Conv") in operators
    assert all(one.take_version(25) for one in operators["", "Pad"][-1:])


@pytest.mark.parametrize("opset", [11, 18, 21, 24])
@pytest.mark.parametrize("kind", ["float", "float16"])
def test_blurs_run(opset: int, kind: str) -> None:
    assert reflect_pad("portable", opset, kind) == ""
    assert lacking("ort-cpu", "AveragePool<kernel_shape = [2, 2], pads = [1, 1, 1, 1]>(x)", kind, opset=opset) == ""


CONVOLUTION = "(double[1, 4, 8, 8] x) => (double[] y) { y = Conv(x, w) }"


def test_what_it_lacks_does_not_load() -> None:
    """Convolutions in float64: the checker says what ONNX Runtime says."""
    taps = weight(4, 4, 1, 1, dtype=np.float64)
    assert lacking("ort-cpu", "Conv(x, w)", "double", w=taps) == (
        "ONNX Runtime's CPU provider has no Conv of double; it takes float, float16: convert the model's type"
    )
    with pytest.raises(Exception, match="Could not find an implementation for Conv"):
        plain_session(build(CONVOLUTION, w=taps))


def test_operators_of_nobody() -> None:
    assert lacking("portable", "m.Custom(x)", imports=', "m" : 1') == (
        "ONNX Runtime's CPU provider has no m.Custom; install a newer onnxruntime"
    )
    assert lacking("portable", "HardSwish(x)", opset=14) == ""
