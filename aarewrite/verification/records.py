"""What is found on single samples, as plain values: kept in files, sent between machines, counted in order."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

Note = tuple[Hashable, float]  # a figure of one sample, and what it is of


@dataclass(frozen=True)
class Found:
    """What was found on one sample."""

    index: int
    remark: str  # what had to be done to read it, or why it could not be read
    notes: Sequence[Sequence[Note]] | None = None  # of each study; None: it could not be read
    round: int = 0  # which of the data that a verification is about

    def plain(self) -> list[object]:
        """Return it as JSON's own values, where a tuple is a list."""
        return [self.round, self.index, self.remark, self.notes]

    @classmethod
    def of(cls, plain: Sequence[object]) -> Found:
        """Make it from what `plain` gave and JSON kept."""
        number, index, remark, notes = plain
        assert isinstance(number, int)
        assert isinstance(index, int)
        studies = notes if isinstance(notes, list) else []
        read = [[(_hashable(key), float(value)) for key, value in study] for study in studies]
        return cls(index, str(remark), None if notes is None else read, number)


def _hashable(key: object) -> Hashable:
    if isinstance(key, list):
        return tuple(map(_hashable, key))
    assert isinstance(key, str | int | float)
    return key


def in_order(found: Iterable[Found], wanted: Iterable[tuple[int, int]]) -> Iterator[Found]:
    """Yield what was found of the rounds and samples that are wanted, in their order, whatever order it comes in.

    Holds what comes early; of a sample that comes twice, the first counts. What never comes ends it.
    """
    rest, early = iter(found), dict[tuple[int, int], Found]()
    for key in wanted:
        while key not in early:
            one = next(rest, None)
            if one is None:
                return
            early.setdefault((one.round, one.index), one)
        yield early.pop(key)
