"""The whole way on small models: search or a given plan, repair, judgement on samples held out."""

from __future__ import annotations

import numpy as np
import pytest
from pairs import residual_pair
from test_search import Toy, aliasing

from aarewrite.calibration import SearchOptions, calibrate, from_array
from aarewrite.errors import CannotHandle, UsageError


def test_a_searched_plan_is_repaired_and_judged_on_samples_held_out() -> None:
    toy, canvases = Toy(), from_array(aliasing(60), "x", size=(16, 16))
    found = calibrate(
        toy.build({}), canvases, variants=toy, hold_out=0.25, search_options=SearchOptions(max_disagreement=0.6)
    )
    assert found.chosen == (("site", "blur"),)
    assert (found.fitted, found.judged) == (45, 15)
    assert found.verdict is not None
    assert found.verdict.images == 15
    assert found.drift is None
    assert len(found.trials) == 3


def test_a_given_rewrite_is_taken_as_it_is() -> None:
    original, rewritten = residual_pair()
    data = np.random.default_rng(0).standard_normal((24, 3, 24, 24)).astype(np.float32)
    canvases = from_array(data, "x", size=(16, 16), labels=np.arange(24) % 5)
    found = calibrate(original, canvases, rewritten=rewritten)
    assert [layer.name for layer in found.layers] == ["branch1", "branch2", "depthwise", "head"]
    assert found.trials == ()
    assert found.verdict is not None
    assert found.verdict.top1 is not None


def test_nothing_within_the_limits_is_said() -> None:
    toy, canvases = Toy(), from_array(aliasing(30), "x", size=(16, 16))
    with pytest.raises(CannotHandle, match="no choice at any site is better within the limits"):
        calibrate(toy.build({}), canvases, variants=toy, search_options=SearchOptions(max_disagreement=-1.0))
    with pytest.raises(UsageError, match="neither"):
        calibrate(toy.build({}), canvases)
