"""Networks that amplify rounding are judged site by site, without a tolerance that would let a wrong blur pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from reference import build, weight

import aarewrite
from aarewrite.model.model_file import Model, load
from aarewrite.model.runtime import open_session
from aarewrite.rewriting.apply import applied
from aarewrite.rewriting.pipeline import claim
from aarewrite.rewriting.proof import LARGEST_NOISE, NOISE_FACTOR, Proof, prove
from aarewrite.rewriting.random_inputs import run
from aarewrite.rewriting.stretches import cut, given, nudged

CURVES = 20  # each doubles a difference on average: one unit in the last place becomes a tenth of the scale


def curves() -> onnx.ModelProto:
    """Steep curves x <- x + 3x(1 - x), as a low-light enhancement net iterates them, in front of a site and behind."""
    steps = "\n".join(
        f"m{i} = Mul(x{i}, rate)\n n{i} = Sub(one, x{i})\n p{i} = Mul(m{i}, n{i})\n x{i + 1} = Add(x{i}, p{i})"
        for i in range(CURVES)
    )
    return build(
        f"""(float[1, 2, 24, 24] x) => (float[] y) {{
        [first] a = AveragePool<kernel_shape = [3, 3], strides = [2, 2]>(x)
        b = Sigmoid(a)
        x0 = Identity(b)
        {steps}
        [second] c = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(x{CURVES})
        y = Mul(c, rate)
    }}""",
        rate=np.float32(3),
        one=np.float32(1),
    )


def steep(gain: float) -> onnx.ModelProto:
    """A steep affine and a sigmoid in the pointwise region of the site itself: no map in between to cut at."""
    return build(
        """(float[1, 1, 96, 96] x) => (float[] y) {
        [conv] a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)
        b = Sub(a, one)
        c = Mul(b, gain)
        d = Sigmoid(c)
        y = Identity(d)
    }""",
        w=weight(8, 1, 3, 3),
        one=np.float32(1),
        gain=np.float32(gain),
    )


def chaotic() -> onnx.ModelProto:
    """x times 1 / x is 1 give or take a unit in the last place, and nothing else is left of the input."""
    return build(
        """(float[1, 1, 24, 24] x) => (float[] y) {
        r = Reciprocal(x)
        i = Mul(x, r)
        [conv] a = Conv<strides = [2, 2]>(i, w)
        b = Sub(a, one)
        c = Mul(b, gain)
        y = Sigmoid(c)
    }""",
        w=np.ones((2, 1, 1, 1), np.float32),
        one=np.float32(1),
        gain=np.float32(1e6),
    )


def proven(model: onnx.ModelProto, edit: Callable[[onnx.ModelProto], None] | None = None) -> Proof:
    """The proof of a rewrite whose twin is tampered with."""
    planned = aarewrite.plan(model, first_conv=True)
    twin: Model = applied(planned, model, twin=True)
    if edit is not None:
        proto = onnx.ModelProto()
        proto.CopyFrom(twin.proto)
        del proto.graph.value_info[:]
        edit(proto)
        twin = twin.with_proto(proto)
    return prove(load(model), twin, applied(planned, model), claim(planned))


def times(name: str, factor: float) -> Callable[[onnx.ModelProto], None]:
    """Scale a constant of the twin; by one unit in the last place it is what another kernel's rounding is."""

    def edit(proto: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == name)
        value = onnx.numpy_helper.to_array(tensor) * np.float32(factor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(value, name))

    return edit


def moved(blur: str, axis: int) -> Callable[[onnx.ModelProto], None]:
    """A blur of the twin reads one sample further along a spatial axis (2 or 3)."""

    def edit(proto: onnx.ModelProto) -> None:
        node = next(node for node in proto.graph.node if node.name == blur)
        taps = next(tensor for tensor in proto.graph.initializer if tensor.name == node.input[1])
        rolled = np.roll(onnx.numpy_helper.to_array(taps), 1, axis)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(rolled, "rolled"))
        node.input[1] = "rolled"

    return edit


def padded(node: str, pads: list[int]) -> Callable[[onnx.ModelProto], None]:
    """An operator of the twin pads its map elsewhere."""

    def edit(proto: onnx.ModelProto) -> None:
        found = next(n for n in proto.graph.node if n.name == node)
        next(a for a in found.attribute if a.name == "pads").ints[:] = pads

    return edit


ONE_ULP = float(np.nextafter(np.float32(1), np.float32(2)))


