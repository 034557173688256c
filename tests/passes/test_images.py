"""Which inputs are images or signals."""

from __future__ import annotations

from reference import build, weight

from aarewrite.model.model_file import load
from aarewrite.passes.images import images
from aarewrite.rewriting.apply import open_reading


def found(inputs: str, **sizes: tuple[int, ...]) -> list[tuple[str, str, list[int]]]:
    model = build(f"({inputs}, float[1, 60] other) => (float[1, 60] y) {{ y = Relu(other) }}")
    return [(i.tensor.name, i.layout, i.axes) for i in images(open_reading(load(model), sizes))]


def test_the_layout_follows_from_the_sizes() -> None:
    assert found("float[1, 3, 20, 24] x") == [("x", "nchw", [2, 3])]
    assert found("uint8[N, 20, 24, 3] x") == [("x", "nhwc", [1, 2])]
    assert found("float16[1, 2, 60] x") == [("x", "ncl", [2])]
    assert found("float[1, 1, 9, 9, 9] x") == [("x", "ncdhw", [2, 3, 4])]


def test_all_inputs_of_the_highest_rank_are_found_and_no_others() -> None:
    assert [name for name, _, _ in found("float[1, 3, 9, 9] a, float[1, 1, 9, 9] b, int64[3] c")] == ["a", "b"]
    assert [name for name, _, _ in found("bool[1, 3, 9, 9] a")] == ["other"]


def test_sizes_that_were_given_are_known() -> None:
    model = build("(float[1, 3, H, W] x) => (float[1, 3, H, W] y) { y = Relu(x) }")
    (image,) = images(open_reading(load(model), {"x": (1, 3, 20, 24)}))
    assert image.type.dims == (1, 3, 20, 24)


def test_weights_that_are_inputs_too_are_no_images() -> None:
    model = build("(float[1, 2, 9, 9] x, float[3, 2, 3, 3] w) => (float[] y) { y = Conv(x, w) }", w=weight(3, 2, 3, 3))
    assert [image.tensor.name for image in images(open_reading(load(model)))] == ["x"]
