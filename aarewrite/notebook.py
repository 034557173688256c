"""Reports in a notebook: what they found as rows of plain values, shown as an HTML table or put into a DataFrame."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from aarewrite.errors import CannotHandle

if TYPE_CHECKING:
    from pandas import DataFrame

Record = dict[str, object]
NAMES = (  # fields that say what figures beside them are of
    "model", "against", "protocol", "output", "condition", "regime", "direction", "distance", "name", "node", "op",
)  # fmt: skip
LEFT_OUT = ("n", "seed", "severity", "pairs", "margin")  # how it was measured, no figures


class Tabular(ABC):
    """A report with a table."""

    @abstractmethod
    def records(self) -> list[Record]:
        """Everything it found, a row each; rows need not have the same columns."""

    def headlines(self) -> list[Record]:
        """The rows that a notebook shows; by default all."""
        return self.records()

    @abstractmethod
    def caption(self) -> str:
        """What stands above them, one line."""

    def to_dataframe(self) -> DataFrame:
        """`records` as a pandas DataFrame; `CannotHandle` where pandas is not installed."""
        try:
            from pandas import DataFrame
        except ImportError:
            raise CannotHandle("to_dataframe needs pandas, which is not installed", "pip install pandas") from None
        return DataFrame(self.records())

    def _repr_html_(self) -> str:
        """`headlines` as Jupyter and others show them."""
        rows = self.headlines()
        titles = list(dict.fromkeys(title for row in rows for title in row))
        head = "".join(f"<th>{escape(title)}</th>" for title in titles)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(_cell(row.get(title)))}</td>' for title in titles)}</tr>" for row in rows
        )
        return f"<table><caption>{escape(self.caption())}</caption><tr>{head}</tr>{body}</table>"


def figures(found: object, known: Record | None = None, before: str = "") -> Iterator[Record]:
    """Every figure in a dataclass and in those that lie in it, with its interval where it has one.

    A row has what `NAMES` its figure is of, the name of the `measure`, its `value`, and of estimates `low`, `high`, `n`
    and `p`. `known` are columns of all rows, `before` begins their measures.
    """
    assert dataclasses.is_dataclass(found)
    held = {entry.name: getattr(found, entry.name) for entry in dataclasses.fields(found)}
    known = (known or {}) | {name: held[name] for name in NAMES if isinstance(held.get(name), str | int | float)}
    for name, one in held.items():
        if name in (*NAMES, *LEFT_OUT):
            continue
        if is_estimate(one):
            yield known | estimate(one, before + name)
        elif isinstance(one, int | float) and not isinstance(one, bool):
            yield known | {"measure": before + name, "value": one}
        elif dataclasses.is_dataclass(one):
            says = any(entry.name in NAMES for entry in dataclasses.fields(one))  # itself what it is of
            yield from figures(one, known, "" if says else f"{name} ")
        elif isinstance(one, tuple):
            for part in one:
                if dataclasses.is_dataclass(part) and not is_estimate(part):
                    yield from figures(part, known)


def is_estimate(value: object) -> bool:
    """Whether a value has an interval."""
    return hasattr(value, "low") and hasattr(value, "high")


def estimate(value: object, measure: str) -> Record:
    """The columns of a value with its interval; of a change from one model to another the change."""
    row: Record = {"measure": measure, "value": getattr(value, "change", getattr(value, "value", None))}
    return row | {name: getattr(value, name) for name in ("low", "high", "n", "p") if hasattr(value, name)}


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
