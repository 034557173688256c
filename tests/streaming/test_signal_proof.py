"""What the signal form's proof compares, and what it refuses."""

import numpy as np
import onnx
import pytest
from nets import flow_of
from reference import build, weight

from aarewrite.errors import CannotHandle, CheckFailed
from aarewrite.model.model_file import load
from aarewrite.streaming.proof import Steps
from aarewrite.streaming.signal import SignalWriter, lay_out
from aarewrite.streaming.signal_proof import prove_signal


def parts():
    model = build(
        "(float[N, 2, 32] x) => (float[] y) { a = Conv<pads = [1, 1]>(x, w) y = ReduceMax<axes = [2]>(a) }",
        w=weight(3, 2, 3),
    )
    flow = flow_of(model)
    layout = lay_out(flow, 4)
    writer = SignalWriter(flow, layout)
    streaming = writer.write({})
    steps = Steps(flow.inputs, 32, 4, writer.states, layout.first_valid, layout.latency)
    return load(model), streaming, flow, tuple(writer.interiors()), steps, {"x": (0, 2, 32)}


def test_the_interior_of_every_map_is_compared() -> None:
    proof, agreements = prove_signal(*parts())
    assert [(one.tensor, one.problem) for one in proof.comparisons] == [("a", ""), ("a", "")]
    assert proof.worst.relative < 1e-6
    assert proof.passed
    assert agreements[0].output == "y"
    assert agreements[0].same is None  # one score for each channel and index
    assert proof.windows >= 40


def test_nothing_to_compare_is_no_proof() -> None:
    given = list(parts())
    given[3] = ()
    with pytest.raises(CannotHandle, match="cannot be proven"):
        prove_signal(*given)


def test_another_weight_is_found() -> None:
    given = list(parts())
    broken = onnx.ModelProto()
    broken.CopyFrom(given[1].proto)
    tensor = next(tensor for tensor in broken.graph.initializer if tensor.name == "w")
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.ones((3, 2, 3), np.float32), "w"))
    given[1] = given[1].with_proto(broken)
    proof, _ = prove_signal(*given)
    assert not proof.passed
    given[1].proto.graph.node[-1].op_type = "NoSuchOperator"
    with pytest.raises(CheckFailed, match="the streaming model does not run"):
        prove_signal(*given)
