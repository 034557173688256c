"""A camera's views kept, and what classifiers answer to them, against numbers counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_nets import blurred_classifier, phase_classifier, save, stripes, subsample_map

from aarewrite.calibration.exposures import CONDITION, Exposures, Steadiness
from aarewrite.data.camera import draw_camera_pairs
from aarewrite.data.setup import Setup, open_setup
from aarewrite.errors import CannotHandle
from aarewrite.model.runner import Model


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    data = save(tmp_path / "stripes.npz", x=(stripes(12) * 255).astype(np.uint8), labels=[1] * 12)
    return open_setup(phase_classifier(), data, preprocess="unit", seed=5)


def test_classes_are_those_of_the_views(setup: Setup) -> None:
    done = []
    kept = Exposures(setup, range(3, 12), pairs=3, seed=5, advance=done.append)
    found = kept.of(phase_classifier(), done.append)
    assert sum(done) == 18
    model = Model(phase_classifier())
    for k, index in enumerate(range(3, 12)):
        scene = setup.scene(setup.sample(index))
        pairs = draw_camera_pairs(5, index, setup.geometry, (CONDITION,), 3)
        views = np.stack([scene.view(view) for pair in pairs for view in pair.views])
        tops = model.run({"x": views})["logits"].argmax(1).reshape(-1, 2)
        equal, near = tops[:, 0] == tops[:, 1], np.array([pair.near for pair in pairs])
        assert (found.near[k], found.far[k]) == (equal[near].mean(), equal[~near].mean())
        assert found.top1 is not None
        assert found.top1[k] == tops.mean()


def test_paired_changes_have_the_sign_of_the_model_under_test(setup: Setup) -> None:
    kept = Exposures(setup, range(12))
    before, after = kept.of(phase_classifier()), kept.of(blurred_classifier())
    changes = after.against(before)
    assert changes.near.change == pytest.approx(100 * (1 - before.near.mean()))
    assert changes.far.change > 20
    assert changes.top1 is not None
    assert changes.top1.after == 100
    assert before.against(after).far.change == -changes.far.change


def test_figures_are_joined_and_written_and_read(setup: Setup) -> None:
    whole = Exposures(setup, range(12)).of(phase_classifier())
    parts = [Exposures(setup, part).of(phase_classifier()) for part in (range(5), range(5, 12))]
    for one in (Steadiness.joined(parts), Steadiness.of(whole.to_dict())):
        assert np.array_equal(one.near, whole.near)
        assert np.array_equal(one.far, whole.far)
        assert np.array_equal(one.top1, whole.top1)


def test_what_is_no_classifier_is_refused(setup: Setup) -> None:
    with pytest.raises(CannotHandle, match="no vector of classes; take a classifier"):
        Exposures(setup, range(2)).of(subsample_map())
