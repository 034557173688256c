"""What onnx's inference does not know, and where ONNX Runtime's sizes are others, is right in what is inferred."""

from __future__ import annotations

import resource

import numpy as np
import onnx
import pytest
from reference import build, output_size, run, weight

import aarewrite
from aarewrite.model.inference import forget, infer, unheard

MICROSOFT = ', "com.microsoft" : 1'


def sizes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    graph = infer(model).graph
    infos = (*graph.value_info, *graph.output)
    return {info.name: tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim) for info in infos}


def aliased(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with "ai.onnx" written where nothing was."""
    for one in (*model.opset_import, *model.graph.node, *(n for f in model.functions for n in f.node)):
        one.domain = one.domain or "ai.onnx"
    return model


def test_ai_onnx_is_onnx() -> None:
    text = """(float[1, 2, 16, 16] x) => (float[1, 4, 4, 4] y) {
        [conv] a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)
        b = Relu(a)
        [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(b)
    }"""
    plain, written = build(text, w=weight(4, 2, 3, 3)), aliased(build(text, w=weight(4, 2, 3, 3)))
    assert sizes(written) == sizes(plain)
    for mine, other in zip(aarewrite.plan(written).sites, aarewrite.plan(plain).sites, strict=True):
        assert mine == other
    result = aarewrite.rewrite(written, first_conv=True)
    assert result.proof is not None
    kept = {node.name: node.domain for node in result.model.graph.node}
    assert kept["conv"] == kept["pool"] == "ai.onnx", "it is written as it was"
    assert [(one.domain, one.version) for one in result.model.opset_import] == [("ai.onnx", 13)]


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("QuantizeLinear", "x, s, z"), ("Gelu", "x"), ("BiasGelu", "x, b"), ("FastGelu", "x, b"), ("QuickGelu", "x"),
        ("QLinearAdd", "q, s, z, q, s, z, s, z"), ("QLinearMul", "q, s, z, q, s, z, s, z"),
        ("QLinearLeakyRelu", "q, s, z, s, z"), ("QLinearSigmoid", "q, s, z, s, z"),
    ],
)  # fmt: skip
def test_the_runtimes_own_operators_have_sizes(op: str, inputs: str) -> None:
    kind = "uint8" if op.startswith("Q") and op != "QuickGelu" else "float"
    text = (
        f"(float[1, 2, 4, 4] x, uint8[1, 2, 4, 4] q) => ({kind}[n, c, h, w] y) {{ y = com.microsoft.{op}({inputs}) }}"
    )
    model = build(
        text, imports=MICROSOFT, s=np.float32(0.1), z=np.uint8(3), b=weight(4) if op.endswith("Gelu") else weight(1)
    )
    feeds = {"x": weight(1, 2, 4, 4), "q": np.zeros((1, 2, 4, 4), np.uint8)}
    (found,) = run(model, **feeds)
    graph = infer(model).graph
    assert sizes(model)["y"] == found.shape == (1, 2, 4, 4)
    assert onnx.helper.np_dtype_to_tensor_dtype(found.dtype) == graph.output[0].type.tensor_type.elem_type


@pytest.mark.parametrize("last", [0, 1])
def test_pools_that_are_channels_last_are_not_taken_for_others(last: int) -> None:
    model = build(
        f"""(uint8[1, 2, 4, 6] q) => (uint8[n, c, h, w] y) {{
        y = com.microsoft.QLinearGlobalAveragePool<channels_last = {last}>(q, s, z, s, z) }}""",
        imports=MICROSOFT, s=np.float32(0.1), z=np.uint8(3),
    )  # fmt: skip
    assert sizes(model)["y"] == ((0, 0, 0, 0) if last else (1, 2, 1, 1))


def test_what_is_inferred_from_is_left_as_it_is() -> None:
    model = aliased(build(POOLS, opset=17))
    before = model.SerializeToString()
    inferred = infer(model)
    assert model.SerializeToString() == before
    assert inferred.graph.node == model.graph.node, "its nodes come back as they are"
    assert list(inferred.opset_import) == list(model.opset_import)


POOLS = """(float[1, 2, 5, 5] x) => (float[1, 2, h, w] y, float[1, 2, hz, wz] z) {
    [one] a = MaxPool<kernel_shape = [3, 3], strides = [3, 3], pads = [1, 1, 1, 1], ceil_mode = 1>(x)
    b = Relu(a)
    [two] y = AveragePool<kernel_shape = [1, 1], strides = [2, 2], ceil_mode = 1>(b)
    [three] z = MaxPool<kernel_shape = [1, 1], strides = [2, 2], ceil_mode = 1>(x)
}"""


@pytest.mark.parametrize("opset", [11, 17, 22])
def test_pools_with_ceil_mode_have_the_runtimes_sizes(opset: int) -> None:
    """Below opset 22 onnx counts a window that begins in the padding: 3 instead of 2 behind the first pool."""
    model = build(POOLS, opset=opset)
    y, z = run(model, x=weight(1, 2, 5, 5))
    found = sizes(model)
    assert (found["y"], found["z"]) == (y.shape, z.shape) == ((1, 2, 1, 1), (1, 2, 3, 3))
    assert found["b"] == (1, 2, 2, 2)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("s", [2, 3])
@pytest.mark.parametrize("op", ["AveragePool", "LpPool", "MaxPool"])
def test_against_the_runtime_at_many_sizes(op: str, s: int, k: int) -> None:
    """Of a kernel, stride and pads: every size from 3 to 8, along two axes."""
    for n, pad in [(n, pad) for n in range(3, 9) for pad in range(k)]:
        text = f"""(float[1, 1, {n}, {n + 1}] x) => (float[] y) {{
            [pool] y = {op}<kernel_shape = [{k}, {k}], strides = [{s}, {s}], pads = [{pad}, 0, {pad}, {pad}],
                            ceil_mode = 1>(x) }}"""
        model = build(text, opset=18)
        expected = [output_size(size, k, s, 1, begin, pad, "NOTSET", True) for size, begin in ((n, pad), (n + 1, 0))]
        assert list(sizes(model)["y"][2:]) == expected, (n, pad)
        assert list(run(model, x=weight(1, 1, n, n + 1))[0].shape[2:]) == expected, (n, pad)


def test_stated_sizes_that_the_runtime_does_not_give_are_not_heard() -> None:
    """An exporter wrote what onnx infers into the file: what follows is told from ONNX Runtime's size all the same."""
    model = onnx.shape_inference.infer_shapes(build(POOLS, opset=17))
    assert [dim.dim_value for dim in model.graph.value_info[0].type.tensor_type.shape.dim] == [1, 2, 3, 3]
    assert sizes(model)["y"] == (1, 2, 1, 1)


def test_such_a_pool_is_rewritten_and_proven() -> None:
    text = """(float[1, 2, 3, 6, 5] x) => (float[] y) {
        [pool] y = MaxPool<kernel_shape = [3, 3, 3], strides = [3, 3, 3], pads = [1, 1, 1, 1, 1, 1], ceil_mode = 1>(x)
    }"""
    result = aarewrite.rewrite(build(text, opset=17))
    (site,) = result.plan.sites
    assert (site.site.output_size, site.reason) == ((2, 3, 2), "")
    assert result.proof is not None
    assert result.proof.passed


def test_in_the_body_of_an_if() -> None:
    model = build(
        """(float[1, 1, 5, 5] x, bool c) => (float[1, 1, h, w] y) {
        y = If (c) <
            then_branch = yes () => (float[1, 1, p, q] d) {
                [a] b = MaxPool<kernel_shape = [3, 3], strides = [3, 3], pads = [1, 1, 1, 1], ceil_mode = 1>(x)
                d = Relu(b) },
            else_branch = no () => (float[1, 1, 5, 5] e) { e = Neg(x) }>
    }"""
    )
    (site,) = aarewrite.plan(model).sites
    assert (site.site.input_size, site.site.output_size) == ((5, 5), (2, 2))


def test_a_failed_inference_gives_the_model_or_raises() -> None:
    model = build("(float[1, 2] x) => (float[1, 2] y) { y = Transpose<perm = [1, 0]>(x) }")
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 7
    assert infer(model).graph.node == model.graph.node
    with pytest.raises(onnx.shape_inference.InferenceError):
        infer(model, strict=True)


def test_what_may_be_stated_wrongly_is_told_and_forgotten() -> None:
    model = onnx.shape_inference.infer_shapes(build(POOLS, opset=17))
    wrong = unheard(model)
    assert wrong == {"a", "b", "y"}
    forget(model.graph, wrong)
    assert {info.name for info in model.graph.value_info} == set()
    assert [output.type.tensor_type.HasField("shape") for output in model.graph.output] == [False, True]
    assert unheard(build(POOLS, opset=22)) == set()


SLICED = "y = Slice(p, zero, five, two)"


@pytest.mark.parametrize(
    ("size", "nodes"),
    [
        ("1, 1", f"p = MaxPool<kernel_shape = [3, 3]>(x) {SLICED}"),
        ("8, 8", f"p = MaxPool<kernel_shape = [300, 3], strides = [1, 1]>(x) {SLICED}"),
        ("8, 8", f"p = Pad(x, amounts) {SLICED}"),
        ("8, 8", f"q = Slice(x, zero, five, two) p = MaxPool<kernel_shape = [7, 1]>(q) {SLICED}"),
        ("8, 8", f"p = MaxPool<kernel_shape = [3, 3], dilations = [9, 1]>(x) {SLICED}"),
    ],
)  # fmt: skip
def test_a_slice_of_a_map_below_zero_does_not_end_the_process(size: str, nodes: str) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[1, 1, {size}] x) => (float[a, b, c, d] y)
        <int64[1] zero = {{0}}, int64[1] five = {{5}}, int64[1] two = {{2}}, int64[8] amounts = {{0, 0, -9, 0,
        0, 0, 0, 0}}> {{ {nodes} }}"""
    model = onnx.parser.parse_model(text)
    assert infer(model) is model
    with pytest.raises(ValueError, match="a window is larger than its map"):
        infer(model, strict=True)


def test_a_window_larger_than_its_map_is_refused_when_it_is_rewritten_with_slices() -> None:
    model = build(
        """(float[1, 4, 16, 16] x) => (float[] y) {
        a = MaxPool<kernel_shape = [32, 1]>(x)
        [pool] b = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(a)
        y = Relu(b)
    }"""
    )
    with pytest.raises(aarewrite.CannotHandle, match="ONNX Runtime"):
        aarewrite.rewrite(model, target="openvino")


def test_slices_of_maps_that_can_be_keep_their_sizes() -> None:
    model = build(
        """(float[1, 3, 32, 32] x) => (float[] y) {
        s = Shape(x)
        h = Slice(s, two, four, zero)
        a = Slice(x, zero, five, two)
        b = MaxPool<kernel_shape = [3, 3]>(a)
        y = Slice(b, zero, two, two)
    }""",
        zero=np.array([0]), two=np.array([2]), four=np.array([4]), five=np.array([5]),
    )  # fmt: skip
    assert sizes(model)["a"] == (1, 3, 5, 32)
    assert sizes(model)["b"] == (1, 3, 3, 30)
    assert sizes(model)["y"] == (1, 3, 2, 30)
    assert sizes(model)["h"] == (2,)


@pytest.mark.parametrize("kind", ["float", "int64"])
def test_a_long_signal_is_not_taken_for_a_shape(kind: str) -> None:
    """Propagating it as one would take 9 GB for the sum alone."""
    graph = f"g ({kind}[134217728] x) => ({kind}[n] y) {{ a = Add(x, x) y = Concat<axis = 0>(a, x) }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {graph}')
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, before[1]))
    try:
        assert sizes(model)["y"] == (268435456,)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_sizes_that_follow_from_data_are_known_beside_a_signal() -> None:
    model = build(
        """(float[1, 3, 8, 8] x, float[16000] signal) => (float[] y, float[] z) {
        s = Shape(x)
        h = Slice(s, zero, two, zero)
        t = Concat<axis = 0>(h, all)
        y = Reshape(x, t)
        z = Add(signal, signal)
    }""",
        zero=np.array([0]), two=np.array([2]), all=np.array([-1]), opset=17,
    )  # fmt: skip
    assert sizes(model)["y"] == (1, 3, 64)
    assert sizes(model)["z"] == (16000,)


POOLED = """({kind}[1, 3, {size}, {size}] x) => (float[] y) {{
    a = Conv<strides = [2, 2]>(x, w)
    b = Relu(a)
    [pool] c = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(b)
    y = {last}(c)
}}"""


@pytest.mark.parametrize("size", [24, 41])
def test_sizes_of_an_earlier_input_are_not_heard(size: int) -> None:
    """As where somebody changes a model's input and leaves the rest."""
    model = build(POOLED.format(kind="float", size=size, last="Sin"), w=weight(4, 3, 3, 3))
    stale = onnx.shape_inference.infer_shapes(
        build(POOLED.format(kind="float", size=32, last="Sin"), w=weight(4, 3, 3, 3))
    )
    for dim in stale.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = size
    assert sizes(stale) == sizes(model)
    assert aarewrite.plan(stale, first_conv=True).sites == aarewrite.plan(model, first_conv=True).sites
    assert aarewrite.rewrite(stale, first_conv=True).proof is not None


