"""What a verification found: one frozen value with plain attributes, and its JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from aarewrite.errors import CheckFailed
from aarewrite.notebook import Record, Tabular, estimate, figures
from aarewrite.options import Json
from aarewrite.verification.camera import CameraResult, PairsResult
from aarewrite.verification.classify import Classification, Flip, FlipCounts
from aarewrite.verification.corruptions import CorruptionResult
from aarewrite.verification.detect import DetectResult, Frames
from aarewrite.verification.embed import EmbedResult
from aarewrite.verification.engine import Result
from aarewrite.verification.equivariance import LayerResult
from aarewrite.verification.job import OddSample
from aarewrite.verification.maps import MapResult
from aarewrite.verification.metric import MetricResult
from aarewrite.verification.parity import Parity, Placement
from aarewrite.verification.preconditions import Violation
from aarewrite.verification.statistics import Difference


@dataclass(frozen=True)
class CircularClaim:
    """Whether a model can be exact under circular shifts, and the nodes that keep it from being so."""

    model: str
    exact_possible: bool
    violations: tuple[Violation, ...]


@dataclass(frozen=True)
class VerifyReport(Tabular):
    """Everything a verification found. Each tuple of results holds the model first, `--against` second."""

    model: str
    against: str | None  # what it was held against, None without
    task: str  # one of `TASKS` (verification/maps.py), and `task_why` how that was told
    task_why: str
    data: str  # what was measured on, one line; `n` samples
    n: int
    preprocess: str  # what was applied, one line
    input: str  # name, layout and dtype of the input; `geometry` the sizes
    geometry: str
    seed: int  # seed of every random choice
    provider: str  # where the measures were taken
    camera: tuple[CameraResult, ...] = ()  # per model, under protocol `camera`
    pairs: tuple[PairsResult, ...] = ()  # per model, on a user's own pairs of images
    corruptions: tuple[CorruptionResult, ...] = ()  # per model, under protocol `corruptions`
    classification: tuple[Classification, ...] = ()  # per protocol (`crop`, `circular`, `fractional`) and model
    changes: tuple[Difference, ...] = ()  # per protocol, the paired change of consistency from `against` to the model
    detections: tuple[DetectResult, ...] = ()  # per protocol and model (detect task)
    embeddings: tuple[EmbedResult, ...] = ()  # per protocol and model (embed task)
    frames: tuple[Frames, ...] = ()  # the images whose detections a shift upset most
    maps: tuple[MapResult, ...] = ()  # per protocol, model and output (dense and vector tasks)
    metrics: tuple[MetricResult, ...] = ()  # per model (metric task)
    circular: tuple[CircularClaim, ...] = ()  # precondition check per model, when a circular protocol was run
    layers: tuple[LayerResult, ...] = ()  # per model, with `--layers`
    parity: tuple[Parity, ...] = ()  # every numeric comparison
    placement: tuple[Placement, ...] = ()  # node placement per model, when CUDA was used
    flips: tuple[Flip, ...] = ()  # some images whose class flips between the two crops; `flip_counts` how all divide
    flip_counts: FlipCounts | None = None
    class_names: Mapping[int, str] = field(default_factory=dict)  # names of classes by index, as far as known
    notes: tuple[str, ...] = ()  # what a reader must know about these numbers
    odd: tuple[OddSample, ...] = ()  # samples that could not be read, or only after something was done to them
    failures: tuple[str, ...] = ()  # why the verification failed, one line each; empty when it passed
    plan: tuple[Json, ...] = ()  # the rewrite's plan as rows to print, when given
    # What a calibration tried, when given: the trade-off of cost, agreement and consistency
    trials: tuple[Json, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)  # versions of the tool and of what it ran on

    @property
    def passed(self) -> bool:
        """Whether no check and no limit failed."""
        return not self.failures

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols that were run, in order."""
        results: tuple[Result, ...]
        results = (
            *self.camera,
            *self.pairs,
            *self.corruptions,
            *self.classification,
            *self.detections,
            *self.embeddings,
            *self.maps,
            *self.metrics,
        )
        return tuple(dict.fromkeys(result.protocol for result in results))

    def records(self) -> list[Record]:
        """Every figure with its interval, a row each: of which model, protocol, output, condition and shift."""
        results = (
            self.camera, self.pairs, self.corruptions, self.classification, self.detections, self.embeddings, self.maps,
            self.metrics, self.layers,
        )  # fmt: skip
        found = [row for kind in results for result in kind for row in figures(result)]
        return found + [{"model": self.model} | estimate(change, change.name) for change in self.changes]

    def headlines(self) -> list[Record]:
        """The records that are of no single shift, nor of a layer."""
        return [row for row in self.records() if not row.get("distance") and "node" not in row]

    def caption(self) -> str:
        """What was measured, on what, and what failed."""
        against = f" against {self.against}" if self.against else ""
        return "; ".join((f"{self.model}{against}, {self.task}, on {self.data}", *self.failures))

    def raise_for_failures(self) -> None:
        """Raise the first failure of a check or a limit as `CheckFailed`."""
        if self.failures:
            more = f" (and {len(self.failures) - 1} more)" if len(self.failures) > 1 else ""
            raise CheckFailed(self.failures[0] + more)

    def to_dict(self) -> dict[str, object]:
        """Return everything but pictures as JSON's own types; NaN and infinities become None."""
        return {"passed": self.passed, **{f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}}

    def to_json(self) -> str:
        """Return `to_dict` as indented JSON."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name != "pictures"}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
