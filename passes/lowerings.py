"""The registry of lowerings, the one that is fastest on ONNX Runtime's CPU provider first."""

from __future__ import annotations

from aarewrite.passes.corrected_blur import CorrectedBlur
from aarewrite.passes.lowering import Lowering
from aarewrite.passes.pooled_blur import PooledBlur
from aarewrite.passes.sliced_blur import SlicedBlur

LOWERINGS: tuple[type[Lowering], ...] = (PooledBlur, CorrectedBlur, SlicedBlur)
