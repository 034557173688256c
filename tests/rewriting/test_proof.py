"""The identity proof fails when it should: a wrong twin, NaN, integers, missing outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from reference import build, weight

import aarewrite
from aarewrite import filters
from aarewrite.model.model_file import Model, load
from aarewrite.rewriting import pipeline
from aarewrite.rewriting.apply import applied
from aarewrite.rewriting.pipeline import claim
from aarewrite.rewriting.proof import Claim, Proof, prove


def strided() -> onnx.ModelProto:
    return build(
        """(float[1, 2, 12, 13] x) => (float[] y) {
        [conv] a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)
        [relu] b = Relu(a)
        [pool] c = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(b)
        [mean] d = GlobalAveragePool(c)
        y = Sigmoid(d)
    }""",
        w=weight(4, 2, 3, 3),
    )


def parts(model: onnx.ModelProto) -> tuple[Model, Model, Model, Claim]:
    """Original, twin, rewritten and what is claimed of them."""
    planned = aarewrite.plan(model, first_conv=True)
    return load(model), applied(planned, model, twin=True), applied(planned, model), claim(planned)


def test_the_claim_of_a_plan_names_maps_and_sites() -> None:
    model = build(
        "(float[1, 2, H, 12] x) => (float[] y) "
        "{ [pool] y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x) }"
    )
    planned = aarewrite.plan(model, "zhang2019-resnet", input_shapes={"x": [1, 2, 8, 12]})
    assert claim(planned) == Claim(watched=("y",), unproven=("pool",), input_shapes={"x": (1, 2, 8, 12)})
    assert claim(aarewrite.plan(model, input_shapes={"x": [1, 2, 8, 12]})) == Claim(
        watched=("y",), input_shapes={"x": (1, 2, 8, 12)}
    )


def tampered(twin: Model, edit: Callable[[onnx.ModelProto], None]) -> Model:
    proto = onnx.ModelProto()
    proto.CopyFrom(twin.proto)
    edit(proto)
    return twin.with_proto(proto)


def attribute(proto: onnx.ModelProto, node: str, name: str) -> onnx.AttributeProto:
    found = next(n for n in proto.graph.node if n.name == node)
    existing = next((a for a in found.attribute if a.name == name), None)
    return existing or found.attribute.add(name=name, type=onnx.AttributeProto.INTS)


def set_ints(node: str, name: str, values: list[int]) -> Callable[[onnx.ModelProto], None]:
    def edit(proto: onnx.ModelProto) -> None:
        attribute(proto, node, name).ints[:] = values

    return edit


def one_row_on(proto: onnx.ModelProto) -> None:
    """Every blur of the twin reads one row further down."""
    for tensor in proto.graph.initializer:
        if tensor.name.endswith("/taps"):
            rolled = np.roll(onnx.numpy_helper.to_array(tensor), 1, axis=2)
            tensor.CopyFrom(onnx.numpy_helper.from_array(rolled, tensor.name))


def test_a_right_twin_passes() -> None:
    original, twin, rewritten, claimed = parts(strided())
    proof = prove(original, twin, rewritten, claimed)
    assert proof.passed
    assert proof.worst.relative <= 1e-6
    assert {c.tensor for c in proof.comparisons} == {"b", "c", "y"}
    assert proof.inputs == ({"x": (1, 2, 12, 13)},)


@pytest.mark.parametrize(
    "edit",
    [
        set_ints("conv", "pads", [0, 1, 2, 1]),
        set_ints("conv", "pads", [1, 2, 1, 0]),
        set_ints("pool", "pads", [0, 0, 2, 2]),
        set_ints("pool", "kernel_shape", [2, 3]),
        one_row_on,
        set_ints("conv/blur/Conv", "strides", [2, 1]),
        set_ints("pool/blur/Conv", "strides", [1, 1]),
    ],
    ids=["conv row", "conv column", "pool", "window", "phase", "stride", "pool stride"],
)
def test_a_wrong_twin_fails(edit: Callable[[onnx.ModelProto], None]) -> None:
    original, twin, rewritten, claimed = parts(strided())
    wrong = tampered(twin, edit)
    del wrong.proto.graph.value_info[:]
    proof = prove(original, wrong, rewritten, claimed)
    assert not proof.passed
    assert proof.failure.startswith("identity proof failed at tensor '")


def test_a_misplaced_blur_behind_a_saturated_output_fails() -> None:
    """Only the maps in front of the output tell: the output itself is 1 everywhere."""
    model = build(
        """(float[1, 2, 12, 12] x) => (float[] y) {
        [pool] a = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)
        b = Mul(a, big)
        c = Abs(b)
        d = Add(c, big)
        y = Sigmoid(d)
    }""",
        big=np.float32(1000),
    )
    original, twin, rewritten, claimed = parts(model)
    proof = prove(original, tampered(twin, set_ints("pool", "pads", [2, 2, 0, 0])), rewritten, claimed)
    assert not proof.passed
    assert "'a'" in proof.failure


def test_nan_in_one_of_them_fails() -> None:
    original, twin, rewritten, claimed = parts(strided())

    def edit(proto: onnx.ModelProto) -> None:
        last = proto.graph.node[-1]
        last.op_type = "Log"
        negative = onnx.helper.make_node("Abs", ["d"], ["positive"])
        minus = onnx.helper.make_node("Neg", ["positive"], ["minus"])
        last.input[0] = "minus"
        position = len(proto.graph.node) - 1
        nodes = [*proto.graph.node[:position], negative, minus, last]
        copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
        del proto.graph.node[:]
        proto.graph.node.extend(copies)

    proof = prove(original, tampered(twin, edit), rewritten, claimed)
    assert not proof.passed
    assert proof.failure == "identity proof failed at tensor 'y': NaN or infinity in one of them"


def test_infinities_of_opposite_sign_fail() -> None:
    model = build(
        """(float[1, 2, 12, 12] x) => (float[] y) {
        [pool] a = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(x)
        b = Abs(a)
        y = Div(b, zero)
    }""",
        zero=np.float32(0),
    )
    original, twin, rewritten, claimed = parts(model)

    def negate(proto: onnx.ModelProto) -> None:
        next(t for t in proto.graph.initializer if t.name == "zero").float_data[:] = []
        next(t for t in proto.graph.initializer if t.name == "zero").raw_data = np.float32(-0.0).tobytes()

    assert prove(original, twin, rewritten, claimed).passed
    assert not prove(original, tampered(twin, negate), rewritten, claimed).passed


@pytest.mark.parametrize("kind", ["int64", "bool"])
def test_other_outputs_must_be_equal(kind: str) -> None:
    last = {"int64": "y = ArgMax<axis = 3>(a)", "bool": "y = Greater(a, zero)"}[kind]
    model = build(
        f"""(float[1, 2, 12, 12] x) => ({kind}[] y) {{
        [pool] a = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(x)
        {last}
    }}""",
        **({"zero": np.float32(1)} if kind == "bool" else {}),
    )
    original, twin, rewritten, claimed = parts(model)
    assert prove(original, twin, rewritten, claimed).passed

    def edit(proto: onnx.ModelProto) -> None:
        last = proto.graph.node[-1]
        if kind == "int64":
            last.op_type = "ArgMin"
        else:
            last.op_type = "Less"

    proof = prove(original, tampered(twin, edit), rewritten, claimed)
    assert not proof.passed
    assert "'y'" in proof.failure


def test_a_missing_output_fails() -> None:
    original, twin, rewritten, claimed = parts(strided())

    def edit(proto: onnx.ModelProto) -> None:
        proto.graph.node[-1].output[0] = "renamed"
        proto.graph.output[0].name = "renamed"

    proof = prove(original, tampered(twin, edit), rewritten, claimed)
    assert not proof.passed
    assert proof.failure == "identity proof failed at tensor 'y': missing from the twin"


def test_a_missing_inner_map_fails() -> None:
    original, twin, rewritten, claimed = parts(strided())
    proof = prove(original, twin, rewritten, claimed)
    assert "b" in {c.tensor for c in proof.comparisons}

    def edit(proto: onnx.ModelProto) -> None:
        for node in proto.graph.node:
            for names in (node.input, node.output):
                names[:] = ["renamed" if name == "b" else name for name in names]

    with pytest.raises(aarewrite.CheckFailed, match=r"the twin: .* Graph output \(b\) does not exist"):
        prove(original, tampered(twin, edit), rewritten, claimed)


def test_nothing_to_compare_is_no_proof() -> None:
    proof = Proof((), ())
    assert not proof.passed
    assert proof.failure == "identity proof: there was nothing to compare"


def test_a_rewritten_model_that_does_not_run_is_a_failed_check() -> None:
    original, twin, rewritten, claimed = parts(strided())
    broken = tampered(rewritten, lambda proto: proto.graph.node[0].attribute.add(name="group", type=2, i=7) and None)
    with pytest.raises(aarewrite.CheckFailed, match="the rewritten model"):
        prove(original, twin, broken, claimed)


def test_a_rewritten_model_of_another_shape_is_a_failed_check() -> None:
    model = build(
        "(float[N, 2, H, W] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    original, twin, rewritten, claimed = parts(model)
    broken = tampered(rewritten, set_ints("pool/blur/Conv", "strides", [1, 1]))
    with pytest.raises(aarewrite.CheckFailed, match="the rewritten model: output 'y' is"):
        prove(original, twin, broken, claimed)


def test_a_failed_proof_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: Any, twin: bool = False, **options: Any) -> Model:
        model = applied(*arguments, twin=twin, **options)
        return tampered(model, set_ints("pool", "pads", [2, 2, 0, 0])) if twin else model

    monkeypatch.setattr(pipeline, "applied", wrong)
    with pytest.raises(aarewrite.CheckFailed, match=r"identity proof failed at tensor '[cy]': differs by"):
        aarewrite.rewrite(strided())


def test_a_twin_that_does_not_run_is_reported_without_a_traceback() -> None:
    """A dilated window wider than its map: ONNX Runtime runs the strided pool on it, but not the dense one."""
    model = build(
        "(float[1, 1, 4] x) => (float[] y) "
        "{ [pool] y = MaxPool<kernel_shape = [3], strides = [2], dilations = [3]>(x) }"
    )
    with pytest.raises(aarewrite.CheckFailed, match=r"the twin does not run: .* dimension is negative"):
        aarewrite.rewrite(model)


def test_symbolic_sizes_are_tried_even_and_odd() -> None:
    model = build(
        "(float[N, 2, H, W] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    proof = aarewrite.rewrite(model).proof
    assert proof is not None
    assert [run["x"] for run in proof.inputs] == [(1, 2, 160, 160), (1, 2, 161, 161)]


@pytest.mark.parametrize(("begin", "passes"), [(1, True), (0, False), (2, False)])
def test_a_twin_with_a_larger_input_sees_the_originals_in_its_frame(begin: int, passes: bool) -> None:
    original = build("(float[1, 5] x) => (float[1, 5] y) { y = Relu(x) }")
    larger = build(
        "(float[1, 8] x) => (float[1, 5] y) { v = Slice(x, begin, end, axes)\n y = Relu(v) }",
        begin=np.array([begin]), end=np.array([begin + 5]), axes=np.array([1]),
    )  # fmt: skip
    proof = prove(load(original), load(larger), load(larger), Claim(frames={"x": [(0, 0), (1, 2)]}))
    assert proof.passed == passes
    assert proof.inputs == ({"x": (1, 5)},)


def test_given_shapes_are_used() -> None:
    model = build(
        "(float[N, 2, H, W] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    proof = aarewrite.rewrite(model, input_shapes={"x": (2, 2, 10, 12)}).proof
    assert proof is not None
    assert [run["x"] for run in proof.inputs] == [(2, 2, 10, 12)]


def test_symbolic_volumes_are_proven_at_a_bearable_size() -> None:
    model = build(
        "(float[N, 4, D, H, W] x) => (float[] y) "
        "{ [pool] y = MaxPool<kernel_shape = [2, 2, 2], strides = [2, 2, 2]>(x) }"
    )
    proof = aarewrite.rewrite(model).proof
    assert proof is not None
    assert max(np.prod(run["x"]) for run in proof.inputs) <= 4 * 64**3


def test_every_branch_that_a_scalar_switches_is_run() -> None:
    model = build(
        """(float[1, 2, 9, 9] x, int64 rate) => (float[1, 2, 4, 4] y) {
        c = Equal(rate, sixteen)
        [If] y = If (c) <
            then_branch = yes () => (float[1, 2, 4, 4] a) {
                [p] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) },
            else_branch = no () => (float[1, 2, 4, 4] b) {
                [q] b = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(x) }
        >
    }""",
        sixteen=np.array(16000),
    )
    proof = aarewrite.rewrite(model).proof
    assert proof is not None
    assert len(proof.inputs) == 2
    assert "sites in branches are covered where the random input takes the branch" in proof.notes


def test_float64_models_are_proven_in_float64_where_they_run() -> None:
    """A twin that is wrong by 1e-9 of the scale fails; in float32 rounding alone is a hundred times that."""
    model = build(
        "(double[1, 2, 9, 9] x) => (double[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    original, twin, rewritten, claimed = parts(model)

    def edit(proto: onnx.ModelProto) -> None:
        for tensor in proto.graph.initializer:
            value = onnx.numpy_helper.to_array(tensor)
            if value.dtype == np.float64 and value == 1:
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(1 + 1e-9), tensor.name))

    proof = prove(original, twin, rewritten, claimed)
    assert (proof.passed, proof.worst.difference, proof.notes) == (True, 0.0, ())
    proof = prove(original, tampered(twin, edit), rewritten, claimed)
    assert not proof.passed
    assert proof.worst.relative == pytest.approx(2e-9, rel=1e-3), "once for each axis"


def test_a_twin_that_does_not_load_is_a_failed_check() -> None:
    original, twin, rewritten, claimed = parts(strided())
    broken = tampered(twin, lambda proto: setattr(proto.graph.node[0], "op_type", "Unheard"))
    with pytest.raises(aarewrite.CheckFailed, match="identity proof: the twin: ONNX Runtime refuses the model"):
        prove(original, broken, rewritten, claimed)


def test_operators_that_change_are_named() -> None:
    model = build(
        "(float[1, 2, 12, 12] x) => (float[] y) "
        "{ [pool] y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x) }"
    )
    proof = aarewrite.rewrite(model, recipe="zhang2019-resnet").proof
    assert proof is not None
    assert proof.unproven == ("pool",)
    assert proof.to_dict()["unproven"] == ["pool"]


@pytest.mark.parametrize("placement", ["after", "before"])
@pytest.mark.parametrize("pads", [lambda f: (f // 2, (f - 1) // 2), lambda f: (f - 1, 0)], ids=["swapped", "shifted"])
def test_wrong_padding_of_a_blur_is_caught(
    monkeypatch: pytest.MonkeyPatch, placement: str, pads: Callable[[int], tuple[int, int]]
) -> None:
    """The twin carries the real padding: a filter that reads one sample further along does not pass."""

    def wrong(sizes: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return tuple(pads(f)[0] for f in sizes), tuple(pads(f)[1] for f in sizes)

    monkeypatch.setattr(filters, "centred_pads", wrong)
    with pytest.raises(aarewrite.CheckFailed, match="identity proof failed"):
        aarewrite.rewrite(strided(), filter=4, placement=placement, first_conv=True)


def test_unused_weights_do_no_harm() -> None:
    """ONNX Runtime drops an initializer that nothing reads before it could be given its data."""
    model = strided()
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight(300), "unused"))
    result = aarewrite.rewrite(model)
    assert result.changed
    assert "unused" in {tensor.name for tensor in result.model.graph.initializer}


def test_unread_initializers_that_are_inputs_are_not_asked_for() -> None:
    """Before IR version 4 every initializer is a graph input too; those that nothing reads stay as they are."""
    model = strided()
    for name, shape in (("counter", ()), ("unused", (300,))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name))
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    proof = aarewrite.rewrite(model).proof
    assert proof is not None
    assert [sorted(run) for run in proof.inputs] == [["x"]]
