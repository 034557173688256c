"""The registry of lowerings: one word each, and every form of the same blur computes the same."""

from __future__ import annotations

import numpy as np
from padded import padded
from reference import run, weight

from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import load
from aarewrite.model.shapes import Shapes
from aarewrite.passes.lowering import padded_blurs, replace
from aarewrite.passes.lowerings import LOWERINGS


def test_all_forms_of_one_blur_agree() -> None:
    model = padded((13, 12), (3, 3), (2, 2))
    x = weight(1, 16, 13, 12)
    expected = run(model, x=x)[0]
    for form in LOWERINGS:
        editor = GraphEditor(load(model))
        (blur,) = padded_blurs(editor, Shapes(editor, {}), lambda _: True)
        assert form.fits(blur)
        replace(editor, blur, form)
        assert np.abs(run(editor.export().to_proto(), x=x)[0] - expected).max() < 1e-6


def test_each_has_a_word_of_its_own() -> None:
    assert len({form.name for form in LOWERINGS}) == len(LOWERINGS)