def test_sizes_of_the_export_are_not_heard_where_the_input_is_open() -> None:
    model = build(POOLED.format(kind="float", size=32, last="Sin"), w=weight(4, 3, 3, 3))
    stale = onnx.shape_inference.infer_shapes(model)
    for dim in (*stale.graph.input[0].type.tensor_type.shape.dim, *model.graph.input[0].type.tensor_type.shape.dim):
        dim.dim_param = "open"
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    assert sizes(stale)["b"] == (0, 4, 0, 0)
    (_, pool) = aarewrite.plan(stale, filter="ideal").sites
    assert "needs the size of the map" in pool.reason


def test_what_is_stated_behind_an_unknown_operator_is_heard() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[n, 3, 8, 8] x) => (float[n, 3, 2, m] y) {
            a = local.Unheard(x)
            b = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)
            y = MaxPool<kernel_shape = [1, 2], strides = [1, 2]>(b)
        }""")
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, ["n", 3, 4, 4]))
    assert sizes(model)["b"] == (0, 3, 2, 2)
    assert sizes(model)["y"] == (0, 3, 2, 1)
    assert [dim.dim_param for dim in infer(model).graph.output[0].type.tensor_type.shape.dim] == ["n", "", "", ""]


def test_a_slice_of_a_stated_map_that_is_too_small_does_not_end_the_process() -> None:
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[1, 1, 8, 8] x) => (float[a, b, c, d] y)
        <int64[1] zero = {{0}}, int64[1] five = {{5}}, int64[1] two = {{2}}> {{
            u = local.Unheard(x) p = MaxPool<kernel_shape = [3, 3]>(u) {SLICED} }}""")
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("u", onnx.TensorProto.FLOAT, [1, 1, 1, 1]))
    assert infer(model) is model


def test_an_output_that_states_another_size_is_rewritten() -> None:
    model = build(
        "(float[1, 3, 16, 16] x) => (float[1, 99, 8, 8] y) { y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    result = aarewrite.rewrite(model)
    assert result.changed
    assert result.proof is not None
    assert [dim.dim_value for dim in result.model.graph.output[0].type.tensor_type.shape.dim] == [1, 99, 8, 8]
