"""`aarewrite.calibrate`: repair and judgement on samples held out, limits, wrong requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from pairs import residual_pair

import aarewrite
from aarewrite.calibration.budget import rewrite_within
from aarewrite.calibration.run import repair_and_judge
from aarewrite.data.canvases import from_array
from aarewrite.recipe import load_recipe

SAMPLES = Path(__file__).parents[2] / "sample_models"
DIGITS = SAMPLES / "digits_eval.npz"
SIGNALS = SAMPLES / "signals_eval.npz"


def test_a_rewrite_is_repaired_and_judged_on_samples_held_out() -> None:
    original, rewritten = residual_pair()
    data = np.random.default_rng(0).standard_normal((24, 3, 24, 24)).astype(np.float32)
    canvases = from_array(data, "x", size=(16, 16), labels=np.arange(24) % 5)
    found = repair_and_judge(original, rewritten, canvases, hold_out=0.25)
    assert [layer.name for layer in found.layers] == ["branch1", "branch2", "depthwise", "head"]
    assert (found.fitted, found.judged) == (18, 6)
    assert found.verdict is not None
    assert found.verdict.images == 6
    assert found.verdict.top1 is not None
    assert found.drift is None


@pytest.fixture(scope="module")
def calibrated() -> onnx.ModelProto:
    return aarewrite.calibrate(SAMPLES / "conv1d.onnx", SIGNALS, preprocess="unit", limit=30).model


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(calibrated: onnx.ModelProto) -> None:
    again, other = (
        aarewrite.calibrate(SAMPLES / "conv1d.onnx", SIGNALS, preprocess="unit", limit=30, seed=seed).model
        for seed in (0, 1)
    )
    assert again.SerializeToString() == calibrated.SerializeToString()
    assert other.SerializeToString() != calibrated.SerializeToString()


def test_only_weights_behind_a_blur_change(calibrated: onnx.ModelProto) -> None:
    model = onnx.load(SAMPLES / "conv1d.onnx")
    rewritten = rewrite_within(model, load_recipe("calibrated").with_options(strength=0.5)).model
    assert [node.op_type for node in calibrated.graph.node] == [node.op_type for node in rewritten.graph.node]
    before, after = ({t.name: t.SerializeToString() for t in m.graph.initializer} for m in (rewritten, calibrated))
    first = next(node for node in model.graph.node if node.op_type == "Conv").input[1]
    assert before[first] == after[first]
    assert any(before[name] != after[name] for name in before)


def test_nothing_within_the_limits_is_said(images: Path) -> None:
    with pytest.raises(aarewrite.CannotHandle, match="no choice at any site is better within the limits") as caught:
        aarewrite.calibrate(tensorflow_like(), images, preprocess="unit", strength="auto", budget="1x")
    assert "everything is over the budget); allow more with" in str(caught.value)


def test_a_ratio_limits_the_measured_latency_too(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aarewrite.calibration.run.latency_ratio", lambda *_: 5.0)
    request: dict[str, Any] = {"model": tensorflow_like(), "data": images, "recipe": "aligned", "preprocess": "unit"}
    slow = aarewrite.calibrate(budget="9x", **request)
    assert slow.latency == 5.0
    assert not any("time" in one for one in slow.failures)
    slow = aarewrite.calibrate(budget="4x", **request)
    assert "takes 5.00x the original's time, over the budget of 4.00x" in slow.failures
    with pytest.raises(aarewrite.CannotHandle, match="everything is over the budget"):
        aarewrite.calibrate(budget="4x", strength="auto", **request)
    in_macs = aarewrite.calibrate(budget="1GMAC", **request)
    assert in_macs.latency is None  # a budget of multiply-accumulates is about those alone


def test_a_filter_that_is_asked_for_is_taken_and_searched_with(images: Path) -> None:
    request: dict[str, Any] = {"preprocess": "unit", "filter": 2}
    (site,) = aarewrite.calibrate(tensorflow_like(), images, recipe="aligned", **request).rewritten.plan.rewrites
    assert (site.do.filter, site.do.strength) == (2, 1.0)  # an even filter has no centre to be mixed with
    found = aarewrite.calibrate(
        tensorflow_like(), images, strength="auto", budget="1GMAC", max_disagreement=1.0, **request
    )
    tried = {label for trial in found.trials for _, label in trial.chosen}
    assert tried == {"after, f=2, strength 1", "before, f=2, strength 1", "a trous"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(path, x=np.random.default_rng(1).integers(0, 256, (30, 40, 40, 3), dtype=np.uint8))
    return path


def tensorflow_like() -> onnx.ModelProto:
    """A fixed batch of 1, channels last, an explicit Pad in front of a VALID strided conv."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 13]>
        net (float[1, 32, 32, 3] image) => (float[1, 5] scores)
        <int64[8] pads = {0, 0, 0, 0, 0, 0, 1, 1}> {
            first = Transpose <perm = [0, 3, 1, 2]> (image)
            stem = Conv <auto_pad = "SAME_UPPER"> (first, w1)
            stem_act = Relu (stem)
            padded = Pad (stem_act, pads)
            down = Conv <strides = [2, 2], auto_pad = "VALID"> (padded, w2)
            down_act = Relu (down)
            deep = Conv <pads = [1, 1, 1, 1]> (down_act, w3)
            pooled = GlobalAveragePool (deep)
            flat = Flatten (pooled)
            scores = Gemm (flat, w4)
        }"""
    )
    rng = np.random.default_rng(0)
    for name, shape in (("w1", (6, 3, 3, 3)), ("w2", (8, 6, 3, 3)), ("w3", (8, 8, 3, 3)), ("w4", (8, 5))):
        value = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    return model


def test_a_fixed_batch_of_one_channels_last_with_explicit_pads(images: Path) -> None:
    found = aarewrite.calibrate(tensorflow_like(), images, recipe="aligned", preprocess="unit")
    deep, scores = found.outcome.layers
    assert (deep.name, scores.name) == ("deep", "scores")
    assert deep.repaired
    assert deep.own_after < 0.6 * deep.own_before
    assert scores.own_after <= scores.own_before
    onnx.checker.check_model(found.model, full_check=True)
    assert found.model.graph.input[0] == tensorflow_like().graph.input[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": "much"}, "--strength 'much' is neither auto nor a number"),
        ({"strength": 2}, "strength = 2.0 is not above 0"),
        ({"hold_out": 1.5}, "cannot hold out a share of 1.5"),
        ({"limit": 1}, "too few"),
    ],
)
def test_wrong_requests(options: dict[str, Any], message: str) -> None:
    with pytest.raises(aarewrite.UsageError) as caught:
        aarewrite.calibrate(SAMPLES / "resnet.onnx", DIGITS, preprocess="unit", **options)
    assert message in str(caught.value)


def test_noise_is_refused() -> None:
    for data in ("synthetic", "synthetic:50"):
        with pytest.raises(aarewrite.UsageError, match="noise fits weights to noise") as caught:
            aarewrite.calibrate(SAMPLES / "resnet.onnx", data)
        assert caught.value.next_step == "give photographs, or whatever the model sees"


def test_preprocessing_that_looks_wrong_speaks_against_the_result() -> None:
    found = aarewrite.calibrate(SAMPLES / "resnet.onnx", DIGITS, preprocess="raw255", limit=60)
    assert not found.better
    assert found.failures[0].startswith("the preprocessing looks wrong (raw255): 58 of 60 samples get class 8")
    assert found.failures[0].endswith("; what fits better: unit (57 of 60 labels fit)")


def test_one_broken_image_does_not_end_it(folder: Path) -> None:
    (folder / "broken.png").write_text("hello")
    found = aarewrite.calibrate(tensorflow_like(), folder, recipe="aligned", preprocess="unit")
    assert found.data.startswith("13 of 13 images in images/, 1 of them not read: ")
    assert (found.outcome.fitted, found.outcome.judged) == (8, 4)
