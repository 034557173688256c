"""Repair and judgement on small models, samples held out."""

from __future__ import annotations

import numpy as np
from pairs import residual_pair

from aarewrite.calibration.run import repair_and_judge
from aarewrite.data.canvases import from_array


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
