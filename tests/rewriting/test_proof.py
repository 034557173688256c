"""The identity proof fails when it should: a wrong twin, NaN, integers, missing outputs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from reference import build, weight

import aarewrite
from aarewrite import filters
from aarewrite.model.model_file import Model, load
from aarewrite.model.runtime import Session
from aarewrite.rewriting import pipeline
from aarewrite.rewriting import proof as proof_module
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


def test_what_the_runtime_does_to_the_original_as_well_is_no_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = proof_module._session

    def refusing(model: Model, optimise: bool = False) -> Session:
        if optimise:
            raise aarewrite.CannotHandle("ONNX Runtime refuses the model: two nodes with same node name (conv)")
        return plain(model)

    monkeypatch.setattr(proof_module, "_session", refusing)
    with pytest.raises(aarewrite.CannotHandle, match=r"^the original, optimised: .* same node name"):
        prove(*parts(strided()))


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
    with pytest.raises(aarewrite.CheckFailed, match=r"the twin does not run: .* MaxPool node"):
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


# ---- what a proof must not be of -----------------------------------------------------------------------------


def with_weights(first: float, second: float = 1.0) -> onnx.ModelProto:
    """Two strided convs, each with weights times a factor."""
    return build(
        """(float[1, 2, 16, 16] x) => (float[1, 3, 4, 4] y) {
        [one] a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, v)
        b = Relu(a)
        [two] y = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(b, w)
    }""",
        v=weight(4, 2, 3, 3) * np.float32(first), w=weight(3, 4, 3, 3) * np.float32(second),
    )  # fmt: skip


@pytest.mark.parametrize("factor", [0.0, np.nan, np.inf])
def test_maps_without_values_are_no_proof(factor: float) -> None:
    said = r"identity proof: nothing was compared; b, y: NaN, or one value everywhere, on every input tried; check"
    with pytest.raises(aarewrite.CheckFailed, match=said):
        aarewrite.rewrite(with_weights(factor, factor), first_conv=True)


def test_a_map_behind_one_without_values_is_compared_on_random_maps() -> None:
    original, twin, rewritten, claimed = parts(with_weights(0.0))
    proof = prove(original, twin, rewritten, claimed)
    assert proof.passed
    assert proof.notes == ("nothing was compared at b: NaN, or one value everywhere, on every input tried",)
    wrong = tampered(twin, set_ints("two", "pads", [0, 0, 2, 2]))
    assert prove(original, wrong, rewritten, claimed).failure.startswith("identity proof failed at tensor 'y': differs")


def test_another_input_is_taken_where_the_first_gives_no_values() -> None:
    """Of what is none below zero, the logarithm of normal input is NaN in half the places, that of its mean often."""
    model = build(
        """(float[1, 1, 16, 16] x) => (float[1, 1, 8, 8] y) {
        m = ReduceMin(x)
        l = Sqrt(m)
        a = Add(x, l)
        [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)
    }"""
    )
    proof = aarewrite.rewrite(model).proof
    assert proof is not None
    assert proof.passed
    assert proof.worst.scale > 0
    assert (len(proof.inputs), proof.notes) == (3, ())


def test_a_model_whose_types_contradict_is_not_excused_by_a_float32_copy() -> None:
    model = strided()
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight(4, 2, 3, 3, dtype=np.float64), "w"))
    with pytest.raises(aarewrite.CannotHandle, match="ONNX Runtime refuses the model: Type Error"):
        aarewrite.rewrite(model, first_conv=True)


def test_ties_that_rounding_decides_are_judged_on_the_originals_own_maps() -> None:
    """Every row is there twice, and the twin's rounding is another: which of the two TopK takes is no difference."""
    original, twin, rewritten, claimed = parts(
        build(
            """(float[1, 2, 12, 12] x) => (int64[1, 30] y) {
            [conv] a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)
            b = Relu(a)
            c = Concat<axis = 1>(b, b)
            d = Reshape(c, flat)
            v, y = TopK(d, thirty)
        }""",
            w=weight(4, 2, 3, 3), flat=np.array([1, -1]), thirty=np.array([30]),
        )
    )  # fmt: skip

    def nudge(proto: onnx.ModelProto) -> None:
        for tensor in proto.graph.initializer:
            if tensor.name.endswith("/taps"):
                taps = onnx.numpy_helper.to_array(tensor)
                moved = taps * (1 + np.float32(1e-6) * np.arange(len(taps), dtype=np.float32).reshape(-1, 1, 1, 1))
                tensor.CopyFrom(onnx.numpy_helper.from_array(moved, tensor.name))

    moved = tampered(twin, nudge)
    proof = prove(original, moved, rewritten, claimed)
    assert proof.passed
    assert {c.tensor: c.difference for c in proof.comparisons}["y"] == 0


def test_sequences_and_maps_are_compared() -> None:
    model = build(
        """(float[1, 2, 12, 12] x) => (seq(float[1, c, h, w]) y, seq(map(int64, float)) z) {
        [pool] a = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(x)
        y = SplitToSequence<axis = 1>(a)
        m = ReduceMean<axes = [2, 3], keepdims = 0>(a)
        z = ai.onnx.ml.ZipMap<classlabels_int64s = [3, 5]>(m)
    }""",
        imports=', "ai.onnx.ml" : 2',
    )
    original, twin, rewritten, claimed = parts(model)
    proof = prove(original, twin, rewritten, claimed)
    assert proof.passed
    assert {c.tensor for c in proof.comparisons} == {"a", "y[0]", "y[1]", "z[0]"}
    for name, op in (("y[0]", "SequenceEmpty"), ("z[0]", "ZipMap")):

        def edit(proto: onnx.ModelProto, op: str = op) -> None:
            if op == "ZipMap":
                next(n for n in proto.graph.node if n.op_type == op).attribute[0].ints[:] = [3, 6]
            else:
                proto.graph.node.append(onnx.helper.make_node("Neg", ["a"], ["minus"]))
                split = next(n for n in proto.graph.node if n.op_type == "SplitToSequence")
                proto.graph.node.append(onnx.NodeProto.FromString(split.SerializeToString()))
                proto.graph.node[-1].input[0] = "minus"
                proto.graph.node.remove(split)

        failed = prove(original, tampered(twin, edit), rewritten, claimed)
        assert not failed.passed
        assert name.partition("[")[0] in failed.failure


def test_sessions_keep_no_memory_of_their_runs_and_arrays_no_copies(tmp_path: Path) -> None:
    """A batch of 20 MB, with maps of up to 29 MB; one session alone takes 60 MB to run it."""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    net = build(
        """(float[400, 3, 64, 64] x) => (float[] y) {
        a = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w)
        b = Relu(a)
        [pool] c = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(b)
        [conv] d = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(c, v)
        e = Relu(d)
        y = GlobalAveragePool(e)
    }""",
        w=weight(18, 3, 3, 3),
        v=weight(32, 18, 3, 3),
    )
    onnx.save(net, tmp_path / "m.onnx")
    peak = "int(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])"
    code = (
        "import re, sys; from pathlib import Path; from aarewrite.rewriting.pipeline import rewrite;"
        f"before = {peak}; found = rewrite(sys.argv[1]); assert found.proof.passed; print({peak} - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.onnx")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 230_000  # kB: with arenas and copies it was 300 MB
