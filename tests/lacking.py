"""What a target lacks of a single operator, for the tests of each."""

from __future__ import annotations

from typing import Any

from reference import build

from aarewrite.targets.support import unsupported

PADS = "pads = Constant<value = int64[8] {0, 0, 1, 1, 0, 0, 1, 1}>()"


def lacking(
    target: str,
    call: str,
    kind: str = "float",
    shape: str = "1, 4, 8, 8",
    before: str = "",
    out: str = "",
    **options: Any,
) -> str:
    """The one line about `y = call` of a map `x`, without operator and name; "" where the target takes it.

    `before` are nodes that it reads, `out` is its type where it is not that of `x`; the rest is as in `build`.
    """
    model = build(f"({kind}[{shape}] x) => ({out or kind}[] y) {{ {before} y = {call} }}", **options)
    found = unsupported(model, target)
    assert len(found) <= 1, found
    return found[0].rpartition("'y': ")[2] if found else ""


def reflect_pad(target: str, opset: int, kind: str = "float") -> str:
    """What it lacks of the Pad of a blur."""
    return lacking(target, 'Pad<mode = "reflect">(x, pads)', kind, before=PADS, opset=opset)
