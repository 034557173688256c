"""What is a site and what is left alone, each with its reason."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from reference import (
    POOL,
    attributes,
    build,
    function,
    functions,
    node,
    ops,
    overloads,
    relative_difference,
    run,
    weight,
)
from stages import reasons

import aarewrite


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
def test_global_pooling_is_no_site(op: str) -> None:
    text = "(float[1, 2, 7, 7] x) => (float[] y) {{ [pool] y = {}<kernel_shape = {}, strides = [2, 2]>(x) }}"
    plan = aarewrite.plan(build(text.format(op, [7, 7])))
    assert (plan.sites, plan.sources) == ((), ())
    plan = aarewrite.plan(build(text.format(op, [6, 6])))  # one output, the last row is not covered
    assert plan.sites == ()


# ---- indices -----------------------------------------------------------------------------------------------


def test_consumed_indices_are_a_reason() -> None:
    pool = "[pool] y, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)"
    text = "its Indices output is used: they name positions of the strided map"
    assert reasons(build(f"(float[1, 2, 8, 8] x) => (float[] y, int64[] i) {{ {pool} }}")) == {"pool": text}
    unpool = "u = MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]>(y, i)"
    assert reasons(build(f"(float[1, 2, 8, 8] x) => (float[] u) {{ {pool} {unpool} }}")) == {"pool": text}


def test_unconsumed_indices_are_dropped() -> None:
    model = build(
        "(float[1, 2, 8, 8] x) => (float[] y) { "
        "[pool] y, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2], storage_order = 1>(x) }"
    )
    result = aarewrite.rewrite(model)
    assert len(node(result.model, "pool").output) == 1
    assert ops(result.model) == ["MaxPool", "Pad", "Conv"]
    assert attributes(node(result.model, "pool"))["storage_order"] == 1


# ---- weights and channels ----------------------------------------------------------------------------------


def test_shared_weights_are_not_touched() -> None:
    w = weight(3, 3, 3, 3)
    model = build(
        """(float[1, 3, 16, 16] x) => (float[] y, float[] z) {
        [one] a = Conv<pads = [1, 1, 1, 1]>(x, w)
        [two] y = Conv<strides = [2, 2]>(a, w)
        [three] z = Conv<strides = [1, 2]>(a, w)
    }""",
        w=w,
    )
    result = aarewrite.rewrite(model)
    assert len(result.plan.rewrites) == 2
    assert next(t for t in result.model.graph.initializer if t.name == "w") == model.graph.initializer[0]


def test_dynamic_weights_need_only_the_channel_count() -> None:
    model = build("""(float[1, 2, 9, 9] x, float[4, 2, 3, 3] w) => (float[] y) {
        [conv] a = Conv<strides = [2, 2]>(x, w)
        y = Relu(a)
    }""")
    result = aarewrite.rewrite(model, first_conv=True, filter=1)
    assert ops(result.model) == ["Conv", "Relu", "Conv"]
    feeds = {"x": weight(1, 2, 9, 9), "w": weight(4, 2, 3, 3, seed=1)}
    assert relative_difference(run(result.model, **feeds)[0], run(model, **feeds)[0]) < 1e-6


def test_unknown_channels_are_a_reason() -> None:
    model = build(
        "(float[1, C, 9, 9] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    assert reasons(model) == {
        "pool": "its number of channels is not known statically, or differs between calls of the function"
    }


@pytest.mark.parametrize("before", [True, False])
def test_more_channels_than_a_blur_has_taps_for(before: bool) -> None:
    inward, outward = (2**62, 4) if before else (4, 2**62)
    model = build(f"""(float[1, {inward}, 9, 9] x, float[{outward}, {inward}, 3, 3] w) => (float[] y) {{
        [conv] y = Conv<strides = [2, 2]>(x, w)
    }}""")
    (site,) = aarewrite.plan(model, first_conv=True, placement="before").sites
    assert site.reason == f"{2**62} channels: a blur has taps for each, of 1048576 at most"


def test_integer_maps_without_a_scale_are_a_reason() -> None:
    model = build(
        "(uint8[1, 2, 9, 9] x) => (uint8[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    assert reasons(model) == {
        "pool": "an integer map whose scale and zero point are no constant scalars, which a blur needs"
    }


@pytest.mark.parametrize("attribute", ["kernel_shape", "strides"])
def test_attribute_parameters_of_functions_are_a_reason(attribute: str) -> None:
    given = {"kernel_shape": "[2, 2]", "strides": "[2, 2]"}
    other = next(name for name in given if name != attribute)
    model = build(
        f"""(float[1, 2, 9, 9] x) => (float[] y) {{ y = local.Down<{attribute} = {given[attribute]}>(x) }}
        <domain: "local", opset_import: ["" : 13]>
        Down<{attribute}>(x) => (y) {{
            [pool] y = MaxPool<{attribute}: ints = @{attribute}, {other}: ints = {given[other]}>(x)
        }}""",
        imports=', "local" : 1',
    )
    assert reasons(model) == {
        "pool": f"its {attribute} is a parameter of the function: inline the function to rewrite it"
    }


def test_nodes_without_or_with_equal_names_are_told_apart() -> None:
    model = build("""(float[1, 2, 32, 32] x) => (float[] c) {
        [same] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        [same] b = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)
        c = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(b)
    }""")
    plan = aarewrite.plan(model, skip=["b"])
    assert [(p.site.node, p.match is not None) for p in plan.sites] == [("a", True), ("b", False), ("c", True)]


def test_a_name_that_is_also_an_output_is_told_apart() -> None:
    """An unnamed node is called by its output, which may be another node's name."""
    model = build("""(float[1, 2, 32, 32] x) => (float[] c) {
        [b] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        b = MaxPool<kernel_shape = [3, 3], strides = [3, 3]>(a)
        c = Relu(b)
    }""")
    result = aarewrite.rewrite(model)
    assert len(result.plan.rewrites) == 2
    assert len({p.site.node for p in result.plan.sites}) == 2


