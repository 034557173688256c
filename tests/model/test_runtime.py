"""Sessions read the weights that are set aside, and say in one line why a model is refused."""

from __future__ import annotations

import os
import subprocess
import sys

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


def test_weights_of_types_that_numpy_lacks_are_read() -> None:
    kind = onnx.TensorProto.BFLOAT16
    model = build("(int64[1] i) => (float[] y) { g = Gather(w, i)\n y = Cast<to = 1>(g) }")
    raw = np.arange(600).astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
    model.graph.initializer.append(onnx.numpy_helper.from_array(raw, "w"))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    loaded = load(model)
    assert set(loaded.weights) == {"w"}
    (found,) = open_session(loaded).run(None, {"i": np.array([5])})
    assert found.tolist() == [5.0]


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
