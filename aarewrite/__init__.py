"""aarewrite: make deployed ONNX models shift-invariant, with proof.

The public names are imported when they are first used, so that `import aarewrite` and `--help` stay fast.
"""

from __future__ import annotations

import importlib

from aarewrite.version import __version__

TYPE_CHECKING = False  # type checkers take it for true; typing takes longer to import than all of this
if TYPE_CHECKING:
    from aarewrite.calibration.run import calibrate
    from aarewrite.calibration.steady import steady
    from aarewrite.errors import AarewriteError, CannotHandle, CheckFailed, UsageError
    from aarewrite.plugins.onnx_ir import onnx_ir_pass
    from aarewrite.recipe import Recipe
    from aarewrite.rewriting.apply import Plan
    from aarewrite.rewriting.pipeline import Result, plan, rewrite
    from aarewrite.streaming.run import Streamed, plan_stream, stream
    from aarewrite.streaming.session import StreamingSession
    from aarewrite.timing.bench import Bench, bench
    from aarewrite.verification import VerifyReport, verify

_HOMES = {
    "AarewriteError": "errors",
    "Bench": "timing.bench",
    "CannotHandle": "errors",
    "CheckFailed": "errors",
    "UsageError": "errors",
    "Plan": "rewriting.apply",
    "Recipe": "recipe",
    "Result": "rewriting.pipeline",
    "onnx_ir_pass": "plugins.onnx_ir",
    "plan": "rewriting.pipeline",
    "VerifyReport": "verification",
    "bench": "timing.bench",
    "calibrate": "calibration.run",
    "rewrite": "rewriting.pipeline",
    "steady": "calibration.steady",
    "Streamed": "streaming.run",
    "StreamingSession": "streaming.session",
    "plan_stream": "streaming.run",
    "stream": "streaming.run",
    "verify": "verification",
}

__all__ = [
    "AarewriteError",
    "Bench",
    "CannotHandle",
    "CheckFailed",
    "Plan",
    "Recipe",
    "Result",
    "Streamed",
    "StreamingSession",
    "UsageError",
    "VerifyReport",
    "__version__",
    "bench",
    "calibrate",
    "onnx_ir_pass",
    "plan",
    "plan_stream",
    "rewrite",
    "steady",
    "stream",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'aarewrite' has no attribute {name!r}")
    return getattr(importlib.import_module(f"aarewrite.{_HOMES[name]}"), name)
