"""What flows into a site: the strides so far, and whether a conv lies behind it."""

from __future__ import annotations

from reference import build, weight

import aarewrite


def test_stride_so_far_multiplies() -> None:
    model = build("""(float[1, 2, 32, 48] x) => (float[] c) {
        [one] a = MaxPool<kernel_shape = [2, 2], strides = [2, 1]>(x)
        [two] b = MaxPool<kernel_shape = [2, 2], strides = [2, 3]>(a)
        [three] c = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(b)
    }""")
    assert [p.site.stride_so_far for p in aarewrite.plan(model).sites] == [(1, 1), (2, 1), (4, 3)]


def test_a_conv_in_a_loop_body_is_no_first_conv() -> None:
    model = build(
        """(float[1, 2, 16, 16] x, int64 n, bool go) => (float[] y) {
        [stem] a = Conv(x, w1)
        [loop] y = Loop (n, go, a) <
            body = step (int64 i, bool c, float[1, 2, h, k] v) => (bool d, float[1, 2, h2, k2] u) {
                d = Identity(c)
                [conv] s = Conv<strides = [2, 2]>(v, w1)
                u = Relu(s)
            }
        >
    }""",
        w1=weight(2, 2, 1, 1),
    )
    assert [p.site.first_conv for p in aarewrite.plan(model).sites] == [False]
