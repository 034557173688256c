"""What maps index to index along the stream, and the reasons where it does not."""

from fractions import Fraction

import numpy as np
import pytest
from nets import flow_of, largest_difference, written
from reference import build, weight

from aarewrite.streaming.pointwise import Picked, Reshaped
from aarewrite.streaming.tracks import Track


def fit(body: str, shape: str = "1, 2, 32", axis: int = 2, opset: int = 13, **constants):
    return (
        flow_of(build(f"(float[{shape}] x) => (float[] y) {{ {body} }}", opset=opset, **constants), axis).parts[-1].fit
    )


MEAN = "g = GlobalAveragePool(x)"


@pytest.mark.parametrize(
    ("body", "constants", "reason"),
    [
        ("y = Add(x, c)", {"c": weight(32)}, "a constant operand differs along the window"),
        (f"{MEAN} y = Mul(x, g)", {}, "an operand depends on the whole window or on another input"),
        ("y = Softmax<axis = 2>(x)", {}, "it works over the axis that the stream runs along"),
        ("y = ReduceMean<axes = [2]>(x)", {}, "it reduces the axis that the stream runs along"),
        ("y = ReduceMean(x)", {}, "it reduces the whole window"),
        ("y = Concat<axis = 2>(x, x)", {}, "it joins along the stream"),
        ("y = Concat<axis = 1>(x, c)", {"c": weight(1, 1, 32)}, "not all of what it joins is streamed"),
        ("t = Transpose<perm = [0, 2, 1]>(x) y = MatMul(x, t)", {}, "it is a product of two parts of the window"),
        ("y = MatMul(x, c)", {"c": weight(32, 4)}, "it sums over the axis that the stream runs along"),
        ("y = Reshape(x, s)", {"s": np.array([1, 32, 2])}, "it mixes the stream's axis with others"),
        ("y = Flatten(x)", {}, "it mixes the stream's axis with others"),
        ("y = CumSum(x, c)", {"c": np.array(2)}, "it works over the axis that the stream runs along"),
        ("y = Split<axis = 2>(x)", {}, "it splits the stream's axis"),
        ("a = Conv<pads = [1, 1], strides = [2]>(x, w) b = Conv<pads = [16, 16]>(a, v) y = Add(x, b)",
         {"w": weight(2, 2, 3), "v": weight(2, 2, 17)},
         "its operands have different lengths or rates along the stream"),
        ("t = Transpose<perm = [0, 2, 1]>(x) y = Gemm(r, c)", {"c": weight(4, 4), "r": weight(4, 4)}, None),
        ("q = QuantizeLinear(x, s) y = DequantizeLinear<axis = 2>(q, c)",
         {"s": np.float32(1), "c": np.ones(32, np.float32)}, "its scales differ along the window"),
    ],
)  # fmt: skip
def test_reasons(body: str, constants, reason) -> None:
    if reason is not None:
        assert fit(body, **constants) == reason


def test_the_axis_follows_transposes_reductions_and_gathers() -> None:
    turned = "a = Transpose<perm = [2, 0, 1]>(x) b = Transpose<perm = [1, 0, 2]>(a)"
    assert fit(f"{turned} y = ReduceMax<axes = [0], keepdims = 0>(b)").track == Track(0, Fraction(1), 0, 0, 32)
    assert fit("y = Gather<axis = 1>(x, i)", i=np.array(1)).track.axis == 1
    assert fit("y = Gather<axis = 1>(x, i)", i=np.array([[1, 0]])).track.axis == 3
    assert fit("y = ArgMax<axis = 1, keepdims = 0>(x)").track.axis == 1
    assert fit("y = MatMul(c, x)", c=weight(3, 4, 2)).track.axis == 2


def test_products_with_constants() -> None:
    assert fit("y = MatMul(x, c)", "1, 32, 2", 1, c=weight(2, 5)).track == Track(1, Fraction(1), 0, 0, 32)
    assert fit("y = MatMul(x, c)", "1, 32, 2", 1, c=weight(3, 2, 5)).track.axis == 1
    assert fit("y = Gemm(x, c, b)", "32, 2", 0, c=weight(2, 5), b=weight(5)).track.axis == 0
    assert fit("y = Gemm<transA = 1>(x, c)", "2, 32", 1, c=weight(2, 5)).track.axis == 0
    assert (
        fit("y = Gemm(x, c, b)", "32, 2", 0, c=weight(2, 5), b=weight(32, 1)) == "its constant differs along the window"
    )


def test_softmax_before_opset_13_is_over_all_axes_behind() -> None:
    assert fit("y = Softmax<axis = 1>(x)", opset=11) == "it works over the axis that the stream runs along"
    assert fit("y = Softmax<axis = 1>(x)", opset=13).track.axis == 2


