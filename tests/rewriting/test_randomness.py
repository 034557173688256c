"""Random operators are found wherever they are, and draw the same in two models."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import pytest
from reference import build, function, functions, overloads

import aarewrite
from aarewrite.model.model_file import load
from aarewrite.model.runtime import open_session
from aarewrite.rewriting.randomness import Anew, random_outputs, seeded

NOISE = """(float[1, 2, 9, 9] x) => (float[1, 2, 5, 5] y, float[1, 2, 5, 5] z) {{
    [pool] y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)
    noise = {}
    z = Add(y, noise)
}}"""
DRAWN = {
    "RandomNormalLike": "RandomNormalLike{}(y)",
    "RandomUniformLike": "RandomUniformLike{}(y)",
    "RandomNormal": "RandomNormal<shape = [1, 2, 5, 5]{}>()",
    "RandomUniform": "RandomUniform<shape = [1, 2, 5, 5]{}>()",
    "Bernoulli": "Bernoulli{}(half)",
    "Dropout": "Dropout{}(y, ratio, training)",
}
CONSTANTS = {"half": np.full((1, 2, 5, 5), 0.5, np.float32), "ratio": np.float32(0.5), "training": np.array(True)}


def noisy(op: str, seed: bool = False, **constants: np.ndarray) -> onnx.ModelProto:
    value = f"seed = {5 if op == 'Dropout' else 5.0}"
    text = DRAWN[op].format((f", {value}" if op in ("RandomNormal", "RandomUniform") else f"<{value}>") if seed else "")
    return build(NOISE.format(text), opset=15, **CONSTANTS | constants)


@pytest.mark.parametrize("op", DRAWN)
def test_a_random_output_is_named_and_proven_with_a_seed(op: str) -> None:
    proof = aarewrite.rewrite(noisy(op)).proof
    assert proof is not None
    assert proof.passed
    assert {c.tensor for c in proof.comparisons} == {"y", "z"}
    assert proof.notes == ("random, and compared as drawn from one seed: z",)
    proof = aarewrite.rewrite(noisy(op, seed=True)).proof
    assert proof is not None
    assert (proof.passed, proof.notes) == (True, ())


def test_what_is_written_has_no_seed_that_was_not_there() -> None:
    result = aarewrite.rewrite(noisy("RandomNormalLike"))
    (node,) = (node for node in result.model.graph.node if node.op_type == "RandomNormalLike")
    assert list(node.attribute) == []


def test_a_dropout_draws_in_training_alone() -> None:
    assert random_outputs(load(noisy("Dropout"))) == ["z"]
    assert random_outputs(load(noisy("Dropout", training=np.array(False)))) == []
    model = noisy("Dropout")
    model.graph.node[1].input.pop()
    assert random_outputs(load(model)) == []
    assert seeded(load(model)).proto is not model
    assert [a.name for node in seeded(load(model)).proto.graph.node for a in node.attribute if a.name == "seed"] == []


def test_in_bodies_and_functions() -> None:
    drawn = "n = RandomNormalLike(x) y = Add(x, n)"
    model = functions("a = f.Noise(x) y = Relu(a) z = Neg(x)", function("Noise", drawn), outputs="float[] y, float[] z")
    assert random_outputs(load(model)) == ["y"]
    assert [a.f for a in seeded(load(model)).proto.functions[0].node[0].attribute] == [1.0]
    model = build(
        """(float[1, 2] x, bool c) => (float[1, 2] y, float[1, 2] z) {
        y = If (c) <then_branch = yes () => (float[1, 2] d) { n = RandomNormalLike(x) d = Add(x, n) },
                    else_branch = no () => (float[1, 2] e) { e = Neg(x) }>
        z = Neg(x)
    }"""
    )
    assert random_outputs(load(model)) == ["y"]


def test_a_session_that_begins_anew_draws_the_same_at_each_run() -> None:
    model = load(noisy("RandomNormalLike", seed=True))
    feeds = {"x": np.zeros((1, 2, 9, 9), np.float32)}
    going_on = open_session(model)
    assert not np.array_equal(*(going_on.run(["z"], feeds)[0] for _ in range(2)))
    anew = Anew(functools.partial(open_session, model))
    assert np.array_equal(*(anew.run(["z"], feeds)[0] for _ in range(2)))
    assert [port.name for port in anew.get_inputs()] == ["x"]
    assert [port.name for port in anew.get_outputs()] == ["y", "z"]
    assert anew.get_providers() == ["CPUExecutionProvider"]


def test_open_sizes_take_two_runs_that_draw_alike() -> None:
    model = build(
        """(float[N, 2, H, W] x) => (float[] y) {
        [pool] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        n = RandomNormalLike<seed = 2.0>(a)
        y = Add(a, n)
    }"""
    )
    proof = aarewrite.rewrite(model).proof
    assert proof is not None
    assert proof.passed
    assert len(proof.inputs) == 2


def test_of_overloads_only_one_may_be_random() -> None:
    model = overloads(
        "y = f.First(x) z = f.Second(x)", "r = RandomUniformLike(x) y = Add(r, x)", "y = Relu(x)",
        outputs="float[1, 2, 9, 9] y, float[1, 2, 9, 9] z",
    )  # fmt: skip
    assert random_outputs(load(model)) == ["y"]
