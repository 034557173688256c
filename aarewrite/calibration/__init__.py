"""Anti-aliasing trained weights without training: closed-form repair behind inserted blurs."""

from __future__ import annotations

from aarewrite.calibration.canvases import Canvases, from_array
from aarewrite.calibration.judge import Verdict, answer, compare, drift
from aarewrite.calibration.repair import LayerRepair, RepairOptions, repair

__all__ = [
    "Canvases",
    "LayerRepair",
    "RepairOptions",
    "Verdict",
    "answer",
    "compare",
    "drift",
    "from_array",
    "repair",
]
