"""The pass of onnx_ir: what `rewrite` gives, the given model untouched, data outside left where it is."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from reference import POOL, build, ops, run, weight
from stages import three_sites

import aarewrite

ir = pytest.importorskip("onnx_ir")


def test_the_pass_gives_what_rewrite_gives() -> None:
    given = ir.from_proto(three_sites())
    before = ir.to_proto(given).SerializeToString()
    result = ir.passes.Sequential(aarewrite.onnx_ir_pass("timm"))(given)
    assert result.modified
    made, expected = ir.to_proto(result.model), aarewrite.rewrite(three_sites(), "timm").model
    assert ops(made) == ops(expected)
    x = weight(1, 2, 33, 33)
    assert np.array_equal(run(made, x=x)[0], run(expected, x=x)[0])
    assert ir.to_proto(given).SerializeToString() == before


def test_options_are_those_of_rewrite() -> None:
    model = build(f"(float[1, 2, 9, 9] x) => (float[] y) {{ {POOL} }}")
    result = aarewrite.onnx_ir_pass(filter=5, pad="edge")(ir.from_proto(model))
    assert [2, 1, 5, 5] in [list(value.shape) for value in result.model.graph.initializers.values()]
    with pytest.raises(aarewrite.UsageError, match="matches no node"):
        aarewrite.onnx_ir_pass(skip=["other*"])(ir.from_proto(model))


def test_nothing_to_do_is_no_modification() -> None:
    model = build("(float[1, 2, 9, 9] x) => (float[] y) { y = Relu(x) }")
    result = aarewrite.onnx_ir_pass()(ir.from_proto(model))
    assert not result.modified
    assert ops(ir.to_proto(result.model)) == ["Relu"]


def test_data_outside_stays_where_it_is(tmp_path: Path) -> None:
    model = build(
        "(float[1, 2, 9, 9] x) => (float[] y) { [pool] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)"
        " y = Conv(a, w) }",
        w=weight(64, 2, 3, 3),
    )
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    result = aarewrite.onnx_ir_pass()(ir.load(tmp_path / "m.onnx"))
    tensor = result.model.graph.initializers["w"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    assert np.array_equal(tensor.numpy(), weight(64, 2, 3, 3))


def test_without_onnx_ir_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    with pytest.raises(aarewrite.CannotHandle, match="onnx_ir is not installed"):
        aarewrite.onnx_ir_pass()
