"""A streaming model beside its original over a long signal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from aarewrite.errors import CheckFailed, UsageError
from aarewrite.model.model_file import Model, recorded
from aarewrite.model.runtime import open_session
from aarewrite.options import Json
from aarewrite.rewriting.proof import compare_values
from aarewrite.rewriting.random_inputs import Feeds
from aarewrite.streaming.proof import Agreement, Pair, Steps, measure, pairs, sample_of, signals
from aarewrite.streaming.recordings import open_signal
from aarewrite.streaming.writer import METADATA_KEY

RANDOM = "a random signal"
WINDOWS = 40  # of it


@dataclass(frozen=True)
class Compared:
    """How far a streaming model is from its original."""

    form: str
    data: str  # what it was measured on
    agreements: tuple[Agreement, ...]

    def check(self, largest: float | None) -> None:
        """Refuse outputs that differ by more than `largest`; None: as far as the form allows.

        Raises:
            CheckFailed: One does.
        """
        for one in self.agreements:
            if largest is not None and one.difference > largest:
                raise CheckFailed(
                    f"output {one.output!r} differs by {one.difference:.3g}, above --max-diff {largest:g}"
                )

    def to_dict(self) -> Json:
        """Plain values for JSON."""
        return {"form": self.form, "data": self.data, "agreements": [asdict(one) for one in self.agreements]}


def compare(streaming: Model, original: Model, data: str | Path | None = None, seed: int = 0) -> Compared:
    """Compare a streaming model with the model it was made from, window by window.

    Args:
        streaming, original: The models.
        data: A signal (`recordings.open_signal`); None: a random one.
        seed: Of the random one, and of inputs that are not streamed.

    Raises:
        UsageError: The first is no streaming model, or the data do not fit.
        CannotHandle: ONNX Runtime cannot run the original.
        CheckFailed: It is of the exact form, and an output differs.
    """
    told = recorded(streaming, METADATA_KEY)
    if not told:
        raise UsageError("it is no streaming model", "make one with aarewrite stream")
    steps = Steps.told(told)
    shapes = {}
    for value in streaming.proto.graph.input:
        if value.name not in steps.states:
            sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            if value.name in steps.inputs:
                sizes[steps.inputs[value.name]] = steps.window
            shapes[value.name] = tuple(sizes)
    held = {tensor.name for tensor in streaming.proto.graph.initializer}
    shapes = {name: shape for name, shape in shapes.items() if name not in held}
    sample = sample_of(open_session(original), original, shapes, seed)
    signal = signals(sample, steps, WINDOWS, seed) if data is None else open_signal(Path(data), steps, sample)
    where = RANDOM if data is None else Path(data).name
    return compared(streaming, original, steps, signal, sample, str(told.get("form")), where)


def compared(
    streaming: Model, original: Model, steps: Steps, signal: Feeds, sample: Feeds, form: str, where: str
) -> Compared:
    """Compare on a signal; the exact form has to be equal, within the proof's tolerance. Errors as of `compare`."""
    found = pairs(open_session(original), open_session(streaming), steps, signal, sample)
    whole = (pair for pair in found if pair[0])
    return Compared(form, where, measure(_equal(whole, where) if form == "exact" else whole))


def _equal(found: Iterable[Pair], where: str) -> Iterator[Pair]:
    """What it is given, as long as the outputs are equal."""
    for expected, actual in found:
        for name, value in expected.items():
            for one in compare_values(name, value, actual[name]):
                if one.problem:
                    raise CheckFailed(
                        f"the streaming model is not the original on {where}: {one.tensor!r} {one.problem}"
                    )
        yield expected, actual
