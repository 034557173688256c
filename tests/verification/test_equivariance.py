"""Which tensor of a downsampling layer is compared, and how far it is from moving with the input."""

from __future__ import annotations

import numpy as np
import pytest
from reference import build
from small_nets import SHARED, needs_shared, parse, pooled_net, save, stripes, subsample_map

from aarewrite.model.index import open_graph
from aarewrite.model.runner import Model
from aarewrite.verification import verify
from aarewrite.verification.equivariance import find_layers

SILU = "s = Sigmoid(a) b = Mul(a, s)"
HARD_SWISH = "p = Add(a, three) q = Clip(p, zero, six) r = Mul(a, q) b = Div(r, six)"
GELU = "d = Div(a, root) e = Erf(d) f = Add(e, one) g = Mul(a, f) b = Mul(g, half)"
CONSTANTS = {
    name: np.float32(value)
    for name, value in {"zero": 0, "three": 3, "six": 6, "one": 1, "half": 0.5, "root": np.sqrt(2)}.items()
}


@pytest.mark.parametrize(
    ("nodes", "compared"),
    [
        ("b = Relu(a)", "b"),
        (SILU, "b"),
        (HARD_SWISH, "b"),
        (GELU, "b"),
        ("b = Relu(a) t = Tanh(b)", "b"),  # the second activation belongs to the next layer
        ("t = Relu(a) u = Tanh(a) b = Add(t, x2)", "a"),  # two activations read it
        ("q = QuantizeLinear(a, one, code) b = DequantizeLinear(q, one, code)", "b"),  # not the codes
    ],
)
def test_a_layer_is_read_behind_its_activation(nodes, compared):
    last = nodes.split(" = ")[-2].split()[-1]
    extra = "x2 = MaxPool<kernel_shape = [1, 1], strides = [2, 2]>(x)" if "x2" in nodes else ""
    net = build(
        f"""(float[N,1,16,16] x) => (float[] y) {{
        [conv] a = Conv<strides = [2, 2]>(x, w)
        {extra}
        {nodes}
        c = GlobalAveragePool({last})
        y = Flatten(c)
    }}""",
        w=np.array([[[[1.0]]], [[[-1.0]]]], np.float32) if "x2" not in nodes else np.ones((1, 1, 1, 1), np.float32),
        code=np.uint8(7),
        **CONSTANTS,
    )
    (result,) = verify(net, "synthetic:2", layers=True, max_shift=1, task="vector").layers
    assert {layer.node: layer.tensor for layer in result.layers}["conv"] == compared


def test_the_error_is_that_of_the_activated_map(tmp_path):
    columns = np.where(np.arange(20) % 2, -8, 1).astype(np.float32)  # every second one is seen: all 1, or all -8
    np.savez(tmp_path / "d.npz", x=np.broadcast_to(columns, (2, 1, 20, 20)))
    net = build(
        f"(float[N,1,16,16] x) => (float[] y) {{ a = Conv<strides = [2, 2]>(x, w) {SILU} y = Flatten(b) }}",
        w=np.ones((1, 1, 1, 1), np.float32),
    )
    (result,) = verify(net, str(tmp_path / "d.npz"), layers=True, task="vector", max_shift=1).layers
    silu = [x / (1 + np.exp(-x)) for x in (1.0, -8.0)]
    upset = (silu[0] - silu[1]) / silu[0]  # 9 in front of the activation
    # Of the shifts by 1 and 2 px in three directions two change the columns' parity.
    assert result.layers[0].error.value == pytest.approx(2 * upset / 6, rel=1e-5)
    assert result.layers[0].error.n == 2


def test_a_map_of_zeros_that_does_not_stay_one_is_wholly_wrong(tmp_path):
    (result,) = verify(subsample_map(), save(tmp_path / "d.npz", x=stripes(2)), layers=True, max_shift=2).layers
    assert result.layers[0].error.value == pytest.approx(2 / 6)  # odd shifts, down not counted, show the other columns


def test_layers_rank_the_pool_and_blur_lowers_its_error():
    report = verify(pooled_net(blur=True), "synthetic:4", against=pooled_net(blur=False), layers=True, names=("b", "a"))
    after, before = report.layers
    assert [layer.op for layer in before.layers] == ["MaxPool"]
    assert [layer.op for layer in after.layers] == ["Conv"]
    assert before.layers[0].stride == after.layers[0].stride == (2, 2)
    assert after.layers[0].error.value < 0.7 * before.layers[0].error.value
    for result in report.layers:
        assert result.ranking[0].added == result.layers[0].error.value
        errors = np.array(result.heat_map.errors)
        assert errors[0, 0] < 1e-6  # unmoved
        # Moved by the stride only the zero-padded border differs, moved by one pixel everything does.
        assert errors[2, 2] < errors[1, 1]


