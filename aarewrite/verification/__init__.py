"""Verification: shift consistency and numeric parity of any ONNX model.

`verify` measures one model, `before_after` a rewritten one against its original; both return a `VerifyReport`.
Imported lazily, because ONNX Runtime takes a fifth of a second that `--help` should not pay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aarewrite.verification.result import VerifyReport
    from aarewrite.verification.run import before_after, verify

__all__ = ["VerifyReport", "before_after", "verify"]
_HOMES = {"VerifyReport": "result", "before_after": "run", "verify": "run"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
