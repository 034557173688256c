"""The frontier as text."""

from __future__ import annotations

import pytest

from aarewrite.calibration.exposures import Changes
from aarewrite.calibration.steady import Row, Steady
from aarewrite.show.frontier_table import print_steady
from aarewrite.verification.statistics import Difference


def changes(far: float, top1: bool = True) -> Changes:
    near = Difference("near", 80.0, 81.0, -0.5, 2.5, 0.2, 40)
    return Changes(
        near,
        Difference("far", 70.0, 70.0 + far, far - 1, far + 1, 0.001, 40),
        Difference("top-1", 60.0, 60.5, -1, 2, 0.5, 40) if top1 else None,
    )


def test_rows_choice_and_confirmation(capsys: pytest.CaptureFixture[str]) -> None:
    best = Row("half blur, repaired", 1.05, 1.1, changes(4.0))
    rows = (best, Row("four views", 4.0, 4.2, reason="takes 4.20x the time, over 2.25x"), Row("ideal", reason="no"))
    print_steady(Steady(rows, best, None, changes(3.0, top1=False), (40, 30, 30), "100 images", "unit", ()))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "100 images: weights repaired on 40, candidates compared on 30",
        "preprocess unit",
        "candidate MACs time near far top-1 found",
        "half blur, repaired 1.05x 1.10x +1.00 [-0.50, +2.50] +4.00 [+3.00, +5.00] +0.50 [-1.00, +2.00] better",
        "four views 4.00x 4.20x takes 4.20x the time, over 2.25x",
        "ideal no",
        "changes in points, [95 % interval over images], of pairs of views under a camera, "
        "near (at most 1 px apart) and far",
        "chose half blur, repaired, the steadiest of what is better",
        "on 30 images that it was not chosen by: near 80.0 -> 81.0, +1.00 [-0.50, +2.50]; "
        "far 70.0 -> 73.0, +3.00 [+2.00, +4.00]",
    ]


def test_no_choice(capsys: pytest.CaptureFixture[str]) -> None:
    print_steady(Steady((Row("ideal", reason="no"),), None, None, None, (4, 3, 3), "10 images", "unit", ("none",)))
    assert "chose" not in capsys.readouterr().out
