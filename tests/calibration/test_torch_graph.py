"""A model in PyTorch computes what the model computes, and is written back with nothing but its weights changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from reference import build, initializer, relative_difference, run, weight

import aarewrite
from aarewrite.errors import CannotHandle

torch = pytest.importorskip("torch", reason="the extra aarewrite[distill] is not installed")
TorchGraph = pytest.importorskip("aarewrite.calibration.torch_graph").TorchGraph

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("AAREWRITE_SHARED", ROOT.parent / "shared")) / "models"
REAL = {  # input of one small batch
    SHARED / "squeezenet1_1_fp32.onnx": (2, 3, 97, 90),
    SHARED / "mobilenet_v2_tv_fp32.onnx": (2, 3, 97, 90),
    SHARED / "mobilenet_v1_075_192_tf_fp32.onnx": (1, 3, 192, 192),
    SHARED / "resnet18_ktb_small_ts_op13.onnx": (2, 3, 97, 90),
    SHARED / "cifar10_resnet20_ts_op11.onnx": (3, 3, 32, 32),
    ROOT / "sample_models" / "conv1d.onnx": (),
    ROOT / "sample_models" / "resnet_blur.onnx": (),
    ROOT / "sample_models" / "vgg.onnx": (),
}
TAPS = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / 16
NET = """(float[n, 3, 12, 12] x) => (float[] y) {
    [conv] a = Conv<pads = [1, 1, 1, 1]>(x, w, b)
    [norm] c = BatchNormalization(a, scale, shift, mean, variance)
    [relu] d = Relu(c)
    [filter] e = Conv<group = 4, strides = [2, 2], pads = [1, 1, 1, 1]>(d, taps)
    [depthwise] f = Conv<group = 4, pads = [1, 1, 1, 1]>(e, own)
    [slope] g = PRelu(f, slope)
    [offset] h = Add(g, half)
    [pool] i = GlobalAveragePool(h)
    [flat] j = Flatten(i)
    [product] k = MatMul(j, matrix)
    [sum] l = Add(vector, k)
    [head] y = Gemm(l, last)
}"""
FITTED = {"w", "b", "scale", "shift", "own", "matrix", "vector", "last"}
STAYS = {"mean", "variance", "taps", "slope", "half"}


def net(**others: Any) -> onnx.ModelProto:
    values = {
        "w": weight(4, 3, 3, 3), "b": np.zeros(4, np.float32), "scale": weight(4), "shift": weight(4, seed=1),
        "mean": weight(4, seed=2), "variance": abs(weight(4, seed=3)) + 0.1, "taps": np.tile(TAPS, (4, 1, 1, 1)),
        "own": weight(4, 1, 3, 3), "slope": weight(4, 1, 1), "half": np.float32(0.5), "matrix": weight(4, 5),
        "vector": weight(5), "last": weight(5, 2),
    }  # fmt: skip
    model = build(NET, **{**values, **others})
    for tensor in model.graph.initializer:
        tensor.doc_string = f"about {tensor.name}"
    model.metadata_props.add(key="licence", value="free")
    model.graph.value_info.add(name="a")
    return model


def without_weights(model: onnx.ModelProto, names: set[str]) -> bytes:
    blank = onnx.ModelProto()
    blank.CopyFrom(model)
    for tensor in blank.graph.initializer:
        if tensor.name in names:
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
    return blank.SerializeToString(deterministic=True)


def batch(model: onnx.ModelProto, shape: tuple[int, ...] = ()) -> Any:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    return weight(*(shape or (dim.dim_value or 2 * 16**place for place, dim in enumerate(dims))), seed=5)


@pytest.mark.parametrize("rewritten", [False, True], ids=["as it is", "rewritten"])
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_models_compute_the_same(path: Path, rewritten: bool) -> None:
    if not path.exists():
        pytest.skip("the shared models are not here")
    model = aarewrite.rewrite(path).model if rewritten else onnx.load(path)
    x = batch(model, REAL[path])
    graph = TorchGraph(model)
    with torch.no_grad():
        actual = graph(torch.from_numpy(x)).numpy()
    assert relative_difference(actual, run(model, **{model.graph.input[0].name: x})[0]) < 1e-5
    written, names = graph.written(), set(graph.parameters)
    assert without_weights(written, names) == without_weights(model, names)
    for name in names:
        np.testing.assert_allclose(initializer(written, name), initializer(model, name), rtol=1e-6, atol=0)


@pytest.mark.parametrize("target", ["portable", "tensorrt"])
def test_no_part_of_a_blur_is_fitted(target: str) -> None:
    """As pools, which have no taps, and as convolutions."""
    path = ROOT / "sample_models" / "resnet.onnx"
    original, model = onnx.load(path), aarewrite.rewrite(path, target=target).model
    taps = len(model.graph.initializer) - len(original.graph.initializer)
    assert (taps > 0) == (target == "tensorrt")
    assert TorchGraph(model).parameters.keys() == TorchGraph(original).parameters.keys()
    assert len(TorchGraph(model).parameters) == 20


def test_a_step_changes_what_is_fitted_and_nothing_else() -> None:
    model = net()
    graph = TorchGraph(model)
    assert graph.parameters.keys() == FITTED
    assert all(one.is_leaf and one.requires_grad for one in graph.parameters.values())
    graph(torch.from_numpy(batch(model, (2, 3, 12, 12)))).pow(2).sum().backward()
    torch.optim.SGD(graph.parameters.values(), 0.1).step()
    written = graph.written()
    assert without_weights(written, FITTED) == without_weights(model, FITTED)
    assert {name for name in FITTED if (initializer(written, name) != initializer(model, name)).any()} == FITTED
    for name in STAYS:
        np.testing.assert_array_equal(initializer(written, name), initializer(model, name))
    x = batch(model, (3, 3, 12, 12))
    expected = run(written, x=x)[0]
    assert relative_difference(graph(torch.from_numpy(x)).detach().numpy(), expected) < 1e-5
    assert relative_difference(run(model, x=x)[0], expected) > 1e-2


def test_gradients_are_those_of_the_outputs() -> None:
    """Finite differences of the model as ONNX Runtime computes it, along the gradient."""
    model = net()
    graph, x = TorchGraph(model), batch(model, (2, 3, 12, 12))
    graph(torch.from_numpy(x)).sum().backward()
    for name, parameter in graph.parameters.items():
        assert parameter.grad is not None
        length = float(parameter.grad.norm())
        step = 1e-2 * parameter.grad / length
        ends = [run(graph.written({name: parameter + sign * step}), x=x)[0].sum() for sign in (1, -1)]
        assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(length, rel=2e-2), name


def test_parameters_are_relative_to_the_size_of_their_channel() -> None:
    sizes = np.array([1e-3, 1, 20, 0], np.float32).reshape(4, 1, 1, 1)
    values = weight(4, 3, 3, 3) * sizes
    graph = TorchGraph(net(w=values, matrix=weight(4, 5) * sizes.reshape(4, 1)[[1, 1, 1, 1]] * 7))
    means = np.sqrt((values**2).mean((1, 2, 3)))
    held = np.sqrt((graph.parameters["w"].detach().numpy() ** 2).mean((1, 2, 3)))
    least = 0.05 * means.mean()
    np.testing.assert_allclose(held, [means[0] / least, 1, 1, 0], rtol=1e-4)
    columns = graph.parameters["matrix"].detach().pow(2).mean(0).sqrt().numpy()
    np.testing.assert_allclose(columns, 1, rtol=1e-5)
    assert not graph.parameters["b"].detach().any()  # a bias of zeros stays a number


def test_other_parameters_take_the_place_of_its_own() -> None:
    model = net()
    graph, x = TorchGraph(model), torch.from_numpy(batch(model, (2, 3, 12, 12)))
    doubled = {"last": 2 * graph.parameters["last"].detach()}
    assert torch.equal(graph(x, doubled), 2 * graph(x))
    np.testing.assert_array_equal(initializer(graph.written(doubled), "last"), 2 * initializer(graph.written(), "last"))


def test_frozen_weights_stay() -> None:
    assert TorchGraph(net(), frozen=["w", "vector"]).parameters.keys() == FITTED - {"w", "vector"}


def test_a_shared_weight_is_one_parameter() -> None:
    text = """(float[1, 4, 6, 6] x) => (float[] y) {
        again = Identity(w)
        a = Conv<pads = [1, 1, 1, 1]>(x, w)
        y = Conv<pads = [1, 1, 1, 1]>(a, again)
    }"""
    model = build(text, w=weight(4, 4, 3, 3))
    graph, x = TorchGraph(model), batch(model, (1, 4, 6, 6))
    assert list(graph.parameters) == ["w"]
    halved = {"w": graph.parameters["w"].detach() / 2}
    np.testing.assert_allclose(graph(torch.from_numpy(x), halved), run(model, x=x)[0] / 4, rtol=1e-4, atol=1e-4)


def test_weights_of_constant_nodes_stay_and_so_do_computed_ones() -> None:
    text = """(float[1, 4] x) => (float[] y) {
        c = Constant<value = float[4, 2] {1, 2, 3, 4, 5, 6, 7, 8}>()
        a = MatMul(x, c)
        t = Transpose(w)
        y = MatMul(a, t)
    }"""
    assert not TorchGraph(build(text, w=weight(3, 2))).parameters


def test_weights_stored_as_numbers_are_written_and_inputs_may_be_initializers() -> None:
    model = build("(float[2, 3] x) => (float[] y) { y = MatMul(x, w) }", ir=3, w=weight(3, 2))
    model.graph.initializer[0].CopyFrom(onnx.helper.make_tensor("w", 1, [3, 2], [1, 2, 3, 4, 5, 6]))
    graph = TorchGraph(model)
    written = graph.written({"w": 2 * graph.parameters["w"]})
    np.testing.assert_allclose(initializer(written, "w"), [[2, 4], [6, 8], [10, 12]], rtol=1e-6)


def test_only_what_the_first_output_needs_is_translated() -> None:
    text = "(float[1, 4] x) => (float[1, 2] y, int64[1, 1] z) { y = MatMul(x, w) v = MatMul(x, u) z = ArgMax(v) }"
    graph = TorchGraph(build(text, w=weight(4, 2), u=weight(4, 2)))
    assert list(graph.parameters) == ["w"]


def test_nothing_is_computed_in_the_place_of_what_is_read_again() -> None:
    text = """(float[1, 4, 6, 6] x) => (float[] y) {
        a = Conv<pads = [1, 1, 1, 1]>(x, w) b = Relu(a) c = Neg(a) d = Sub(b, c) e = Relu(x) y = Add(d, e)
    }"""
    model = build(text, w=weight(4, 4, 3, 3))
    given = torch.from_numpy(batch(model, (1, 4, 6, 6)))
    x = given.clone()
    graph = TorchGraph(model)
    assert relative_difference(graph(x).detach().numpy(), run(model, x=given.numpy())[0]) < 1e-5
    assert torch.equal(x, given)
    graph(x).sum().backward()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(float[2] x, float[2] z) => (float[] y) { y = Add(x, z) }", "the model has 2 inputs: only one is fed"),
        ("(float16[2] x) => (float16[] y) { y = Neg(x) }", "input 'x' is FLOAT16: only float32 is trained"),
    ],
)
def test_inputs_that_cannot_be_fed_are_refused(text: str, message: str) -> None:
    with pytest.raises(CannotHandle) as refused:
        TorchGraph(build(text))
    assert refused.value.message == message


def test_weights_in_other_files_are_refused() -> None:
    model = net()
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "w.bin")
    with pytest.raises(CannotHandle, match="initializer 'w': its data is in another file; read it in first"):
        TorchGraph(model)
