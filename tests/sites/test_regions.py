"""Where a conv's blur goes: behind the last tensor of the pointwise region that every reader shares."""

from __future__ import annotations

import numpy as np
import pytest
from reference import Array, blur, build, dense, node, ops, relative_difference, run, weight

import aarewrite

PER_CHANNEL: dict[str, Array] = {
    "gamma": np.full(4, 1.5, np.float32), "beta": np.full(4, 0.5, np.float32), "slope": weight(4, 1, 1),
    "c": weight(1, 4, 1, 1), "lo": np.float32(0), "hi": np.float32(6), "two": np.float32(2),
}  # fmt: skip
HEAD = "[conv] a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)"

# the nodes behind the conv, the tensor that is blurred, whether a nonlinearity was crossed
REGIONS = {
    "nothing": ("y = GlobalAveragePool(a)", "a", False),
    "relu": ("b = Relu(a) y = GlobalAveragePool(b)", "b", True),
    "clip": ("b = Clip(a, lo, hi) y = GlobalAveragePool(b)", "b", True),
    "leaky": ("b = LeakyRelu(a) y = GlobalAveragePool(b)", "b", True),
    "prelu": ("b = PRelu(a, slope) y = GlobalAveragePool(b)", "b", True),
    "elu": ("b = Elu(a) y = GlobalAveragePool(b)", "b", True),
    "hardswish": ("b = HardSwish(a) y = GlobalAveragePool(b)", "b", True),
    "silu": ("s = Sigmoid(a) b = Mul(a, s) y = GlobalAveragePool(b)", "b", True),
    "hardsigmoid_times_x": ("s = HardSigmoid(a) b = Mul(s, a) y = GlobalAveragePool(b)", "b", True),
    "mish": ("p = Softplus(a) t = Tanh(p) b = Mul(a, t) y = GlobalAveragePool(b)", "b", True),
    "gelu_erf": (
        "d = Div(a, two) e = Erf(d) f = Add(e, two) g = Mul(a, f) b = Mul(g, two) y = GlobalAveragePool(b)", "b", True,
    ),
    "gelu_tanh": (
        "s = Mul(a, a) d = Mul(s, a) e = Add(a, d) t = Tanh(e) f = Add(t, two) b = Mul(a, f) y = GlobalAveragePool(b)",
        "b", True,
    ),
    "batchnorm_relu": (
        "n = BatchNormalization(a, gamma, beta, beta, gamma) b = Relu(n) y = GlobalAveragePool(b)", "b", True,
    ),
    "scale_shift_relu": ("m = Mul(a, c) n = Add(m, c) b = Relu(n) y = GlobalAveragePool(b)", "b", True),
    "relu_then_batchnorm": (
        "r = Relu(a) b = BatchNormalization(r, gamma, beta, beta, gamma) y = GlobalAveragePool(b)", "b", True,
    ),
    "second_nonlinearity_belongs_to_the_next_layer": ("b = Relu(a) t = Tanh(b) y = GlobalAveragePool(t)", "b", True),
    "two_readers": ("b = Relu(a) g = GlobalAveragePool(b) h = GlobalMaxPool(b) y = Add(g, h)", "b", True),
    "several_exits": (
        "b = Relu(a) t = Tanh(a) p = Add(b, t) q = GlobalAveragePool(p) r = GlobalMaxPool(b) y = Add(q, r)",
        "a", False,
    ),
    "sum_with_a_constant": ("s = Sum(a, c) b = Relu(s) y = GlobalAveragePool(b)", "b", True),
    "per_position_constant": ("b = Mul(a, plane) y = GlobalAveragePool(b)", "a", False),
    "residual_add": ("b = Add(a, a2) y = Relu(b)", "a", False),
}  # fmt: skip


@pytest.mark.parametrize("name", REGIONS)
def test_the_blurred_tensor(name: str) -> None:
    body, blurred, nonlinear = REGIONS[name]
    extra = "[other] a2 = Conv<strides = [2, 2]>(x, w1)\n" if "a2" in body else ""
    constants = PER_CHANNEL | {"plane": weight(1, 1, 4, 4), "w": weight(4, 3, 3, 3), "w1": weight(4, 3, 1, 1)}
    words = set((body + extra).replace("(", " ").replace(")", " ").replace(",", " ").split()) | {"w"}
    model = build(
        f"(float[1, 3, 8, 8] x) => (float[] y) {{ {HEAD}\n{extra}{body} }}",
        opset=14,
        **{key: value for key, value in constants.items() if key in words},
    )
    plan = aarewrite.plan(model, first_conv=True)
    planned = next(p for p in plan.sites if p.site.node == "conv")
    assert planned.map_name == blurred
    assert planned.site.activation is nonlinear
    result = aarewrite.rewrite(model, first_conv=True)
    assert result.changed
    producer = next(n for n in result.model.graph.node if blurred in n.output)
    assert producer.name == "conv/blur/Conv"


@pytest.mark.parametrize("inner", ["a", "n"])
def test_graph_outputs_inside_the_region_keep_their_size(inner: str) -> None:
    """The blur goes at the last tensor that all readers share; a graph output has a reader outside."""
    model = build(
        f"""(float[1, 3, 8, 8] x) => (float[] y, float[] {inner}) {{
        [conv] a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)
        n = BatchNormalization(a, gamma, beta, beta, gamma)
        y = Relu(n)
    }}""",
        w=weight(4, 3, 3, 3),
        gamma=np.ones(4, np.float32),
        beta=np.zeros(4, np.float32),
    )
    result = aarewrite.rewrite(model, first_conv=True)
    x = weight(1, 3, 8, 8)
    before, after = run(model, x=x), run(result.model, x=x)
    assert [value.shape for value in after] == [value.shape for value in before]
    (planned,) = result.plan.sites
    assert planned.map_name == inner


def test_mask_of_a_dropout_as_graph_output_keeps_its_size() -> None:
    model = build(
        """(float[1, 3, 8, 8] x) => (float[] y, bool[] mask) {
        [conv] a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)
        r = Relu(a)
        d, mask = Dropout(r)
        y = GlobalAveragePool(d)
    }""",
        w=weight(4, 3, 3, 3),
    )
    result = aarewrite.rewrite(model, first_conv=True)
    assert [value.shape for value in run(result.model, x=weight(1, 3, 8, 8))] == [(1, 4, 1, 1), (1, 4, 4, 4)]


def test_tensor_names_survive() -> None:
    model = build(
        f"(float[1, 3, 8, 8] x) => (float[] y) {{ {HEAD} b = Relu(a) y = GlobalAveragePool(b) }}", w=weight(4, 3, 3, 3)
    )
    result = aarewrite.rewrite(model, first_conv=True)
    assert ops(result.model) == ["Conv", "Relu", "Pad", "Conv", "GlobalAveragePool"]
    assert list(node(result.model, "conv").output) == ["a"]
    assert list(result.model.graph.node[-1].input) == ["b"]


def test_blur_behind_a_region_equals_the_reference() -> None:
    w = weight(4, 3, 3, 3)
    model = build(f"(float[1, 3, 8, 9] x) => (float[] y) {{ {HEAD} s = Sigmoid(a) y = Mul(a, s) }}", w=w)
    x = weight(1, 3, 8, 9)
    full = dense("Conv", x, (3, 3), [(1, 1), (1, 1)], w=w)
    expected = blur(full / (1 + np.exp(-full)), 3, (2, 2))
    assert relative_difference(run(aarewrite.rewrite(model, first_conv=True).model, x=x)[0], expected) < 1e-6
