"""One model's time, alone or beside another's, and which operators account for the difference."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime as ort

from aarewrite.errors import UsageError
from aarewrite.model.model_file import Model, load
from aarewrite.model.profile import NodeTime, node_times
from aarewrite.model.runner import EXECUTION_PROVIDERS, open_session
from aarewrite.model.runtime import Session
from aarewrite.notebook import Record, Tabular
from aarewrite.options import Json
from aarewrite.rewriting.random_inputs import IMAGE_SIZES, Feeds, accepted
from aarewrite.timing.rounds import STOP_SPINNING, Spread, interleaved, ratios
from aarewrite.version import __version__

PROFILED_RUNS = 15
SIZES = (224, *IMAGE_SIZES)  # of open images, the first that runs
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Timed:
    """A model's time of one run."""

    model: str  # what messages call it
    milliseconds: Spread
    input_shapes: Shapes  # of the random input it was timed on


@dataclass(frozen=True)
class OperatorTime:
    """What the nodes of one operator take, in ms of one run: of the model, and of the one it stands beside."""

    operator: str
    nodes: tuple[int, int]  # how many there are: in the other model (0 without one), in this one
    milliseconds: tuple[float, float]

    @property
    def added(self) -> float:
        """What the model takes more than the other."""
        return self.milliseconds[1] - self.milliseconds[0]


@dataclass(frozen=True)
class Bench(Tabular):
    """What a benchmark found."""

    provider: str  # cpu or cuda
    threads: int  # of one operator; 0: as many as cores
    rounds: int
    model: Timed
    against: Timed | None  # the model it stands beside
    ratio: Spread | None  # the model's time relative to the other's, round by round
    noise: Spread | None  # the other's relative to itself, as a second session in the same rounds
    operators: tuple[OperatorTime, ...]  # what takes most first; beside another model, what adds most
    nodes: tuple[OperatorTime, ...]  # the same, node by node (`operator` is its name and operator)

    def records(self) -> list[Record]:
        """Times and their ratio, medians with their intervals, then operators and nodes."""
        return self.headlines() + self._rows("node", self.nodes)

    def headlines(self) -> list[Record]:
        """The records that are of no single node."""
        spreads = [(self.model.model, "milliseconds", self.model.milliseconds)]
        if self.against and self.ratio and self.noise:
            other = self.against.model
            spreads += [(other, "milliseconds", self.against.milliseconds), (self.model.model, "ratio", self.ratio)]
            spreads += [(other, "ratio", self.noise)]
        found: list[Record] = []
        for model, measure, spread in spreads:
            low, high = spread.interval
            found.append({"model": model, "measure": measure, "value": spread.median, "low": low, "high": high})
        return found + self._rows("op", self.operators)

    def _rows(self, what: str, times: Sequence[OperatorTime]) -> list[Record]:
        return [
            {what: one.operator, "measure": "milliseconds", "value": one.milliseconds[1]}
            | ({"before": one.milliseconds[0]} if self.against else {})
            for one in times
        ]

    def caption(self) -> str:
        """What was timed, and how."""
        against = f" against {self.against.model}" if self.against else ""
        threads = self.threads or "all"
        return f"{self.model.model}{against}, {self.provider}, threads {threads}, {self.rounds} rounds, medians"

    def to_dict(self) -> Json:
        """Plain values for JSON."""
        return {"format": 1, "aarewrite": __version__, "onnxruntime": ort.__version__, "cores": os.cpu_count()} | (
            dataclasses.asdict(self)
        )


@dataclass(frozen=True)
class _Opened:
    """A model and how its sessions are opened."""

    name: str
    loaded: Model
    source: onnx.ModelProto | Path
    provider: str
    threads: int

    @classmethod
    def of(cls, source: str | os.PathLike[str] | onnx.ModelProto | Model, provider: str, threads: int) -> _Opened:
        loaded = load(source)
        name = loaded.path.name if loaded.path else "model"
        return cls(name, loaded, loaded.path or loaded.self_contained(), provider, threads)

    def session(self, profile: Path | None = None) -> Session:
        return open_session(self.source, self.provider, self.name, profile, self.threads, STOP_SPINNING)


