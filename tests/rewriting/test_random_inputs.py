"""Sizes for open axes: one for each axis, alike where a shared name says so and the model agrees."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from reference import build, weight

import aarewrite
from aarewrite.errors import CannotHandle
from aarewrite.model.model_file import load
from aarewrite.model.runtime import open_session
from aarewrite.rewriting.random_inputs import accepted

Shapes = list[dict[str, tuple[int, ...]]]


def sizes(model: onnx.ModelProto, odd_too: bool = False) -> Shapes:
    """The shapes of the random inputs that a model is run on."""
    loaded = load(model)
    runs = accepted(open_session(loaded), loaded, {}, odd_too, seed=0)
    return [{name: value.shape for name, value in feeds.items()} for feeds, _ in runs]


def pooled(*dims: str | int) -> onnx.ModelProto:
    """A strided pool whose input axes have names, sizes or nothing ("") as an exporter writes them."""
    model = build(
        "(float[N, 2, H, W] x) => (float[A, 2, B, C] y) "
        "{ [pool] y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x) }"
    )
    for written, dim in zip(model.graph.input[0].type.tensor_type.shape.dim, dims, strict=True):
        written.Clear()
        if isinstance(dim, int):
            written.dim_value = dim
        elif dim:
            written.dim_param = dim
    return model


@pytest.mark.parametrize("name", ["?", "None", "unk", ""])
def test_batch_height_and_width_of_one_name_have_sizes_of_their_own(name: str) -> None:
    proof = aarewrite.rewrite(pooled(name, 2, name, name)).proof
    assert proof is not None
    assert proof.passed
    assert proof.inputs == ({"x": (1, 2, 160, 160)}, {"x": (1, 2, 161, 161)})


def test_sizes_written_as_minus_one_are_open() -> None:
    assert sizes(pooled(-1, 2, -1, -1)) == [{"x": (1, 2, 160, 160)}]


def test_a_name_that_joins_height_and_width_is_a_tie() -> None:
    """The map is multiplied with its own transpose, so that nothing but a square runs."""
    model = build(
        "(float[N, 2, S, S] x) => (float[N, 2, S, S] y) { t = Transpose<perm = [0, 1, 3, 2]>(x)\n y = Add(x, t) }"
    )
    assert sizes(model, odd_too=True) == [{"x": (1, 2, 160, 160)}, {"x": (1, 2, 161, 161)}]


def test_a_batch_name_on_several_inputs_is_a_tie() -> None:
    """As in a recurrent state, whose second axis is the batch."""
    model = build(
        "(float[batch, time] x, float[2, batch, 8] state) => (float[2, batch, 8] y, float[batch, time] z) "
        "{ y = Relu(state)\n z = Relu(x) }"
    )
    assert sizes(model) == [{"x": (1, 1024), "state": (2, 1, 8)}]


def test_one_name_on_the_batch_of_one_input_and_the_height_of_another_is_no_tie() -> None:
    model = build(
        "(float[unk, 3] x, float[1, 2, unk, unk] image) => (float[unk, 3] y, float[1, 2, unk, unk] z) "
        "{ y = Relu(x)\n z = Relu(image) }"
    )
    assert sizes(model) == [{"x": (1, 3), "image": (1, 2, 160, 160)}]


def test_a_tie_that_the_model_does_not_run_with_is_given_up() -> None:
    """One name for the length of a signal and for the single step of another input."""
    model = build(
        "(float[1, unk] x, float[1, unk, 4] step) => (float[] y, float[] z) "
        "{ y = Relu(x)\n s = Reshape(step, four)\n z = Relu(s) }",
        four=np.array([1, 4]),
    )
    assert sizes(model) == [{"x": (1, 1024), "step": (1, 1, 4)}]


def test_a_batch_that_is_tied_to_an_image_axis_is_found_last() -> None:
    """One value for every row: the batch of the one is the height of the other after all."""
    model = build(
        """(float[rows] gate, float[1, 2, rows, 1] x) => (float[] y) {
        g = Unsqueeze(gate, axes)
        y = Concat<axis = 1>(x, g)
    }""",
        axes=np.array([0, 1, 3]),
    )
    assert sizes(model) == [{"gate": (1,), "x": (1, 2, 1, 1)}]


def test_open_channels_are_no_reason_for_a_gigabyte() -> None:
    model = build("(float[1, C, H, W] x) => (float[1, 16, Q, R] y) { y = Conv(x, w) }", w=weight(16, 16, 3, 3))
    with pytest.raises(CannotHandle, match="C: 32 kernel channels: 16"):
        sizes(model)


def test_inputs_that_no_memory_holds_are_not_made_up() -> None:
    model = build("""(float[1, 2, 1099511627776, 8] x) => (float[] y) {
        y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
    }""")
    with pytest.raises(CannotHandle, match="'x' of 1x2x1099511627776x8 is too large to make up"):
        aarewrite.rewrite(model)
    assert aarewrite.rewrite(model, verify=False).changed