def test_rounding_that_is_amplified_behind_a_site_is_no_fault() -> None:
    proof = proven(curves(), times("first/blur/taps", ONE_ULP))
    assert proof.passed
    assert proof.judged == proof.to_dict()["judged"] == "site by site"
    assert proof.worst.relative <= 1e-6
    assert {c.tolerance for c in proof.comparisons} == {1e-5}, "each site is held to the ordinary tolerance"
    (note,) = proof.notes
    assert note.startswith("the network amplifies rounding: as a whole, c differs by 0.0")
    assert note.endswith("so each site was compared on the original's own maps")


def test_a_twin_that_is_equal_as_a_whole_is_judged_as_a_whole() -> None:
    proof = proven(curves())
    assert (proof.passed, proof.judged, proof.notes) == (True, "whole", ())


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (moved("first/blur/Conv", 2), "a"),
        (moved("first/blur/Conv", 3), "a"),
        (moved("second/blur/Conv", 2), "c"),
        (moved("second/blur/Conv", 3), "c"),
        (times("first/blur/taps", 1 + 1e-4), "a"),
    ],
    ids=["first, a row", "first, a column", "second, a row", "second, a column", "taps that sum to 1.0001"],
)
def test_a_wrong_blur_in_an_amplifying_network_fails_where_it_is(
    edit: Callable[[onnx.ModelProto], None], where: str
) -> None:
    proof = proven(curves(), edit)
    assert not proof.passed
    assert proof.failure.startswith(f"identity proof failed at tensor '{where}': differs by")
    assert next(c.tensor for c in proof.comparisons if c.problem) == where


def test_rounding_that_is_amplified_within_a_site_is_held_against_the_originals_own_noise() -> None:
    proof = proven(steep(1e3), times("w", ONE_ULP))
    assert proof.passed
    worst = proof.worst
    assert worst.noise is not None
    assert 1e-5 < worst.relative <= worst.tolerance == NOISE_FACTOR * worst.noise < LARGEST_NOISE
    assert proof.notes[1].startswith("y differs by ")
    assert f"of its scale, within {NOISE_FACTOR} times the {worst.noise:.2g} that it differs by in" in proof.notes[1]


@pytest.mark.parametrize(
    "edit",
    [
        padded("conv", [0, 1, 2, 1]),
        padded("conv", [1, 2, 1, 0]),
        moved("conv/blur/Conv", 2),
        times("conv/blur/taps", 1.01),
    ],
    ids=["conv row", "conv column", "blur row", "taps that sum to 1.01"],
)
def test_a_wrong_blur_behind_a_steep_site_is_more_than_its_noise(edit: Callable[[onnx.ModelProto], None]) -> None:
    proof = proven(steep(1e3), edit)
    assert not proof.passed
    assert proof.worst.relative > LARGEST_NOISE / 2


def test_a_site_that_is_all_noise_is_said_not_to_be_provable() -> None:
    proof = proven(chaotic(), times("w", ONE_ULP))
    assert not proof.passed
    assert "it cannot be proven, for the original differs from itself by 0.03 of that" in proof.failure


def test_a_well_conditioned_model_gets_no_more_than_the_ordinary_tolerance() -> None:
    model = build(
        "(float[1, 2, 24, 24] x) => (float[] y) "
        "{ [pool] a = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(x)\n y = Tanh(a) }"
    )
    assert proven(model, times("pool/blur/taps", 1 + 5e-6)).passed
    proof = proven(model, times("pool/blur/taps", 1 + 2e-5))
    assert not proof.passed
    assert max(c.tolerance for c in proof.comparisons) <= 1e-5


def test_a_model_cut_at_a_map_reads_the_given_one_in_its_branches_too() -> None:
    model = build(
        """(float[2] x, bool take) => (float[2] y) {
        a = Neg(x)
        y = If (take) <
            then_branch = yes () => (float[2] b) { b = Add(a, x) },
            else_branch = no () => (float[2] c) { c = Identity(a) }
        >
    }"""
    )
    x, other = np.array([1, 2], np.float32), np.array([10, 20], np.float32)
    session = open_session(cut(load(model), {"a": x}))
    for take, expected in ((True, [11, 22]), (False, [10, 20])):
        found = run(session, {"x": x, "take": np.array(take)} | given({"a": other}))
        np.testing.assert_array_equal(found["y"], np.array(expected, np.float32))
        np.testing.assert_array_equal(found["a"], -x)


def test_nudged_inputs_are_the_next_numbers_and_whole_ones_stay() -> None:
    feeds = {"half": np.array([1, -1], np.float16), "single": np.float32([0, 1]), "whole": np.array([3])}
    up = nudged(feeds)
    np.testing.assert_array_equal(up["half"], np.array([1 + 2**-10, -1 + 2**-11], np.float16))
    np.testing.assert_array_equal(up["single"], np.array([2**-149, 1 + 2**-23], np.float32))
    np.testing.assert_array_equal(up["whole"], [3])
