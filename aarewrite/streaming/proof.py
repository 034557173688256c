"""The proof: the original on every window of a random signal, the streaming model step by step, every output compared.

A signal of W samples and three steps more has four windows; what fills the states in front of the first is random, too.
No tolerance but that of the identity proof (`rewriting/proof.py`), and none of its allowance for amplified rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from aarewrite.errors import CannotHandle, CheckFailed
from aarewrite.model.model_file import Model
from aarewrite.model.precision import in_float32
from aarewrite.model.runtime import Session, first_line, open_session
from aarewrite.model.types import Array
from aarewrite.options import Json
from aarewrite.rewriting.proof import Comparison, compare_values
from aarewrite.rewriting.random_inputs import Feeds, Shapes, accepted, run

Pair = tuple[dict[str, Array], dict[str, Array]]  # outputs of a window: the original's, the streaming model's
WINDOWS = 4
OPEN_BATCH = 2  # of a model that leaves its batch size open


@dataclass(frozen=True)
class Steps:
    """What stepping through a signal needs to know of a streaming model."""

    inputs: dict[str, int]  # what is streamed, and along which axis
    window: int
    step: int
    states: dict[str, str]  # input -> the output that feeds it
    first_valid: int  # steps until the outputs are right
    latency: int = 0  # samples between the end of the window that they are for and the newest one

    @classmethod
    def told(cls, record: Mapping[str, Any]) -> Steps:
        """As a streaming model's metadata tells."""
        return cls(
            dict(record["inputs"]), int(record["window"]), int(record["step"]), dict(record["states"]),
            int(record["first_valid"]), int(record["latency"]),
        )  # fmt: skip


@dataclass(frozen=True)
class Proof:
    """The outcome, an entry an output: the window where it differs most."""

    comparisons: tuple[Comparison, ...]
    windows: int
    sample: Feeds = field(repr=False, compare=False)  # a window of random input that the original runs on
    notes: tuple[str, ...] = ()

    @property
    def worst(self) -> Comparison:
        """The comparison with the largest relative difference."""
        return max(self.comparisons, key=by_size)

    @property
    def silent(self) -> list[str]:
        """Maps of floats without a finite value other than 0 in any window: equal, but nothing was compared."""
        return [c.tensor for c in self.comparisons if not c.problem and not c.scale and c.tolerance]

    @property
    def passed(self) -> bool:
        """Whether every output of every window is equal within its tolerance."""
        return bool(self.comparisons) and not self.worst.problem

    def to_dict(self) -> Json:
        """Plain values for JSON."""
        return {
            "passed": self.passed,
            "windows": self.windows,
            "largest_difference": self.worst.difference,
            "largest_relative_difference": self.worst.relative,
            "at": self.worst.tensor,
            "comparisons": [asdict(c) for c in self.comparisons],
            "inputs": {name: list(value.shape) for name, value in self.sample.items()},
            "notes": list(self.notes),
        }


def by_size(one: Comparison) -> tuple[bool, float, float]:
    """What makes one comparison worse than another; of equal ones, that of larger values says more."""
    return bool(one.problem), one.relative, one.scale


@dataclass(frozen=True)
class Agreement:
    """How far an output is from the original's over a signal."""

    output: str
    windows: int
    difference: float  # the largest, absolute
    nrmse: float  # root mean square of the difference, relative to the original's standard deviation
    same: float | None  # share of equal answers of a classifier; None where the output is no row of scores


def measure(found: Iterable[Pair]) -> tuple[Agreement, ...]:
    """Compare outputs over a signal, as `pairs` gives them; those that are no numbers, hold none or have other sizes in
    other windows are left out."""
    kept: dict[str, tuple[list[Array], list[Array]]] = {}
    for expected, actual in found:
        for name, value in expected.items():
            if isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and value.shape == actual[name].shape:
                for values, one in zip(kept.setdefault(name, ([], [])), (value, actual[name]), strict=True):
                    values.append(one.astype(np.float64))
    return tuple(
        _agreement(name, np.stack(a), np.stack(b))
        for name, (a, b) in kept.items()
        if a[0].size and len({value.shape for value in a}) == 1
    )


def _agreement(name: str, a: Array, b: Array) -> Agreement:
    difference = np.abs(a - b)
    spread = float(a.std()) or float(np.abs(a).max()) or 1.0
    scores = a.ndim == 3 and a.shape[-1] > 1
    same = float((a.argmax(-1) == b.argmax(-1)).mean()) if scores else None
    nrmse = float(np.sqrt(np.square(difference).mean()) / spread)
    return Agreement(name, len(a), float(difference.max(initial=0)), nrmse, same)


