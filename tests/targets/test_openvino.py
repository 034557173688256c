"""OpenVINO's table, held against OpenVINO where it is installed."""

from __future__ import annotations

import pytest
from lacking import PADS, lacking, reflect_pad
from reference import build


@pytest.mark.parametrize("opset", [11, 18, 22])
def test_blurs_are_imported(opset: int) -> None:
    assert reflect_pad("openvino", opset) == ""
    assert lacking("openvino", "AveragePool<kernel_shape = [2, 2], pads = [1, 1, 1, 1]>(x)", opset=opset) == ""


LACKED = {"Pad in mode wrap": ('Pad<mode = "wrap">(x, pads)', PADS), "Det": ("Det(x)", "")}


@pytest.mark.parametrize("what", LACKED)
def test_what_it_lacks(what: str) -> None:
    call, before = LACKED[what]
    assert lacking("openvino", call, before=before, opset=19).startswith(f"OpenVINO has no {what}; ")


@pytest.mark.parametrize("what", LACKED)
def test_openvino_says_so_too(what: str) -> None:
    openvino = pytest.importorskip("openvino", reason="the extra aarewrite[openvino] is not installed")
    call, before = LACKED[what]
    model = build(f"(float[1, 4, 8, 8] x) => (float[] y) {{ {before} y = {call} }}", opset=19)
    with pytest.raises(Exception, match=r"No conversion rule|(?i:wrap)"):
        openvino.Core().read_model(model.SerializeToString())
