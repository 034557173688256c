"""One layer's problem: samples of each group, of block sums, and of what an activation clips."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from pairs import Net, noise, residual_pair, stored
from reference import run

from aarewrite.calibration.layers import Layer, find_layers
from aarewrite.calibration.problem import LayerProblem
from aarewrite.calibration.repair import RepairOptions, repair
from aarewrite.errors import UsageError


def test_grouped_equals_each_group_on_its_own() -> None:
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((6, 2, 3, 3))
    pairs = []
    for blurred in (False, True):
        grouped, split = Net(["n", 4, 10, 10]), Net(["n", 4, 10, 10])
        source = "x"
        for net in (grouped, split):
            source = net.blur("x", "blurred", 4, 1) if blurred else "x"
        grouped.conv(source, "y", weight, group=2)
        split.nodes.append(helper.make_node("Split", [source], ["s0", "s1"], axis=1, name="split"))
        split.conv("s0", "y0", weight[:3])
        split.conv("s1", "y1", weight[3:])
        split.node("Concat", ["y0", "y1"], "y", axis=1)
        pairs.append((grouped.model("y"), split.model("y")))
    options = RepairOptions(alphas=(1e-2,), positions=1000)
    together, _ = repair(pairs[0][0], pairs[1][0], noise(8, 4, 10, 10), options)
    apart, _ = repair(pairs[0][1], pairs[1][1], noise(8, 4, 10, 10), options)
    separate = np.concatenate([stored(apart, "y0.w"), stored(apart, "y1.w")])
    np.testing.assert_allclose(stored(together, "y.w"), separate, rtol=1e-5, atol=1e-6)
    assert np.abs(separate - weight).max() > 0.05


def clipped_layer() -> tuple[onnx.ModelProto, Layer]:
    """A 1x1 conv in front of a Relu, its weights still zero."""
    net = Net(["n", 3, 8, 8])
    net.node("Identity", ["x"], "seen")
    net.conv("seen", "y", np.zeros((2, 3, 1, 1)), np.zeros(2))
    net.node("Relu", ["y"], "z")
    return net.model("z"), Layer("y", "Conv", 1, 0, "seen", "y", "y.w", "y.b", (1,), low=0.0)


@pytest.mark.parametrize("rounds", [0, 40])
def test_what_the_activation_clips_does_not_count(rounds: int) -> None:
    """Where the target is negative it is moved at random: the weights that made the rest are still found."""
    model, layer = clipped_layer()
    problem = LayerProblem(model, layer, RepairOptions(folds=2, impute=rounds, alphas=(1e-9, 1e-6)))
    assert (layer.reads, layer.aim) == (["seen"], "y")
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((2, 3)).astype(np.float32)
    for _ in range(4):
        x = rng.standard_normal((4, 3, 8, 8)).astype(np.float32)
        y = np.einsum("oi,nihw->nohw", weight, x)
        y = np.where(y < 0, y - rng.exponential(3.0, y.shape).astype(np.float32), y)
        problem.add({"seen": x}, {"y": y})
    found = problem.solve(1e-9)
    error = np.abs(found.weight[0].T - weight).max()
    assert error < 0.02 if rounds else error > 0.2
    assert found.own_after < found.own_before


def test_the_branch_makes_up_for_what_the_shortcut_lost() -> None:
    """branch2 is fitted to the block's sum: the sum comes closer than with the branch fitted to the branch alone."""
    original, rewritten = residual_pair()
    errors = []
    for residual in (True, False):
        repaired, _ = repair(
            original, rewritten, noise(16, 3, 16, 16), RepairOptions(impute=0, residual=residual, positions=64)
        )
        x = next(iter(noise(16, 3, 16, 16, seed=5)()))
        errors.append(np.square(inner(repaired, "sum", x) - inner(original, "sum", x)).mean())
    assert errors[0] < 0.9 * errors[1]


def inner(model: onnx.ModelProto, tensor: str, feed: dict[str, np.ndarray]) -> np.ndarray:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.append(onnx.ValueInfoProto(name=tensor))
    return run(probe, **feed)[-1]


def test_values_that_are_not_finite_name_the_layer() -> None:
    original, rewritten = residual_pair()
    layer = find_layers(original, rewritten)[0][0]
    problem = LayerProblem(rewritten, layer, RepairOptions())
    nan = np.full((1, 8, 8, 8), np.nan, np.float32)
    with pytest.raises(UsageError, match="layer branch1: values on the calibration data are not finite"):
        problem.add({layer.input: nan}, {layer.target: nan})
