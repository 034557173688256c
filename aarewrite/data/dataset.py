"""What every source of samples is opened as."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

from aarewrite.data.arrays import Array
from aarewrite.errors import UsageError

T = TypeVar("T")


class UnreadableSample(UsageError):
    """One sample of many is broken or too large; a run may go on without it."""


class Loaded(NamedTuple):
    """One decoded sample."""

    # `(H, W, 3)` uint8 for images, else the array as stored; for two-input metrics `ref`, `p0` and `p1`
    arrays: list[Array]
    remark: str = ""  # what had to be done to read it, where that may change what the model sees


@dataclass(frozen=True)
class Data:
    """Samples to measure on; one is loaded at a time, so memory does not grow with their number."""

    kind: str  # `images`, `arrays` or `synthetic`
    description: str  # one line for reports
    names: tuple[str, ...]  # one name a sample
    load: Callable[[int], Loaded]  # decodes sample i; `UnreadableSample` for one that is broken
    labels: tuple[int, ...] | None = None  # class index a sample, or None
    # Names of classes by index, as far as they are known
    class_names: Mapping[int, str] = field(default_factory=dict)
    class_count: int | None = None  # classes that labels were counted from (folders, say), None where they were given
    sample_shape: tuple[int, ...] | None = None  # shape of one stored sample for arrays, None where samples differ
    is_float: bool = False  # the samples are floating-point numbers, taken to be in the model's units by default
    # Arrays of an .npz that are named like an input of the model and are no samples
    constants: Mapping[str, Array] = field(default_factory=dict)
    triplets: bool = False  # whether a sample is three arrays
    clusters: tuple[str, ...] | None = None  # of pairs of images, what each pair is from; None where samples are one

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.names)

    def only(self, indices: Sequence[int], description: str) -> Data:
        """Some of its samples, in this order."""

        def some(values: tuple[T, ...] | None) -> tuple[T, ...] | None:
            return None if values is None else tuple(values[i] for i in indices)

        return replace(
            self,
            description=description,
            names=tuple(self.names[i] for i in indices),
            load=lambda i: self.load(indices[i]),
            labels=some(self.labels),
            clusters=some(self.clusters),
        )
