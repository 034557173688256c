"""Windows along the stream: which indices a border reaches, what a range reads, and the reasons against."""

from fractions import Fraction

import numpy as np
import pytest
from nets import flow_of, largest_difference, written
from reference import build, weight

from aarewrite.streaming.sliding import Padded, Sliding, Spread, slid
from aarewrite.streaming.tracks import Track


def rule(body: str, opset: int = 13, size: int = 32, **constants):
    model = build(f"(float[1, 2, {size}] x) => (float[] y) {{ {body} }}", opset=opset, **constants)
    found = flow_of(model, 2).parts[-1].fit
    assert not isinstance(found, str), found
    return found


def test_borders_of_a_convolution() -> None:
    """k 3, d 2, s 2, pads 2 and 1 on 32: of outputs 0 to 15, 0 reaches in front of the window and 15 beyond its end."""
    found = rule("y = Conv<dilations = [2], strides = [2], pads = [2, 1]>(x, w)", w=weight(3, 2, 3))
    assert found.track == Track(2, Fraction(2), 1, 1, 16)
    assert found.reads((0, 1)) == (0, 3)
    assert found.reads((1, 2)) == (0, 5)
    assert found.reads((15, 16)) == (28, 32)
    deeper = slid(Track(2, Fraction(2), 1, 2, 16), 16, 3, 1, 1)
    assert (deeper.left, deeper.right) == (2, 3)


def test_auto_pad_is_settled_by_the_window() -> None:
    """k 5, s 2 on 32: 3 in all, 1 in front."""
    found = rule('y = Conv<strides = [2], auto_pad = "SAME_UPPER">(x, w)', w=weight(3, 2, 5))
    assert isinstance(found, Sliding)
    assert (found.begin, found.pads) == (1, (1, 2))


def test_a_window_within_the_padding_is_computed_with_the_next_ones() -> None:
    found = rule("y = Conv<pads = [4, 4]>(x, w)", w=weight(3, 2, 1))
    assert found.track == Track(2, Fraction(1), 4, 4, 40)
    assert found.made((0, 2)) == (0, 5)
    assert found.made((38, 40)) == (35, 40)


def test_borders_of_a_transposed_convolution() -> None:
    """k 4, s 2, p 1: output 0 would read input -1, too."""
    found = rule("y = ConvTranspose<strides = [2], pads = [1, 1]>(x, w)", w=weight(2, 3, 4))
    assert isinstance(found, Spread)
    assert found.track == Track(2, Fraction(1, 2), 1, 1, 64)
    assert found.reads((2, 4)) == (0, 3)
    exact = rule("y = ConvTranspose<strides = [2]>(x, w)", w=weight(2, 3, 2))
    assert exact.track == Track(2, Fraction(1, 2), 0, 0, 64)


def test_a_mirrored_border_is_made_with_what_it_mirrors() -> None:
    found = rule('y = Pad<mode = "reflect">(x, p)', p=np.array([0, 0, 3, 0, 0, 2]))
    assert isinstance(found, Padded)
    assert found.track == Track(2, Fraction(1), 3, 2, 37)
    assert found.made((0, 3)) == (0, 7)
    assert found.reads((0, 7)) == (0, 4)
    assert found.made((35, 37)) == (32, 37)
    plain = rule("y = Pad(x, p)", p=np.array([0, 0, 3, 0, 0, 2]))
    assert plain.made((0, 3)) == (0, 4)
    cropped = rule("y = Pad(x, p)", p=np.array([0, 0, -3, 0, 0, -2]))
    assert cropped.track == Track(2, Fraction(1), 0, 0, 27)
    assert cropped.reads((0, 1)) == (3, 4)


def test_slices_move_the_borders() -> None:
    found = rule("c = Conv<pads = [2, 2]>(x, w) y = Slice(c, b, e, a, s)", w=weight(2, 2, 5), b=np.array([1]),
                 e=np.array([-3]), a=np.array([2]), s=np.array([2]))  # fmt: skip
    assert found.track == Track(2, Fraction(2), 1, 0, 14)
    assert found.reads((1, 3)) == (3, 6)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("w = Relu(w0) k = GlobalAveragePool(x) v = Mul(w0, k) y = Conv(x, v)", "its weights are computed"),
        ("y, i = MaxPool<kernel_shape = [2]>(x)", "its Indices are positions in the whole window"),
        ("y = AveragePool<kernel_shape = [2], ceil_mode = 1, count_include_pad = 1>(x)",
         "ceil_mode with count_include_pad"),
        ('y = Conv<auto_pad = "SAME_UPPER", dilations = [2]>(x, w0)',
         "auto_pad=SAME with dilation > 1 is not reliable in ONNX Runtime: export explicit pads"),
        ('y = ConvTranspose<auto_pad = "SAME_UPPER", strides = [2]>(x, w0)',
         "its padding is made for an output's size"),
        ('y = Pad<mode = "wrap">(x, p)', "its mode wrap reads the window's other end"),
        ("y = Slice(x, b, e, a, s)", "it runs backwards"),
    ],
)  # fmt: skip
def test_reasons(body: str, reason: str) -> None:
    constants = {
        "w0": weight(2, 2, 3), "p": np.array([0, 0, 1, 0, 0, 1]), "b": np.array([-1]), "e": np.array([-20]),
        "a": np.array([2]), "s": np.array([-1]),
    }  # fmt: skip
    used = {name: value for name, value in constants.items() if f"{name})" in body or f"{name}," in body}
    outputs = "float[] y, int64[] i" if "y, i" in body else "float[] y"
    model = build(f"(float[1, 2, 32] x) => ({outputs}) {{ {body} }}", opset=19, **used)
    assert flow_of(model, 2).parts[-1].fit == reason


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize("opset", [9, 13, 18])
def test_pads_of_any_mode_and_opset(mode: str, opset: int) -> None:
    pads = np.array([0, 0, 3, 0, 0, 2])
    pad = f'Pad<mode = "{mode}", pads = [0, 0, 3, 0, 0, 2]>(x)' if opset < 11 else f'Pad<mode = "{mode}">(x, p)'
    body = f"a = {pad} b = Conv(a, w) c = Conv<pads = [1, 1]>(b, v) y = GlobalAveragePool(c)"
    model = build(f"(float[1, 2, 32] x) => (float[] y) {{ {body} }}", opset=opset, w=weight(2, 2, 4), v=weight(2, 2, 3),
                  **({} if opset < 11 else {"p": pads}))  # fmt: skip
    streaming, work = written(flow_of(model), 4)
    assert largest_difference(model, streaming) < 1e-6
    assert work < 0.6
