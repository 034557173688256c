"""What flows into a site: the strides so far, and whether a conv lies behind it."""

from __future__ import annotations

import numpy as np
import pytest
from reference import POOL, Array, build, function, functions, weight

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


def strides(text: str, sizes: str = "64, 48", **values: Array) -> dict[str, tuple[int, ...] | None]:
    """Stride in front of each site and of what else samples."""
    plan = aarewrite.plan(build(f"(float[1, 2, {sizes}] x) => (float[] y) {{ {text} }}", **values))
    return {one.node: one.stride_so_far for one in (*(p.site for p in plan.sites), *plan.sources)}


DOWN = "[down] a = MaxPool<kernel_shape = [2, 2], strides = [4, 2]>(x)"
LAST = "[last] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>"


@pytest.mark.parametrize(
    ("between", "sizes", "expected"),
    [
        ("b = Relu(a)", "H, W", (4, 2)),
        ("b = Concat<axis = 1>(a, a)", "H, W", (4, 2)),
        ("b = ConvTranspose<strides = [2, 2]>(a, up)", "H, W", (2, 1)),
        ("b = ConvTranspose<strides = [3, 2]>(a, up)", "H, W", None),
        ("t = Transpose<perm = [0, 1, 3, 2]>(a) b = Transpose<perm = [0, 1, 3, 2]>(t)", "H, W", None),
        ("t = Transpose<perm = [0, 1, 3, 2]>(a) b = Transpose<perm = [0, 1, 3, 2]>(t)", "64, 48", (4, 2)),
        ('b = Resize<mode = "nearest">(a, , scales)', "64, 48", (2, 1)),
        ('b = Resize<mode = "nearest">(a, , scales)', "H, W", None),
    ],
)
def test_the_stride_is_followed_or_told_from_static_sizes(
    between: str, sizes: str, expected: tuple[int, ...] | None
) -> None:
    values = {"up": weight(2, 2, 3, 3), "scales": np.array([1, 1, 2, 2], np.float32)}
    used = {name: value for name, value in values.items() if name in between}
    assert strides(f"{DOWN} {between} {LAST}(b)", sizes, **used) == {"down": (1, 1), "last": expected}


def test_a_function_called_at_two_strides_has_none_of_its_own() -> None:
    calls = "a = f.Down(x) y = f.Down(a)"
    assert [p.site.stride_so_far for p in aarewrite.plan(functions("y = f.Down(x)", function("Down", POOL))).sites] == [
        (1, 1)
    ]
    open_ = "float[1, 2, H, W] x"
    (site,) = (p.site for p in aarewrite.plan(functions(calls, function("Down", POOL), inputs=open_)).sites)
    assert site.stride_so_far is None


def test_a_branch_sees_the_stride_around_it_and_hands_its_own_on() -> None:
    model = build(
        f"""(float[1, 2, 32, 32] x, bool c) => (float[] y) {{
        [down] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        b = If (c) <
            then_branch = yes () => (float[1, 2, 8, 8] p) {{
                [yes] p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a) }},
            else_branch = no () => (float[1, 2, 8, 8] q) {{
                [no] q = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(a) }}
        >
        {LAST}(b)
    }}"""
    )
    found = {p.site.node: p.site.stride_so_far for p in aarewrite.plan(model).sites}
    assert found == {"down": (1, 1), "yes": (2, 2), "no": (2, 2), "last": (4, 4)}


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("[conv] y = Conv<strides = [2, 2]>(x, w)", True),
        ("a = Relu(x) [conv] y = Conv<strides = [2, 2]>(a, w)", True),
        (f"{DOWN} [conv] y = Conv<strides = [2, 2]>(a, w)", True),
        ("a = Conv(x, w) b = Relu(a) [conv] y = Conv<strides = [2, 2]>(b, w)", False),
        ("a = Conv(x, w) b = Add(a, x) [conv] y = Conv<strides = [2, 2]>(b, w)", False),
        ("a = Conv(x, w) [conv] y = Conv<strides = [2, 2]>(x, w)", True),
    ],
)
def test_the_first_conv_has_no_conv_behind_its_input(text: str, first: bool) -> None:
    model = build(f"(float[1, 2, 64, 48] x) => (float[] y) {{ {text} }}", w=weight(2, 2, 1, 1))
    assert next(p.site.first_conv for p in aarewrite.plan(model).sites if p.site.node == "conv") is first
