"""The proof fails when it should: a state that is off by one, a piece that is wrong."""

import numpy as np
import onnx
import pytest
from nets import flow_of
from reference import build, weight

from aarewrite.errors import CannotHandle, CheckFailed
from aarewrite.model.model_file import load
from aarewrite.streaming.layout import Planner
from aarewrite.streaming.proof import Steps, cut, measure, prove, zeros
from aarewrite.streaming.writer import Writer


def parts(dtype: str = "float"):
    kind = {"float": np.float32, "double": np.float64}[dtype]
    model = build(
        f"""({dtype}[N, 2, 32] x) => ({dtype}[] y) {{
        a = Conv<pads = [1, 1]>(x, w)
        c = Conv<pads = [1, 1]>(a, v)
        y = ReduceMean<axes = [2]>(c)
    }}""",
        w=weight(4, 2, 3, dtype=kind), v=weight(4, 4, 3, dtype=kind),
    )  # fmt: skip
    flow = flow_of(model)
    writer = Writer(flow, Planner(flow, 4).best(), 4)
    streaming = writer.write({})
    return load(model), streaming, Steps(flow.inputs, flow.window, 4, writer.states, 8)


def test_four_windows_with_a_batch_of_two() -> None:
    original, streaming, steps = parts()
    proof = prove(original, streaming, steps, {"x": (0, 2, 32)})
    assert proof.passed
    assert proof.windows == 4
    assert proof.worst.relative < 1e-6
    assert proof.to_dict()["inputs"] == {"x": [2, 2, 32]}


@pytest.mark.parametrize("tensor", ["x", "c"])
def test_a_state_of_the_wrong_samples_is_found(tensor: str) -> None:
    original, streaming, steps = parts()
    broken = onnx.ModelProto()
    broken.CopyFrom(streaming.proto)
    after = steps.states[f"{tensor}/state"]
    node = next(node for node in broken.graph.node if after in node.output)
    broken.graph.node.remove(node)
    length = next(v for v in broken.graph.output if v.name == after).type.tensor_type.shape.dim[2].dim_value
    broken.graph.node.extend(
        [
            onnx.helper.make_node("Concat", [f"{tensor}/state", node.input[0]], ["joined"], axis=2),
            onnx.helper.make_node("Constant", [], ["from"], value_ints=[length - 1]),
            onnx.helper.make_node("Constant", [], ["to"], value_ints=[2 * length - 1]),
            onnx.helper.make_node("Constant", [], ["axis2"], value_ints=[2]),
            onnx.helper.make_node("Slice", ["joined", "from", "to", "axis2"], [after]),
        ]
    )
    proof = prove(original, streaming.with_proto(broken), steps, {"x": (0, 2, 32)})
    assert not proof.passed
    assert proof.worst.tensor == "y"
    assert "differs by" in proof.worst.problem


def test_a_streaming_model_that_does_not_run_is_a_failed_check() -> None:
    original, streaming, steps = parts()
    broken = onnx.ModelProto()
    broken.CopyFrom(streaming.proto)
    broken.graph.node[-1].op_type = "NoSuchOperator"
    with pytest.raises(CheckFailed, match="the streaming model"):
        prove(original, streaming.with_proto(broken), steps, {"x": (0, 2, 32)})


def test_an_original_that_does_not_run_cannot_be_handled() -> None:
    original, streaming, steps = parts()
    with pytest.raises(CannotHandle, match="cannot run the original"):
        prove(original, streaming, steps, {"x": (0, 3, 32)})


def test_double_precision_is_proven_in_float32() -> None:
    proof = prove(*parts("double"), {"x": (0, 2, 32)})
    assert proof.passed
    assert "run in float32" in proof.notes[0]


def test_zeros_and_cuts() -> None:
    assert zeros(["N", 3, 4], "tensor(float16)", 2).shape == (2, 3, 4)
    assert zeros([1], "tensor(double)", 2).dtype == np.float64
    assert cut(np.arange(12).reshape(2, 6), 1, 2, 4).tolist() == [[2, 3], [8, 9]]


def test_agreement_by_hand() -> None:
    a = [np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 2.0, 0.0]])]
    b = [np.array([[1.0, 0.5, 0.0]]), np.array([[2.5, 2.0, 0.0]])]
    [one] = measure([({"y": x}, {"y": y}) for x, y in zip(a, b, strict=True)])
    assert (one.windows, one.difference, one.same) == (2, 2.5, 0.5)
    spread = np.stack(a).std()
    assert one.nrmse == pytest.approx(np.sqrt((0.25 + 6.25) / 6) / spread)
    assert measure([({"y": ["text"]}, {"y": ["text"]})]) == ()
    varying = [({"y": np.zeros((1, k))}, {"y": np.zeros((1, k))}) for k in (2, 3)]
    assert measure(varying) == measure([({"y": np.zeros((0, 2))}, {"y": np.zeros((0, 2))})]) == ()
