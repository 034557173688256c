"""What is said of a blur that is in a model already."""

from __future__ import annotations

import numpy as np
import pytest
from stages import blurs, filtered


def test_a_blur_says_what_it_is() -> None:
    model = filtered("""[pool] m = MaxPool<kernel_shape = [2, 2]>(x) p = Pad<mode = "reflect">(m, pads)
        [blur] y = Conv<group = 2, strides = [2, 2]>(p, taps)""")
    found = blurs(model)["blur"]
    assert (found.kernel, found.strides, found.begin, found.end) == ((3, 3), (2, 2), (1, 2), (1, 2))
    assert (found.pad, found.placement, found.of) == ("reflect", "after", "pool")
    assert found.taps == ((0.25, 0.5, 0.25), (0.25, 0.5, 0.25))
    assert found.says == "a blur already: left as it is (taps 1 2 1, reflect pads 1x2, after pool)"
    assert found.input_size == (17, 19)


@pytest.mark.parametrize(
    ("text", "pad", "begin", "end"),
    [
        ("[blur] y = Conv<group = 2, pads = [1, 1, 2, 2]>(x, taps)", "zero", (1, 1), (2, 2)),
        ("p = Pad(x, pads) [blur] y = Conv<group = 2>(p, taps)", "zero", (1, 2), (1, 2)),
        ('p = Pad<mode = "edge">(x, two_pads, , axes) [blur] y = Conv<group = 2>(p, taps)', "edge", (1, 2), (1, 2)),
        (
            'p = Pad<mode = "edge">(x, pads) [blur] y = Conv<group = 2, pads = [1, 0, 0, 0]>(p, taps)',
            "edge and zero", (2, 2), (1, 2),
        ),
        (
            "f = Reshape(x, singles) p = Pad(f, pads) [blur] y = Conv(p, single)",
            "zero", (1, 2), (1, 2),
        ),
        ("[blur] y = Conv<group = 2>(x, taps)", "", (0, 0), (0, 0)),
        (
            """s = ReduceSum<keepdims = 0>(x) n = Cast<to = 7>(s) p8 = Mul(n, pads) p = Pad(x, p8)
            [blur] y = Conv<group = 2>(p, taps)""",
            "computed", (), (),
        ),
    ],
)  # fmt: skip
def test_pads_of_a_blur(text: str, pad: str, begin: tuple[int, ...], end: tuple[int, ...]) -> None:
    found = blurs(filtered(text, opset=18))["blur"]
    assert (found.pad, found.begin, found.end) == (pad, begin, end)


@pytest.mark.parametrize(
    ("text", "placed"),
    [
        ("[conv] c = Conv(x, w) r = Relu(c) [blur] y = Conv<group = 2, strides = [2, 2]>(r, taps)", ("after", "conv")),
        ("[blur] b = Conv<group = 2>(x, taps) [conv] y = Conv<strides = [2, 2]>(b, w)", ("before", "conv")),
        ("[conv] c = Conv(x, w) [blur] b = Conv<group = 2>(c, taps) y = Neg(b)", ("after", "conv")),
        ("[blur] b = Conv<group = 2>(x, taps) y = Neg(b)", ("alone", "")),
        (
            """[blur] b = Conv<group = 2>(x, across) a = Conv<group = 2>(b, down)
            [conv] y = Conv<strides = [2, 2]>(a, w)""",
            ("before", "conv"),
        ),
        ("[blur] b = Conv<group = 2>(x, taps) [cut] y = Slice(b, start, end, rows, by)", ("before", "cut")),
    ],
)
def test_where_a_blur_is(text: str, placed: tuple[str, str]) -> None:
    found = blurs(filtered(text))["blur"]
    assert (found.placement, found.of) == placed


def test_a_kernel_that_is_no_product_says_so() -> None:
    cross = np.broadcast_to(np.float32([[0, 1, 0], [1, 2, 1], [0, 1, 0]]) / 6, (2, 1, 3, 3))
    found = blurs(filtered("[blur] y = Conv<group = 2>(x, cross)", cross=cross))["blur"]
    assert found.taps is None
    assert "taps that are no product of two filters" in found.says


def test_single_taps_at_stride_1_are_no_blurs() -> None:
    assert blurs(filtered("y = Conv<group = 2>(x, ones)", ones=np.ones((2, 1, 1, 1), np.float32))) == {}
