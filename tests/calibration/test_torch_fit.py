"""Fitting in PyTorch: what it is held against, which exposures a step sees, what is kept."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from reference import Array
from small_nets import blurred_classifier, parse, phase_classifier, save, stripes

from aarewrite.data.canvases import Canvases, from_setup
from aarewrite.data.setup import open_setup
from aarewrite.errors import CannotHandle, CheckFailed

pytest.importorskip("torch")
from aarewrite.calibration.torch_fit import BATCH, Fitting, State


@pytest.fixture
def canvases(tmp_path) -> Canvases:
    data = save(tmp_path / "stripes.npz", x=(stripes(4) * 255).astype(np.uint8))
    return from_setup(open_setup(phase_classifier(), data, preprocess="unit"))


def views(count: int = 3) -> list[Array]:
    return list(np.random.default_rng(0).random((count, 1, 16, 16), np.float32))


def test_pytorch_is_held_against_onnx_runtime(canvases: Canvases) -> None:
    fitting = Fitting(phase_classifier(), "cpu", 0)
    fitting.agree(phase_classifier(), canvases, views(), 1e-6)
    moved = phase_classifier()
    head = next(one for one in moved.graph.initializer if one.name == "head")
    head.CopyFrom(onnx.numpy_helper.from_array(np.array([0, 1.01], np.float32).reshape(2, 1, 1, 1), "head"))
    with pytest.raises(
        CheckFailed, match=r"PyTorch and ONNX Runtime differ by 0\.0\d+ of the largest value; nothing was"
    ):
        fitting.agree(moved, canvases, views(), 1e-3)


def test_every_image_comes_once_before_any_comes_again() -> None:
    fitting = Fitting(phase_classifier(), "cpu", 5)
    images = 3 * BATCH // 2
    drawn = [fitting._drawn(step, images, 4) for step in range(6)]
    order = np.concatenate([one for one, _ in drawn]).reshape(4, images)
    assert (np.sort(order) == np.arange(images)).all()
    assert len({tuple(one) for one in order.tolist()}) == 4
    assert set(np.concatenate([one for _, one in drawn]).tolist()) == {0, 1, 2, 3}
    again = Fitting(phase_classifier(), "cpu", 5)._drawn(3, images, 4)
    assert (np.stack(again) == np.stack(drawn[3])).all()


def test_without_a_step_the_weights_are_those_of_the_model() -> None:
    model = blurred_classifier()
    written = Fitting(model, "cpu", 0).written()
    for before, after in zip(model.graph.initializer, written.graph.initializer, strict=True):
        found, wanted = (onnx.numpy_helper.to_array(one) for one in (after, before))
        assert found == pytest.approx(wanted, rel=1e-6)


def test_the_loss_is_that_of_the_first_and_the_last_tenth() -> None:
    assert State(losses=[float(k) for k in range(30)]).loss() == (1.0, 28.0)
    assert State(losses=[2.0]).loss() == (2.0, 2.0)


def test_what_has_no_weights_or_no_translation_is_refused() -> None:
    with pytest.raises(CannotHandle, match="the model has no float32 weights to fit"):
        Fitting(parse("bare (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"), "cpu", 0)
    with pytest.raises(CannotHandle, match="TopK cannot be trained"):
        Fitting(
            parse("""top (float[N,4] x) => (float[N,1] y, int64[N,1] i) <int64[1] k = {1}> { y, i = TopK(x, k) }"""),
            "cpu",
            0,
        )
