"""Sizes that depend on values may be others behind a blur; all other sizes may not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from reference import build, function, functions

import aarewrite
from aarewrite.model.inference import infer
from aarewrite.model.model_file import load
from aarewrite.model.shapes import with_input_shapes
from aarewrite.model.value_sizes import free_axes

POOLED = "[pool] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)"
CONSTANTS = {
    "one": np.array([1]), "half": np.float32(0.5), "flat": np.array([-1]), "most": np.array([10]), "zero": np.array(0),
    "score": np.float32(0.6), "boxes": np.array([1, -1, 4]), "classes": np.array([1, 1, -1]), "step": np.array(1),
}  # fmt: skip
TAILS = {
    "NonZero": ("b = Greater(a, half) y = NonZero(b)", "int64[4, n]", {1}),
    "Compress": ("b = Reshape(a, flat) c = Greater(b, half) y = Compress<axis = 0>(b, c)", "float[n]", {0}),
    "Unique": ("b = Floor(a) y, i, j, k = Unique(b)", "float[n]", {0}),
    "NonMaxSuppression": (
        "p = Reshape(a, boxes) s = ReduceMax<axes = [2]>(p) q = Reshape(s, classes) "
        "y = NonMaxSuppression(p, q, most, score, score)", "int64[n, 3]", {0},
    ),
    "Slice": ("m = ReduceMax<keepdims = 0>(a) k = Cast<to = 7>(m) e = Reshape(k, one) b = Reshape(a, flat) "
              "s = Sub(one, one) y = Slice(b, s, e)", "float[n]", {0}),
    "If": ("m = ReduceMax<keepdims = 0>(a) c = Greater(m, half) y = If (c) <then_branch = yes () => (float[n] d) "
           "{ d = Reshape(a, flat) }, else_branch = no () => (float[n] e) { e = Identity(half1) }>", "float[n]", {0}),
    "Range": ("m = ReduceMax<keepdims = 0>(a) k = Cast<to = 7>(m) y = Range(zero, k, step)", "int64[n]", {0}),
}  # fmt: skip


def selecting(name: str) -> onnx.ModelProto:
    body, output, _ = TAILS[name]
    return build(f"(float[1, 2, 16, 16] x) => ({output} y) {{ {POOLED} {body} }}", half1=np.float32([0.5]), **CONSTANTS)


@pytest.mark.parametrize("name", TAILS)
def test_axes_that_depend_on_values_are_free(name: str) -> None:
    found = {"y": TAILS[name][2]}
    assert free_axes(infer(selecting(name))) == found
    assert free_axes(infer(selecting(name)), certain=True) == ({} if name == "If" else found)


@pytest.mark.parametrize("name", TAILS)
def test_such_models_are_rewritten_and_proven(name: str) -> None:
    result = aarewrite.rewrite(selecting(name))
    assert result.changed
    assert result.proof is not None
    assert result.proof.passed


@pytest.mark.parametrize("name", TAILS)
def test_so_are_those_that_state_the_size_of_one_run(name: str) -> None:
    """As exporters that trace do."""
    model = selecting(name)
    for axis in TAILS[name][2]:
        model.graph.output[0].type.tensor_type.shape.dim[axis].dim_value = 5
    model.graph.value_info.append(model.graph.output[0])
    assert aarewrite.rewrite(model).proof is not None


@pytest.mark.parametrize(
    "body", ["s = Shape(x) y = Reshape(a, s2)", "s = Shape(a) y = Expand(half, s)", "y = local.Unheard(a)"]
)
def test_sizes_that_follow_from_sizes_are_not_free(body: str) -> None:
    text = f"(float[1, 2, H, W] x) => (float[n, c, h, w] y) {{ {POOLED} {body} }}"
    model = build(text, imports=', "local" : 1', s2=np.array([0, 0, -1, 1]), half=np.float32(0.5))
    assert free_axes(infer(with_input_shapes(load(model), {"x": (1, 2, 16, 16)}))) == {}


def test_selection_in_a_function() -> None:
    model = functions("y = f.Pick(x)", function("Pick", "y = NonZero(x)"), outputs="int64[r, n] y")
    assert free_axes(infer(model)) == {"y": {1}}


def test_a_file_that_states_no_rank() -> None:
    model = selecting("NonZero")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert free_axes(infer(model))["y"] >= {1}
