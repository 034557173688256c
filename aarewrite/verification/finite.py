"""Outputs that nothing can be measured of: NaN, or infinite."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aarewrite.data.arrays import Array
from aarewrite.errors import CheckFailed

NEXT_STEP = "check the preprocessing and the model's weights"


def demand_finite(model: str, outputs: Mapping[str, Array], seen: str = "", excluded: bool = False) -> None:
    """Refuse an output that holds NaN or infinities, by its name and that of the view it was `seen` for.

    With `excluded` some may be minus infinity, as scores of what cannot be are; not all.

    Raises:
        CheckFailed: Nothing can be measured.
    """
    for name, values in outputs.items():
        if values.dtype.kind != "f" or not values.size:
            continue
        finite = np.isfinite(values)
        if finite.all():
            continue
        if np.isnan(values).any():
            what = "NaN"
        elif not (excluded and finite.any() and not np.isposinf(values).any()):
            what = "infinite"
        else:
            continue
        where = f" for {seen}" if seen else ""
        raise CheckFailed(f"{model}: output {name!r} is {what}{where}: nothing can be measured", NEXT_STEP)


def says_nothing(outputs: Mapping[str, Array]) -> bool:
    """Whether no output has a value that is a number."""
    return bool(outputs) and all(a.dtype.kind == "f" and a.size and np.isnan(a).all() for a in outputs.values())