def prove(original: Model, streaming: Model, steps: Steps, shapes: Shapes, seed: int = 0) -> Proof:
    """Compare on a random signal.

    Args:
        original, streaming: The models.
        steps: How the streaming model is fed.
        shapes: The original's inputs' shapes; 0 for an open size.
        seed: Of the signal.

    Raises:
        CannotHandle: ONNX Runtime cannot load or run the original.
        CheckFailed: The streaming model does not run.
    """
    notes = list[str]()
    try:
        before = open_session(original)
    except CannotHandle:
        single = in_float32(original)
        if single is original:
            raise
        original, streaming = single, in_float32(streaming)
        before = open_session(original)
        notes.append("run in float32: ONNX Runtime's CPU provider has no kernels for the model's type")
    sample = sample_of(before, original, shapes, seed)
    try:
        after = open_session(streaming)
        worst: dict[str, Comparison] = {}
        windows = 0
        for expected, found in pairs(before, after, steps, signals(sample, steps, WINDOWS, seed), sample):
            windows += 1
            for name, value in expected.items():
                for one in compare_values(name, value, found[name]):
                    if one.tensor not in worst or by_size(one) > by_size(worst[one.tensor]):
                        worst[one.tensor] = one
    except CannotHandle as error:
        raise CheckFailed(f"the streaming model: {error.message}", "nothing was written") from None
    except Exception as error:  # ONNX Runtime raises a dozen private types
        raise CheckFailed(f"the streaming model does not run: {first_line(error)}", "nothing was written") from None
    return Proof(tuple(worst.values()), windows, sample, tuple(notes))


def sample_of(session: Session, model: Model, shapes: Shapes, seed: int) -> Feeds:
    """Random inputs of one window, with a batch of several where the model takes it."""
    for batch in (OPEN_BATCH, 1):
        given = {name: tuple(size or batch for size in shape) for name, shape in shapes.items()}
        try:
            return accepted(session, model, given, False, seed)[0][0]
        except CannotHandle:
            if batch == 1:
                raise
    raise AssertionError("one of two batch sizes was tried last")


def signals(sample: Feeds, steps: Steps, windows: int, seed: int) -> Feeds:
    """Random signals in which so many windows lie, in the likeness of a window's values: whole steps."""
    rng = np.random.default_rng(seed)
    count = steps.first_valid + windows - 1
    found = {}
    for name, axis in steps.inputs.items():
        shape = list(sample[name].shape)
        shape[axis] = count * steps.step
        kind = sample[name].dtype
        if kind.kind == "f":
            found[name] = rng.standard_normal(shape).astype(kind)
        else:
            found[name] = rng.choice(sample[name].reshape(-1), shape).astype(kind)
    return found


def pairs(before: Session, after: Session, steps: Steps, signal: Feeds, sample: Feeds) -> Iterator[Pair]:
    """The outputs of every step from the first valid one on: the original's for the window that they are for, none
    where that begins in front of the signal, and the streaming model's.

    Args:
        before, after: The models.
        steps: How the streaming model is fed.
        signal: What is streamed; its length along the axis is a multiple of the step.
        sample: What every other input is given.
    """
    other = {name: value for name, value in sample.items() if name not in steps.inputs}
    first = next(iter(steps.inputs))
    total = signal[first].shape[steps.inputs[first]]
    batch = len(signal[first]) if steps.inputs[first] else 1
    states = {
        port.name: zeros(port.shape, port.type, batch) for port in after.get_inputs() if port.name in steps.states
    }
    for count in range(1, total // steps.step + 1):
        end = count * steps.step
        pieces = {n: cut(signal[n], axis, end - steps.step, end) for n, axis in steps.inputs.items()}
        found = run(after, {**pieces, **other, **states})
        states = {name: found.pop(output) for name, output in steps.states.items()}
        last = end - steps.latency
        if count >= steps.first_valid:
            if last < steps.window:
                yield {}, found
                continue
            windows = {n: cut(signal[n], axis, last - steps.window, last) for n, axis in steps.inputs.items()}
            yield run(before, {**windows, **other}), found


def zeros(shape: list[int | str | None], kind: str, batch: int) -> Array:
    """A state before the first step; open sizes are the batch's."""
    dtype = {"float": "float32", "double": "float64"}.get(word := kind.removeprefix("tensor(").removesuffix(")"), word)
    return np.zeros([size if isinstance(size, int) and size >= 0 else batch for size in shape], dtype)


def cut(value: Array, axis: int, low: int, high: int) -> Array:
    """A range along an axis."""
    return np.ascontiguousarray(value[(slice(None),) * axis + (slice(low, high),)])