@pytest.mark.parametrize(
    ("stride", "shifts"),
    [
        (2, (0, 1, 2, 3, 4)),
        (8, (0, 2, 4, 6, 8, 10, 12, 14, 16)),
        (7, (0, 7, 14)),
        (2**31 - 1, (0, 2**31 - 1, 2**32 - 2)),
    ],
)
def test_a_heat_map_hits_the_stride_in_a_few_shifts(stride, shifts):
    net = build(
        f"""(float[1,1,16,5] x) => (float[] y) {{
        a = MaxPool<kernel_shape = [1, 1], strides = [{stride}, 1]>(x)
        y = Flatten(a)
    }}"""
    )
    (result,) = verify(net, "synthetic:1", layers=True, max_shift=1, task="vector").layers
    assert result.heat_map is not None
    assert result.heat_map.shifts[0] == shifts


def test_heat_map_of_pure_subsampling_repeats_with_the_stride():
    net = parse("""
    g (float[N,1,16,16] x) => (float[N,1,8,8] y) <float[1,1,1,1] w = {1}> { y = Conv<strides = [2, 2]>(x, w) }""")
    (result,) = verify(net, "synthetic:2", layers=True).layers
    errors = np.array(result.heat_map.errors)
    assert errors[::2, ::2].max() < 1e-6
    assert errors[1::2, :].min() > 0.01
    np.testing.assert_allclose(errors[:3, :3], errors[2:, 2:], atol=1e-6)


def test_filters_of_several_nodes_are_layers():
    net = build(
        """(float[N,1,16,16] x) => (float[] y) {
        [rows] a = MatMul(half, x)
        [columns] b = MatMul(a, halfT)
        [conv] c = Conv<strides = [2, 2]>(b, w)
        d = GlobalAveragePool(c)
        y = Flatten(d)
    }""",
        half=np.eye(16, dtype=np.float32)[::2],
        halfT=np.eye(16, dtype=np.float32)[:, ::2],
        w=np.ones((1, 1, 1, 1), np.float32),
    )
    net.metadata_props.add(key="aarewrite.blurs", value='{"columns": {"samples_by": [2, 2]}}')
    report = verify(net, "synthetic:2", layers=True, max_shift=1, task="vector")
    assert [(layer.node, layer.stride) for layer in report.layers[0].layers] == [("columns", (2, 2)), ("conv", (4, 4))]


@needs_shared
@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("squeezenet_fp16_winml.onnx", [2, 4, 8, 16]),
        ("deeplab_v3_mnv2_tf.onnx", [2, 4, 8]),
        ("fastestdet.onnx", [2, 4, 8, 8, 16, 16, 32, 32, 16]),
        ("ultraface_rfb320.onnx", [2, 4, 8, 16, 32, 64]),
        ("yunet_n_dynamic.onnx", [2, 4, 8, 16, 32]),
        ("mobilenet_v1_025_128_tf_qdq_uint8.onnx", [2, 4, 8, 16, 32]),
    ],
)
def test_layers_of_real_models_are_found(name, strides):
    model = Model(SHARED / "models" / name)
    size = tuple(extent or 320 for extent in model.image_inputs[0].size)
    assert [layer.stride[0] for layer in find_layers(open_graph(model, size))] == strides


@needs_shared
@pytest.mark.parametrize("name", ["mnist_cntk_winml.onnx", "mlperf_tiny_resnet8_cifar10_int8.onnx"])
def test_layers_of_small_real_models_are_measured(name):
    (result,) = verify(SHARED / "models" / name, "synthetic:1", max_shift=1, layers=True).layers
    assert all(0 < layer.error.value < 2 for layer in result.layers)
    assert result.heat_map.errors[0][0] == pytest.approx(0, abs=1e-6)


def test_strides_are_those_along_the_path_where_borders_are_cropped():
    """9 samples of 24 px speak for a stride of 3, and 3 of 9 for one of 3 again; both convs have stride 2."""
    net = build(
        """(float[1, 1, 24, 24] x) => (float[] y) {
        a = Conv<strides = [2, 2]>(x, w)
        y = Conv<strides = [2, 2]>(a, v)
    }""",
        w=np.ones((1, 1, 7, 7), np.float32), v=np.ones((1, 1, 5, 5), np.float32),
    )  # fmt: skip
    layers = find_layers(open_graph(Model(net), (24, 24)))
    assert [(layer.tensor, layer.stride) for layer in layers] == [("a", (2, 2)), ("y", (4, 4))]
