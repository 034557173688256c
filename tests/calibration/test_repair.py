"""The repair as a whole: what it recovers, what it leaves alone, what it refuses."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from pairs import BINOMIAL, Net, noise, residual_pair, stored
from stages import two_stages

from aarewrite import rewrite
from aarewrite.calibration.repair import RepairOptions, repair
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.recipe import Recipe

ONE = np.array([1.0])


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def test_weights_behind_an_invertible_filter_are_recovered_exactly() -> None:
    """Behind y = x M, the weights W become M^-1 W: the network computes the same function again."""
    rng = np.random.default_rng(1)
    mix = np.eye(4) + 0.3 * rng.standard_normal((4, 4))
    weight, bias = rng.standard_normal((5, 4, 3, 3)), rng.standard_normal(5)
    original, rewritten = Net(["n", 4, 12, 12]), Net(["n", 4, 12, 12])
    original.conv("x", "y", weight, bias, strides=[2, 2])
    rewritten.conv("x", "mixed", mix.T[:, :, None, None])
    rewritten.conv("mixed", "y", weight, bias, strides=[2, 2])
    repaired, layers = repair(
        original.model("y"), rewritten.model("y"), noise(8, 4, 12, 12, batches=8), RepairOptions(alphas=(1e-10,))
    )
    expected = np.einsum("ij,ojkl->oikl", np.linalg.inv(mix), weight)
    np.testing.assert_allclose(stored(repaired, "y.w"), expected, atol=1e-5)
    np.testing.assert_allclose(stored(repaired, "y.b"), bias, atol=1e-5)
    assert layers[0].before > 0.1
    assert layers[0].after < 1e-8


def test_behind_a_blur_the_weights_become_the_wiener_filter() -> None:
    """White noise behind taps h: the best 3x3 estimate of x from h * x solves R w = h, R = autocorrelation of h."""
    original, rewritten = Net(["n", 1, 32, 32]), Net(["n", 1, 32, 32])
    delta = np.zeros((1, 1, 3, 3))
    delta[0, 0, 1, 1] = 1.0
    original.conv("x", "y", delta)
    rewritten.blur("x", "blurred", 1, 1)
    rewritten.conv("blurred", "y", delta)
    options = RepairOptions(alphas=(1e-9,), positions=900)
    repaired, _ = repair(original.model("y"), rewritten.model("y"), noise(16, 1, 32, 32, batches=12), options)
    auto = np.convolve(BINOMIAL, BINOMIAL)
    correlation = np.array([[auto[2 + i - j] for j in range(3)] for i in range(3)])
    line = np.linalg.solve(correlation, BINOMIAL)  # separable, as the taps are
    np.testing.assert_allclose(stored(repaired, "y.w")[0, 0], np.outer(line, line), rtol=0.03, atol=0.01)


def test_the_twin_without_a_filter_needs_no_repair() -> None:
    """Dense, then subsampled by the single tap 1: the same function, so any error would be a misplaced sample."""
    original, twin = residual_pair(taps=ONE)
    repaired, layers = repair(original, twin, noise(4, 3, 16, 16))
    assert [layer.name for layer in layers] == ["branch1", "branch2", "depthwise", "head"]
    assert all(layer.before < 1e-10 for layer in layers)
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(run(repaired, x), run(original, x), atol=1e-4)


def test_a_dense_layer_behind_a_blur_is_compared_at_the_strided_positions() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.standard_normal((4, 2, 3, 3)), rng.standard_normal((4, 4, 3, 3))
    original, twin = Net(["n", 2, 19, 22]), Net(["n", 2, 19, 22])
    original.conv("x", "a", first, strides=[2, 2], pads=[1, 0, 1, 1])
    original.conv("a", "b", second, strides=[2, 2], pads=[1] * 4)
    twin.conv("x", "a/dense", first, pads=[1, 0, 1, 1], name="a")
    twin.blur("a/dense", "a", 4, 2, ONE)
    twin.conv("a", "b/dense", second, pads=[1] * 4, name="b")
    twin.blur("b/dense", "b", 4, 2, ONE)
    _, layers = repair(original.model("b"), twin.model("b"), noise(4, 2, 19, 22))
    assert [layer.name for layer in layers] == ["b"]
    assert layers[0].before < 1e-10


def test_no_layer_gets_worse_and_the_output_gets_better() -> None:
    original, rewritten = residual_pair()
    repaired, layers = repair(original, rewritten, noise(16, 3, 16, 16, batches=8))
    assert all(layer.own_after <= layer.own_before for layer in layers)
    assert all(layer.after <= layer.before for layer in layers)
    x = np.random.default_rng(5).standard_normal((64, 3, 16, 16)).astype(np.float32)
    want = run(original, x)
    assert np.square(run(repaired, x) - want).mean() < 0.7 * np.square(run(rewritten, x) - want).mean()
    onnx.checker.check_model(repaired)


def test_noise_is_not_fitted() -> None:
    """With far fewer samples than unknowns, what is chosen still does no worse on samples left out."""
    original, rewritten = residual_pair()
    _, layers = repair(original, rewritten, noise(3, 3, 16, 16, batches=1), RepairOptions(positions=4))
    assert all(layer.after <= layer.before for layer in layers)


def test_shared_weights_are_left_alone_with_the_reason() -> None:
    def share(net: Net) -> None:
        for node in net.nodes:
            if node.name == "branch2":
                node.input[1] = "branch1.w"

    original, rewritten = residual_pair(edit=share)
    repaired, layers = repair(original, rewritten, noise(4, 3, 16, 16))
    reasons = {layer.name: layer.reason for layer in layers}
    assert reasons["branch1"] == "its weights are shared with branch2"
    assert reasons["branch2"] == "its weights are shared with branch1"
    np.testing.assert_array_equal(stored(repaired, "branch1.w"), stored(rewritten, "branch1.w"))


def test_all_views_get_the_same_new_weights_and_biases() -> None:
    """The second view reads the weights of the first; a conv without a bias gets one in both."""
    original = two_stages()
    rewritten = rewrite(original, Recipe(conv="before", shortcut="conv", views="2")).model
    repaired, layers = repair(original, rewritten, noise(8, 3, 17, 17, batches=6))
    assert {layer.name for layer in layers} == {"second", "shortcut", "inner"}
    assert all(layer.repaired for layer in layers)
    assert all(layer.own_after <= layer.own_before for layer in layers)
    nodes = {node.output[0]: node for node in repaired.graph.node}
    for layer in layers:
        first, copy = nodes[layer.name], nodes[f"{layer.name}/view2"]
        assert len(first.input) == 3
        assert list(first.input[1:]) == list(copy.input[1:])
        assert (stored(repaired, first.input[1]) != stored(rewritten, first.input[1])).any()


def test_the_same_seed_gives_the_same_bytes_and_arguments_stay_as_they_are() -> None:
    original, rewritten = residual_pair()
    before = original.SerializeToString(), rewritten.SerializeToString()
    options = RepairOptions(positions=16, seed=3)
    results = [repair(original, rewritten, noise(4, 3, 16, 16), options)[0] for _ in range(2)]
    assert results[0].SerializeToString() == results[1].SerializeToString()
    other = repair(original, rewritten, noise(4, 3, 16, 16), RepairOptions(positions=16, seed=4))[0]
    assert other.SerializeToString() != results[0].SerializeToString()
    assert (original.SerializeToString(), rewritten.SerializeToString()) == before


def test_memory_changes_the_time_not_the_result() -> None:
    original, rewritten = residual_pair()
    roomy, cramped = (
        repair(original, rewritten, noise(4, 3, 16, 16), RepairOptions(memory=memory))[0] for memory in (1 << 30, 0)
    )
    for tensor in roomy.graph.initializer:
        value = numpy_helper.to_array(tensor)
        np.testing.assert_allclose(stored(cramped, tensor.name), value, rtol=1e-3, atol=1e-4)


def test_a_matmul_head_is_repaired_with_the_bias_added_behind_it() -> None:
    rng = np.random.default_rng(4)
    nets = []
    for blurred in (False, True):
        net = Net(["n", 3, 8, 8])
        source = net.blur("x", "blurred", 3, 1) if blurred else "x"
        net.node("Flatten", [source], "flat", name="flatten")
        net.constant("w", np.random.default_rng(0).standard_normal((192, 4)))
        net.constant("b", np.ones(4))
        net.node("MatMul", ["flat", "w"], "product")
        net.node("Add", ["product", "b"], "y")
        nets.append(net.model("y", 2))

    data = [{"x": (rng.standard_normal((16, 3, 8, 8)) + 1.0).astype(np.float32)} for _ in range(40)]
    repaired, (layer,) = repair(nets[0], nets[1], lambda: data)
    assert layer.kind == "MatMul"
    assert layer.after < 0.8 * layer.before
    x = data[0]["x"]
    assert abs((run(repaired, x) - run(nets[0], x)).mean()) < abs((run(nets[1], x) - run(nets[0], x)).mean()) + 0.05
    assert not np.allclose(stored(repaired, "b"), 1.0)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ([], "there are no calibration data"),
        ([{"y": np.zeros((1, 3, 16, 16), np.float32)}], "lack the model's input x"),
        ([{"x": np.zeros((1, 4, 16, 16), np.float32)}], "does not run on the calibration data"),
        ([{"x": np.full((1, 3, 16, 16), np.nan, np.float32)}], "not finite"),
    ],
)
def test_wrong_data_is_one_clear_line(feeds: list[dict[str, np.ndarray]], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        repair(*residual_pair(), lambda: feeds)
    assert "\n" not in str(caught.value)


def test_a_quantised_model_is_refused() -> None:
    original, rewritten = residual_pair()
    rewritten.graph.node.append(helper.make_node("QuantizeLinear", ["sum", "s", "z"], ["q"], name="quant"))
    with pytest.raises(CannotHandle, match="quantised"):
        repair(original, rewritten, noise(1, 3, 16, 16))
