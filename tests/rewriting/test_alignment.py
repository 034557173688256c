"""Branches that meet again are blurred with filters of one parity, or the plan says so."""

from __future__ import annotations

import onnx
import pytest
from reference import build, weight

import aarewrite
from aarewrite.recipe import Recipe, SiteOverride


def branches(meeting: str = "Add(a, b)") -> onnx.ModelProto:
    return build(
        f"""(float[1, 2, 16, 16] x) => (float[] y) {{
        [left] a = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)
        [right] b = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        [meet] y = {meeting}
    }}"""
    )


def warnings(model: onnx.ModelProto, left: int, right: int) -> tuple[str, ...]:
    filters = (SiteOverride(match="left", filter=left), SiteOverride(match="right", filter=right))
    return aarewrite.plan(model, Recipe(sites=filters)).warnings


@pytest.mark.parametrize("meeting", ["Add(a, b)", "Concat<axis = 1>(a, b)", "Max(a, b)"])
@pytest.mark.parametrize(("left", "right"), [(3, 4), (2, 5)])
def test_branches_half_a_pixel_apart_are_named(meeting: str, left: int, right: int) -> None:
    assert warnings(branches(meeting), left, right) == (
        "meet: the branches that meet here are blurred with filters of different parity and lie part of a pixel apart; "
        "use odd filters, or even ones in all branches",
    )


@pytest.mark.parametrize(("left", "right"), [(3, 5), (2, 4)])
def test_branches_of_one_parity_are_fine(left: int, right: int) -> None:
    assert warnings(branches(), left, right) == ()


def test_two_shifts_at_different_strides_do_not_cancel() -> None:
    """Half a pixel at stride 1 and half of one at stride 2 are a pixel and a half of the input; the other branch has
    moved by half of one."""
    model = build(
        """(float[1, 2, 32, 32] x) => (float[] y) {
        [first] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        [second] b = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)
        [other] c = MaxPool<kernel_shape = [4, 4], strides = [4, 4]>(x)
        [meet] y = Add(b, c)
    }"""
    )
    (warning,) = aarewrite.plan(model, filter=4).warnings
    assert warning.startswith("meet: the branches that meet here")
    assert aarewrite.plan(model, filter=3).warnings == ()


def test_even_filters_beside_unblurred_branches_are_warned_about() -> None:
    model = build(
        """(float[1, 2, 16, 16] x) => (float[] y) {
        [first] a = Conv(x, w0)
        [main] b = Conv<strides = [2, 2]>(a, w)
        [shortcut] c = Conv<strides = [2, 2]>(a, w)
        y = Add(b, c)
    }""",
        w0=weight(2, 2, 1, 1),
        w=weight(2, 2, 1, 1),
    )
    assert aarewrite.plan(model, filter=4).warnings == ()
    (warning,) = aarewrite.plan(model, filter=4, skip=["shortcut"]).warnings
    assert warning.startswith("y: the branches that meet here are blurred with filters of different parity")
    assert aarewrite.plan(model, filter=3, skip=["shortcut"]).warnings == ()


def test_branches_are_followed_through_the_layers_behind_the_blur() -> None:
    """conv s2, Relu, conv against a strided shortcut: the half pixel is still there at the Add."""
    model = build(
        """(float[1, 2, 16, 16] x) => (float[] y) {
        [first] a = Conv(x, w)
        [main] b = Conv<strides = [2, 2]>(a, w)
        r = Relu(b)
        [next] n = Conv(r, w)
        [shortcut] c = Conv<strides = [2, 2]>(a, w)
        [sum] y = Add(n, c)
    }""",
        w=weight(2, 2, 1, 1),
    )
    assert aarewrite.plan(model, filter=4).warnings == ()
    (warning,) = aarewrite.plan(model, filter=4, skip=["shortcut"]).warnings
    assert warning.startswith("sum: ")
