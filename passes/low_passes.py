"""The registry of low-pass filters: what the option `filter` may be."""

from __future__ import annotations

from aarewrite.errors import UsageError
from aarewrite.passes.binomial import Binomial
from aarewrite.passes.contract import LowPass
from aarewrite.passes.ideal import Ideal
from aarewrite.passes.sinc import WindowedSinc

LOW_PASSES: tuple[type[LowPass], ...] = (Binomial, WindowedSinc, Ideal)
FILTERS: dict[int | str, type[LowPass]] = {name: kind for kind in LOW_PASSES for name in kind.names}


def check_filter(what: str, value: object) -> None:
    """Refuse what names no filter.

    Raises:
        UsageError: It does not; the message lists the filters.
    """
    if not any(type(value) is type(name) and value == name for name in FILTERS):
        raise UsageError(f"{what} = {value!r} is not one of {', '.join(map(str, FILTERS))}")