def test_a_reshape_may_join_the_stream_with_what_is_behind_it_and_split_it_again() -> None:
    joined = fit("y = Reshape(x, s)", "1, 4, 32, 6", 2, s=np.array([1, 4, 192]))
    assert isinstance(joined, Reshaped)
    assert joined.track == Track(2, Fraction(1, 6), 0, 0, 192)
    assert joined.made((7, 13)) == (6, 18)
    assert joined.reads((6, 18)) == (1, 3)
    split = fit(
        "a = Reshape(x, s) y = Reshape(a, t)", "1, 4, 32, 6", 2, s=np.array([1, 4, 192]), t=np.array([4, 32, 6])
    )
    assert split.track == Track(1, Fraction(1), 0, 0, 32)
    assert split.reads((1, 3)) == (6, 18)


def test_indices_picked_along_the_stream_read_no_more() -> None:
    """A causal net read at its last index: nothing but what that depends on is computed."""
    model = build(
        """(float[1, 2, 64] x) => (float[] y) {
        a = Conv<pads = [2, 0]>(x, w)
        b = Conv<pads = [4, 0], dilations = [2]>(a, v)
        c = Gather<axis = 2>(b, last)
        y = Gemm(c, f)
    }""",
        w=weight(4, 2, 3), v=weight(4, 4, 3), last=np.array(-1), f=weight(4, 3),
    )  # fmt: skip
    flow = flow_of(model)
    assert isinstance(flow.parts[2].fit, Picked)
    streaming, work = written(flow, 4)
    assert work < 0.15
    assert largest_difference(model, streaming) < 1e-6


def test_joins_splits_and_shuffles_of_channels_stream() -> None:
    model = build(
        """(float[N, 4, 6, 40] x) => (float[] y) {
        a, b = Split<axis = 1>(x)
        c = Conv<pads = [1, 1, 1, 1]>(a, w)
        d = Concat<axis = 1>(b, c)
        e = Reshape(d, apart)
        f = Transpose<perm = [0, 2, 1, 3, 4]>(e)
        g = Reshape(f, together)
        h = Squeeze(flat, axes0)
        i = Unsqueeze(h, axes0)
        j = Mul(g, i)
        y = GlobalAveragePool(j)
    }""",
        w=weight(2, 2, 3, 3), apart=np.array([-1, 2, 2, 6, 40]), together=np.array([-1, 4, 6, 40]),
        flat=weight(1, 4, 1, 1), axes0=np.array([0]),
    )  # fmt: skip
    streaming, work = written(flow_of(model, 3), 4)
    assert work < 0.5
    assert largest_difference(model, streaming) < 1e-6


@pytest.mark.parametrize(
    "how",
    [
        'coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"',
        'coordinate_transformation_mode = "half_pixel", nearest_mode = "round_prefer_floor"',
    ],
)
@pytest.mark.parametrize("inputs", ["b, , scales", "b, , , sizes"])
def test_values_that_are_repeated_stream(how: str, inputs: str) -> None:
    model = build(
        f"""(float[N, 2, 48] x) => (float[] y) {{
        a = Conv<pads = [1, 1]>(x, w)
        b = MaxPool<kernel_shape = [3], strides = [3]>(a)
        c = Resize<mode = "nearest", {how}>({inputs})
        d = Add(a, c)
        y = GlobalAveragePool(d)
    }}""",
        w=weight(4, 2, 3),
        **({"scales": np.array([1, 1, 3], np.float32)} if "scales" in inputs else {"sizes": np.array([2, 4, 48])}),
    )
    flow = flow_of(model, **({} if "scales" in inputs else {"x": (2, 2, 48)}))
    assert (flow.tracks["c"].rate, flow.tracks["c"].left, flow.tracks["c"].length) == (1, 3, 48)
    streaming, work = written(flow, 6)
    assert work < 0.6
    assert largest_difference(model, streaming) < 1e-6


def test_an_expand_of_other_axes_streams() -> None:
    model = build(
        "(float[1, 1, 40] x) => (float[] y) { a = Conv<pads = [1, 1]>(x, w) b = Expand(a, s) y = GlobalMaxPool(b) }",
        w=weight(1, 1, 3), s=np.array([2, 3, 40]),
    )  # fmt: skip
    streaming, _ = written(flow_of(model), 4)
    assert largest_difference(model, streaming) < 1e-6
    long = build("(float[1, 4, 1] x) => (float[] y) { y = Expand(x, s) }", s=np.array([1, 4, 9]))
    assert flow_of(long, 2).parts[-1].fit == "it repeats along the stream"
