"""Where a tensor lies along the stream: which input samples an index stands for, and which indices keep their value
when the window moves on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

Range = tuple[int, int]  # of indices along the stream's axis: from, up to but without


@dataclass(frozen=True)
class Track:
    """A tensor along the stream."""

    axis: int  # that the stream runs along
    rate: Fraction  # input samples per index
    left: int  # so many leading indices depend on where the window begins
    right: int  # so many trailing ones on where it ends
    length: int  # indices in a window

    def moved(self, step: int) -> Fraction:
        """By how many indices the window moves in a step of so many samples."""
        return step / self.rate

    def kept(self, step: int) -> Range | None:
        """The indices whose values the window before had too, a step further right; None where there are none, or
        where the step is no whole number of indices."""
        moved = self.moved(step)
        end = self.length - self.right - int(moved)
        return (self.left, end) if moved.denominator == 1 and self.left < end else None

    def on(self, axis: int) -> Track:
        """The same along another axis."""
        return replace(self, axis=axis)


def joined(tracks: list[Track]) -> Track | str:
    """The track of what meets index by index, on the first one's axis; or why it cannot."""
    first = tracks[0]
    if any((track.rate, track.length) != (first.rate, first.length) for track in tracks):
        return "its operands have different lengths or rates along the stream"
    return replace(first, left=max(t.left for t in tracks), right=max(t.right for t in tracks))


def overlap(a: Range, b: Range) -> Range | None:
    """What two ranges share; None for nothing."""
    both = max(a[0], b[0]), min(a[1], b[1])
    return both if both[0] < both[1] else None
