"""An operator fed from a blurred input, or run with another window: types, quantised maps, other readers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reference import attributes, build, initializer, node, qdq, run, weight
from stages import before

import aarewrite
from aarewrite.recipe import Recipe


@pytest.mark.parametrize("placement", ["input", "before"])
def test_kernel_type_is_that_of_the_map_it_blurs(placement: str) -> None:
    """A Cast behind the conv belongs to its region, but the conv's input keeps its own type."""
    model = build(
        """(float16[1, 2, 9, 9] x) => (float[] y) {
        [conv] a = Conv<strides = [2, 2]>(x, w)
        b = Cast<to = 1>(a)
        y = Add(b, b)
    }""",
        w=weight(2, 2, 1, 1, dtype=np.float16),
    )
    recipe = Recipe(first_conv=True) if placement == "input" else before()
    result = aarewrite.rewrite(model, recipe=recipe)
    assert result.plan.sites[0].do.name == placement
    blur_node = next(n for n in result.model.graph.node if n.op_type == "Conv" and n.name != "conv")
    assert initializer(result.model, blur_node.input[1]).dtype == np.float16


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_qdq_blur_before_twice_changes_nothing(kind: Any, k: int) -> None:
    first = aarewrite.rewrite(qdq(kind, k), recipe=before())
    assert first.changed
    assert not aarewrite.rewrite(first.model, recipe=before()).changed


@pytest.mark.parametrize("recipe", ["aligned", "before"])
@pytest.mark.parametrize("source", ["graph input", "another operator"])
def test_quantised_conv_fed_by_floats(source: str, recipe: str) -> None:
    """Partially quantised models: the conv's input is no DequantizeLinear, its output is quantised."""
    model = build(
        f"""(float[1, 3, 12, 12] x) => (float[] y) {{
        {"v = Identity(x)" if source == "graph input" else "v = Relu(x)"}
        wd = DequantizeLinear(w, sw, zw)
        [conv] a = Conv<strides = [2, 2]>({"x" if source == "graph input" else "v"}, wd)
        bq = QuantizeLinear(a, sw, zw)
        y = DequantizeLinear(bq, sw, zw)
    }}""",
        w=np.random.default_rng(0).integers(-127, 128, (4, 3, 1, 1)).astype(np.int8),
        sw=np.float32(0.01),
        zw=np.int8(0),
    )
    result = aarewrite.rewrite(model, recipe=before() if recipe == "before" else recipe, first_conv=True)
    (planned,) = result.plan.sites
    assert planned.match or planned.reason
    x = weight(1, 3, 12, 12)
    assert run(result.model, x=x)[0].shape == run(model, x=x)[0].shape


# ---- windows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("kernel_shape = [3, 3], strides = [2, 2]", {"kernel_shape": [3, 3], "strides": [1, 1]}),
        (
            "kernel_shape = [3, 3], strides = [2, 2], pads = [0, 0, 0, 0], ceil_mode = 0",
            {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [0, 0, 0, 0], "ceil_mode": 0},
        ),
        (
            'kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER"',
            {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 0, 1, 1]},
        ),
        (
            "kernel_shape = [2, 3], strides = [2, 2], ceil_mode = 1, storage_order = 0",
            {"kernel_shape": [2, 3], "strides": [1, 1], "pads": [0, 0, 1, 1], "storage_order": 0},
        ),
    ],
)
def test_a_window_is_written_with_explicit_pads_and_no_more_than_it_needs(
    written: str, left: dict[str, object]
) -> None:
    model = build(f"(float[1, 2, 9, 8] x) => (float[] y) {{ [pool] y = MaxPool<{written}>(x) }}")
    assert attributes(node(aarewrite.rewrite(model).model, "pool")) == left


def test_the_kernel_of_a_conv_stays_its_weights() -> None:
    model = build(
        "(float[1, 2, 9, 8] x) => (float[] y) { [conv] y = Conv<strides = [2, 2]>(x, w) }", w=weight(2, 2, 3, 3)
    )
    result = aarewrite.rewrite(model, first_conv=True)
    assert attributes(node(result.model, "conv")) == {"strides": [1, 1]}


def test_a_quantised_input_is_blurred_as_integers_and_dequantised_once_more() -> None:
    result = aarewrite.rewrite(qdq(np.uint8), recipe=before())
    producers = {output: one for one in result.model.graph.node for output in one.output}
    again = producers[node(result.model, "conv").input[0]]
    assert (again.op_type, list(again.input)) == ("DequantizeLinear", ["conv/blurred_quantised", "sx", "zx"])
    quantised = producers["conv/blurred_quantised"]
    assert (quantised.op_type, list(quantised.input[1:])) == ("QuantizeLinear", ["sx", "zx"])
    assert [one.name for one in result.model.graph.node if "xd" in one.input] == []
    x = weight(1, 3, 12, 12)
    assert run(result.model, x=x)[0].shape == run(qdq(np.uint8), x=x)[0].shape
