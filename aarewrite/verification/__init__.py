"""Verification: shift consistency and numeric parity of any ONNX model.

`verify` measures one model, `before_after` a rewritten one against its original; both return a `VerifyReport`.
"""

from __future__ import annotations

from aarewrite.verification.result import VerifyReport
from aarewrite.verification.run import before_after, verify

__all__ = ["VerifyReport", "before_after", "verify"]
