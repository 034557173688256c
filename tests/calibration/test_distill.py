"""Weights fitted to the average over a camera's views make a net steady that can be, and nothing else changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from small_nets import parse, phase_classifier, save, stripes, subsample_map

import aarewrite.calibration.distill as module
from aarewrite.calibration.distill import Distilled, distill
from aarewrite.errors import CannotHandle, UsageError


def learner(batch: str = "N", end: str = "logits = Flatten(scores)") -> onnx.ModelProto:
    """`phase_classifier` with a kernel of three taps, of which it uses the middle one: it can learn a blur."""
    return parse(f"""
    learner (float[{batch},1,16,16] x) => (float[{batch},2] logits)
    <float[1,1,1,3] w = {{0, 2, 0}}, float[2,1,1,1] head = {{0, 4}}, float[2] bias = {{4, 0}}> {{
        kept = Conv<strides = [2, 2], pads = [0, 1, 0, 1]>(x, w)
        mean = GlobalAveragePool(kept)
        scores = Conv(mean, head, bias)
        {end}
    }}""")


@pytest.fixture
def data(tmp_path: Path) -> str:
    bright = np.random.default_rng(0).uniform(150, 255, (40, 1, 1, 1))
    return save(tmp_path / "stripes.npz", x=(stripes(40) * bright).astype(np.uint8), labels=[0] * 40)


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """A clock that a second passes on whenever it is looked at: a step takes one."""
    pytest.importorskip("torch")
    import aarewrite.calibration.torch_fit as fit

    monkeypatch.setattr(fit, "RATE", 0.02)
    now = [0.0]

    def tick() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(fit.time, "monotonic", tick)
    return tick


def found(data: str, model: onnx.ModelProto | None = None, **options: object) -> Distilled:
    return distill(model or learner(), data, **{"preprocess": "unit", "minutes": 5, "hold_out": 0.5} | options)


def test_a_net_that_can_learn_to_be_steady_does_and_only_its_weights_change(data: str, ticking: object) -> None:
    result = found(data)
    assert result.failures == ()
    assert result.verdict.better
    assert result.verdict.consistency.low > 0
    assert (result.fitted, result.verdict.images, result.exposures) == (20, 20, 16)
    assert result.loss[1] < 0.8 * result.loss[0]
    before, after = learner().graph, result.model.graph
    assert list(after.node) == list(before.node)
    assert [one.name for one in after.initializer] == [one.name for one in before.initializer]
    left, middle, right = onnx.numpy_helper.to_array(after.initializer[0]).reshape(-1).tolist()
    assert min(left, right) > 0.1
    assert middle < 1.9
    table = json.loads(json.dumps(result.to_dict()))
    assert table["better"] is True
    assert table["steps"] == result.steps
    assert "weights distilled on 20 samples of" in result.caption()


@pytest.mark.parametrize("batch", ["N", "1"])
@pytest.mark.parametrize("end", ["flat = Flatten(scores) logits = Softmax(flat)", "logits = Flatten(scores)"])
def test_probabilities_and_a_fixed_batch_are_no_matter(data: str, ticking: object, batch: str, end: str) -> None:
    result = found(data, learner(batch, end), minutes=3)
    assert result.loss[1] < result.loss[0]


def test_the_same_request_gives_the_same_weights(data: str, ticking: object) -> None:
    first, second, other = (found(data, minutes=0.5, seed=seed).model for seed in (0, 0, 1))
    assert first.SerializeToString() == second.SerializeToString()
    assert first.SerializeToString() != other.SerializeToString()


def test_an_interrupted_run_goes_on_where_it_was(
    data: str, ticking: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import aarewrite.calibration.torch_fit as fit

    monkeypatch.setattr(fit, "SAVED", 0.0)
    kept, steps = tmp_path / "kept.pt", []
    plain = fit.Fitting._drawn

    def drawn(self: fit.Fitting, step: int, *sizes: int) -> object:
        steps.append(step)
        if steps == [*range(11)]:
            raise KeyboardInterrupt
        return plain(self, step, *sizes)

    whole = found(data, minutes=0.5)
    monkeypatch.setattr(fit.Fitting, "_drawn", drawn)
    with pytest.raises(KeyboardInterrupt):
        found(data, minutes=0.5, resume=kept)
    result = found(data, minutes=0.5, resume=kept)
    assert steps[:13] == [*range(11), 10, 11]
    assert result.steps >= whole.steps - 2  # the clock is looked at when a run begins, too
    again = len(steps)
    found(data, minutes=0.2, resume=kept, seed=3)
    assert steps[again] == 0, "the state of another request is not taken"
    kept.write_bytes(b"nothing of ours")
    with pytest.raises(UsageError, match="cannot be resumed"):
        found(data, minutes=0.5, resume=kept)


def test_a_teacher_is_what_is_averaged_and_judged_against(data: str, ticking: object) -> None:
    moved = learner()
    moved.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.full((1, 1, 1, 3), 2 / 3, np.float32), "w"))
    with pytest.raises(UsageError, match=r"the preprocessing looks wrong.*nothing was fitted: set --preprocess"):
        found(data, moved, teacher=learner(), minutes=0.5)
    result = found(data, moved, teacher=learner(), minutes=0.5, force=True)
    assert result.verdict.consistency.low > 0  # a blur's far agreement against that of its original


def test_a_result_that_is_not_better_says_so(data: str, ticking: object) -> None:
    steady = parse("""
    steady (float[N,1,16,16] x) => (float[N,2] logits) <float[2,1,1,1] head = {0, 8}, float[2] bias = {4, 0}> {
        mean = GlobalAveragePool(x)
        scores = Conv(mean, head, bias)
        logits = Flatten(scores)
    }""")
    result = found(data, steady, minutes=0.5)
    assert any(one.startswith("no difference shown on 20 samples held out: far agreement") for one in result.failures)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"minutes": 0}, "--minutes 0: no time"),
        ({"device": "tpu"}, "--device tpu: unknown"),
        ({"limit": 20}, "20 images show nothing"),
        ({"hold_out": 1.5}, "cannot hold out a share of 1.5"),
    ],
)
def test_wrong_requests_are_refused(data: str, options: dict[str, object], says: str) -> None:
    pytest.importorskip("torch")
    with pytest.raises(UsageError, match=says):
        found(data, **options)


def test_what_is_no_picture_or_no_classifier_is_refused(data: str) -> None:
    pytest.importorskip("torch")
    with pytest.raises(UsageError, match="synthetic noise is no picture"):
        found("synthetic:40")
    with pytest.raises(CannotHandle, match="no vector of classes"):
        found(data, subsample_map())
    with pytest.raises(CannotHandle, match="no float32 weights"):
        found(data, parse("""
        bare (float[N,1,16,16] x) => (float[N,2] y) {
            mean = GlobalAveragePool(x)
            both = Concat<axis = 1>(mean, mean)
            y = Flatten(both)
        }"""))  # fmt: skip


def test_without_a_gpu_cuda_is_refused(data: str) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(CannotHandle, match="PyTorch finds no GPU"):
        found(data, device="cuda")


def test_without_torch_it_says_what_to_install(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        CannotHandle, match=r"needs PyTorch, which is not installed.*pip install 'aarewrite\[distill\]'"
    ):
        distill(phase_classifier(), data)