@pytest.mark.parametrize(
    "text",
    [
        "[site] y = MaxPool<kernel_shape = [2, 2], strides = [2]>(x)",
        "[site] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2], pads = [1, 1]>(x)",
    ],
)
def test_invalid_operators_are_left_with_a_reason(text: str) -> None:
    plan = aarewrite.plan(build(f"(float[1, 2, 8, 8] x) => (float[] y) {{ {text} }}"))
    assert not plan.rewrites
    assert all(source.reason for source in plan.sources)


def test_function_called_with_differing_channel_counts() -> None:
    model = functions(
        "y = f.Down(x) w = Concat<axis = 1>(x, x) z = f.Down(w)", function("Down", POOL), outputs="float[] y, float[] z"
    )
    (planned,) = aarewrite.plan(model).sites
    assert planned.reason == (
        "its number of channels is not known statically, or differs between calls of the function"
    )
    assert aarewrite.rewrite(model).model.SerializeToString() == model.SerializeToString()


def test_overloads_of_a_function_are_functions_of_their_own() -> None:
    """Called with other channels, and of another stride: each has its own sizes."""
    model = overloads(
        "w = Concat<axis = 1>(x, x) a = f.First(w) y = f.Second(x)",
        POOL, POOL.replace("2, 2", "4, 4"), inputs="float[1, 2, 16, 16] x",
    )  # fmt: skip
    large, small = (planned.site for planned in aarewrite.plan(model).sites)
    assert (large.strides, large.channels, large.input_size, large.stride_so_far) == ((2, 2), 4, (16, 16), (1, 1))
    assert (small.strides, small.channels, small.input_size, small.stride_so_far) == ((4, 4), 2, (16, 16), (1, 1))
    result = aarewrite.rewrite(model)
    assert result.proof is not None
    assert len(result.plan.rewrites) == 2
    assert [one.overload for one in result.model.functions] == ["First", "Second"]


@pytest.mark.parametrize("kind", ["int16", "uint16", "float8e4m3fn"])
def test_a_quantised_map_of_other_than_8_bit_integers_is_named(kind: str) -> None:
    model = build(
        """(float[1, 3, 12, 12] x) => (float[] y) {
        [conv] a = Conv<strides = [2, 2]>(x, w)
        q = QuantizeLinear(a, s, z)
        d = DequantizeLinear(q, s, z)
        [pool] p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(d)
        r = QuantizeLinear(p, s, z)
        y = DequantizeLinear(r, s, z)
    }""",
        opset=21, ir=10, s=np.float32(0.01), w=weight(4, 3, 3, 3),
    )  # fmt: skip
    model.graph.initializer.append(onnx.helper.make_tensor("z", getattr(onnx.TensorProto, kind.upper()), [], [0]))
    said = f"a map of {kind}: blurs take floats, int8 and uint8; rewrite the model before it is quantised"
    assert reasons(model) == {"conv": said, "pool": said}


def test_a_map_of_unknown_type_is_no_other_than_that() -> None:
    model = build(
        """(float[1, 3, 12, 12] x) => (float[1, 3, 6, 6] y) {
        a = local.Unheard(x)
        [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)
    }""",
        imports=', "local" : 1',
    )
    model.graph.output[0].type.tensor_type.elem_type = 0
    assert reasons(model) == {"pool": "the element type of its output is not known"}