def bench(
    model: str | os.PathLike[str] | onnx.ModelProto | Model,
    against: str | os.PathLike[str] | onnx.ModelProto | Model | None = None,
    *,
    threads: int = 0,
    provider: str = "cpu",
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    rounds: int | None = None,
) -> Bench:
    """Time a model on random input in ONNX Runtime, optimised as it is by default.

    Args:
        model: Path of an .onnx file, or a ModelProto.
        against: The model it is held against, in the same rounds.
        threads: Of one operator; 0: as many as cores.
        provider: "cpu" or "cuda" (then with the copies of inputs and outputs).
        input_shapes: By input name, for sizes that the model leaves open.
        rounds: How many; None: as many as take 10 s, from 11 to 300.

    Raises:
        UsageError: A file does not exist, an argument is wrong, or a shape does not fit.
        CannotHandle: ONNX Runtime does not load or run a model, or the provider is not there.
    """
    if provider not in EXECUTION_PROVIDERS:
        raise UsageError(f"provider {provider!r} is not one of {', '.join(EXECUTION_PROVIDERS)}")
    given = {name: tuple(shape) for name, shape in (input_shapes or {}).items()}
    opened = [_Opened.of(source, provider, threads) for source in (model, against) if source is not None]
    sessions = [one.session() for one in opened]
    feeds = _feeds(opened, sessions, given)
    if against is not None:  # the other a second time
        opened, sessions, feeds = [*opened, opened[1]], [*sessions, opened[1].session()], [*feeds, feeds[1]]
    runs = [partial(session.run, None, feed) for session, feed in zip(sessions, feeds, strict=True)]
    seconds = interleaved(runs, rounds)
    timed = [
        Timed(one.name, Spread.of([1e3 * s for s in spent]), {name: value.shape for name, value in feed.items()})
        for one, spent, feed in zip(opened, seconds, feeds, strict=True)
    ]
    del runs, sessions  # those that are profiled have the memory to themselves
    models = 1 if against is None else 2
    after, before, *_ = *_profiles(opened[:models], feeds[:models]), []
    return Bench(
        provider=provider,
        threads=threads,
        rounds=len(seconds[0]),
        model=timed[0],
        against=timed[1] if against is not None else None,
        ratio=Spread.of(ratios(seconds[0], seconds[1])) if against is not None else None,
        noise=Spread.of(ratios(seconds[2], seconds[1])) if against is not None else None,
        operators=_by([(one.op, one) for one in before], [(one.op, one) for one in after]),
        nodes=_by(*([(f"{one.name} ({one.op})", one) for one in times] for times in (before, after))),
    )


def _profiles(opened: Sequence[_Opened], feeds: Sequence[Feeds]) -> list[list[NodeTime]]:
    """The nodes of each model, run in interleaved rounds too."""
    with TemporaryDirectory() as folder:
        sessions = [one.session(Path(folder) / str(place)) for place, one in enumerate(opened)]
        runs = [partial(session.run, None, feed) for session, feed in zip(sessions, feeds, strict=True)]
        interleaved(runs, PROFILED_RUNS)
        return [node_times(session) for session in sessions]


def _feeds(opened: Sequence[_Opened], sessions: Sequence[Session], given: Mapping[str, tuple[int, ...]]) -> list[Feeds]:
    """Random input of the last model's choice, and for the first one the same where it takes it."""
    *rest, last = zip(opened, sessions, strict=True)
    ((feeds, _), *_) = accepted(last[1], last[0].loaded, given, False, 0, SIZES)
    found = [feeds]
    for one, session in rest:
        ports = {port.name: port.shape for port in session.get_inputs()}
        same = ports.keys() == feeds.keys() and all(_takes(ports[name], value.shape) for name, value in feeds.items())
        found.insert(0, feeds if same else accepted(session, one.loaded, given, False, 0, SIZES)[0][0])
    return found


def _takes(declared: Sequence[int | str | None], shape: Sequence[int]) -> bool:
    pairs = list(zip(declared, shape, strict=False))
    return len(declared) == len(shape) and all(not isinstance(dim, int) or dim in (-1, size) for dim, size in pairs)


def _by(before: list[tuple[str, NodeTime]], after: list[tuple[str, NodeTime]]) -> tuple[OperatorTime, ...]:
    """Times summed by name, what is added first."""
    grouped: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for side, times in enumerate((before, after)):
        for name, one in times:
            grouped[name][side].append(one.milliseconds)
    rows = [OperatorTime(name, (len(old), len(new)), (sum(old), sum(new))) for name, (old, new) in grouped.items()]
    return tuple(sorted(rows, key=lambda row: -abs(row.added)))
