"""Anti-aliasing trained weights without training: closed-form repair behind inserted blurs."""

from __future__ import annotations

from aarewrite.calibration.calibrate import Calibration, calibrate
from aarewrite.calibration.judge import Answers, Drift, Effect, Judge, Verdict, answer, compare, drift
from aarewrite.calibration.layers import Layer, Left, find_layers
from aarewrite.calibration.repair import LayerRepair, RepairOptions, repair
from aarewrite.calibration.search import Choice, SearchOptions, SearchResult, Trial, Variants, search
from aarewrite.data.canvases import Canvases, from_array
from aarewrite.verification.statistics import Difference

__all__ = [
    "Answers",
    "Calibration",
    "Canvases",
    "Choice",
    "Difference",
    "Drift",
    "Effect",
    "Judge",
    "Layer",
    "LayerRepair",
    "Left",
    "RepairOptions",
    "SearchOptions",
    "SearchResult",
    "Trial",
    "Variants",
    "Verdict",
    "answer",
    "calibrate",
    "compare",
    "drift",
    "find_layers",
    "from_array",
    "repair",
    "search",
]
