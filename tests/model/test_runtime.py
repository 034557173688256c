"""Sessions read the weights that are set aside, and say in one line why a model is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from reference import build, weight

import aarewrite
from aarewrite.model.model_file import Model, load
from aarewrite.model.runtime import first_line, open_session, plain_session


def scaled() -> onnx.ModelProto:
    return build("(float[1, 400] x) => (float[1, 400] y) { y = Mul(x, w) }", w=weight(400))


@pytest.mark.parametrize("optimise", [False, True])
def test_weights_that_are_set_aside_are_read(optimise: bool) -> None:
    model = load(scaled())
    assert set(model.weights) == {"w"}
    (found,) = open_session(model, optimise).run(None, {"x": np.ones((1, 400), np.float32)})
    np.testing.assert_array_equal(found[0], weight(400))


@pytest.mark.parametrize(
    "kind", ["BFLOAT16", "BOOL", "DOUBLE", "FLOAT16", "INT8", "INT16", "INT32", "UINT8", "UINT16", "UINT32", "UINT64"]
)
def test_weights_of_every_type_are_read(kind: str) -> None:
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 17]>
        g (int64[1] i) => (float[1] y) { g = Gather(w, i) y = Cast<to = 1>(g) }""")
    raw = (np.arange(2000) % 2).astype(onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(kind)))
    model.graph.initializer.append(onnx.numpy_helper.from_array(raw, "w"))
    loaded = load(model)
    assert set(loaded.weights) == {"w"}
    (found,) = open_session(loaded).run(None, {"i": np.array([5])})
    assert found.tolist() == [1.0]


@pytest.mark.parametrize("kind", ["FLOAT8E4M3FN", "FLOAT8E5M2", "INT4", "INT8", "UINT4"])
def test_a_model_with_quantised_weights_of_every_type_is_rewritten_and_proven(kind: str, tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 21]>
        g (float[1, 32, 16, 16] x) => (float[1, 64, 8, 8] y) <float s = {0.5}> {
            w = DequantizeLinear(q, s)
            a = Conv<kernel_shape = [2, 2], pads = [0, 0, 1, 1]>(x, w)
            y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)
        }""")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(kind))
    q = (np.arange(64 * 32 * 4).reshape(64, 32, 2, 2) % 7).astype(dtype)
    model.graph.initializer.append(onnx.numpy_helper.from_array(q, "q"))
    onnx.save(model, tmp_path / "net.onnx")
    result = aarewrite.rewrite(tmp_path / "net.onnx")
    assert result.proof is not None
    (kept,) = (tensor for tensor in result.model.graph.initializer if tensor.name == "q")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(kept), q)
    assert any("blur" in node.name for node in result.model.graph.node)


def test_weights_that_no_runtime_takes_are_refused_in_one_line() -> None:
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 17]>
        g (float[1, 4, 16, 16] x, int64[1] i) => (float[1, 4, 8, 8] y, complex64[1] z) {
            y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
            z = Gather(w, i)
        }""")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(500, np.complex64), "w"))
    with pytest.raises(aarewrite.CannotHandle, match="complex64"):
        aarewrite.rewrite(model)


def test_a_plain_session_runs_a_complete_model() -> None:
    (found,) = plain_session(scaled(), threads=1).run(None, {"x": np.full((1, 400), 2, np.float32)})
    np.testing.assert_array_equal(found[0], 2 * weight(400))


def test_a_refusal_is_one_line_that_names_the_operator() -> None:
    model = scaled()
    model.graph.node[0].op_type = "Unheard"
    with pytest.raises(aarewrite.CannotHandle) as refusal:
        open_session(load(model))
    assert refusal.value.message.startswith("ONNX Runtime refuses the model: ")
    assert "Unheard" in refusal.value.message
    assert "\n" not in refusal.value.message
    assert refusal.value.next_step == ""


def test_an_opset_that_is_too_new_has_its_next_step() -> None:
    proto = scaled()
    proto.opset_import[0].version = 99
    with pytest.raises(aarewrite.CannotHandle) as refusal:
        open_session(Model(proto))
    assert refusal.value.next_step == "install a newer onnxruntime or export with a lower opset_version"


def test_a_domain_that_is_not_imported_is_no_matter_of_versions() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 13]>
        tested (float[4] x, bool c) => (float[4] y) {
            y = If(c) <then_branch = a () => (float[4] t) { t = Relu(x) },
                       else_branch = b () => (float[4] e) { e = Neg(x) }>
        }""")
    model.graph.node[0].attribute[0].g.node[0].domain = "ai.onnx"
    with pytest.raises(aarewrite.CannotHandle, match=r"No opset import for domain 'ai\.onnx'") as refusal:
        open_session(Model(model))
    assert refusal.value.next_step == "name the domain in opset_import; in branches that of ONNX's own operators is ''"


def test_the_first_line_of_an_error_has_no_prefix_and_no_path() -> None:
    text = "[ONNXRuntimeError] : 1 : FAIL : /a/onnxruntime/core/x.cc:12 void f(int) too small\nsecond line"
    assert first_line(RuntimeError(text)) == "too small"
    assert first_line(KeyError()) == "KeyError"


def test_what_libraries_print_goes_to_stderr() -> None:
    code = """
import os
from aarewrite.model.runtime import stdout_to_stderr
with stdout_to_stderr():
    os.write(1, b'c++')
print('own')
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=os.environ)
    assert (done.stdout, done.stderr) == (b"own\n", b"c++")
