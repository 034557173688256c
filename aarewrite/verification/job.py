"""What a verification has to do: models and data opened, studies chosen, and every sample measured and counted once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from aarewrite.data.arrays import Array
from aarewrite.data.camera import CONDITIONS
from aarewrite.data.corruptions import KINDS
from aarewrite.data.dataset import UnreadableSample
from aarewrite.data.files import is_address
from aarewrite.data.geometry import Sample
from aarewrite.data.pairs import open_pairs
from aarewrite.data.preprocess import Preprocess
from aarewrite.data.setup import Setup, beside, open_setup
from aarewrite.data.views import Views
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model.runner import ModelLike
from aarewrite.model.runtime import LARGEST_INPUT
from aarewrite.options import Json
from aarewrite.verification.camera import CameraStudy, OwnPairsStudy
from aarewrite.verification.classify import ClassifyStudy
from aarewrite.verification.corruptions import CorruptionStudy
from aarewrite.verification.detect import ANY_STRIDE, DetectStudy
from aarewrite.verification.embed import EmbedStudy
from aarewrite.verification.engine import BATCH, BLOCK, Study, run_studies, share_cores
from aarewrite.verification.maps import MapStudy, Task, infer_task
from aarewrite.verification.metric import MetricStudy
from aarewrite.verification.protocols import PROTOCOLS, ShiftPlan, plan_shifts
from aarewrite.verification.records import Found, in_order
from aarewrite.version import __version__

PICTURED = ("camera", "corruptions")  # protocols that need pictures, of a classifier
PROVIDERS = ("cpu", "cuda", "all")
VERSIONS = {"aarewrite": __version__, "onnxruntime": ort.__version__, "numpy": np.__version__}
PATHS = ("model", "data", "against", "labels", "preprocess", "own_pairs", "decode")
HOW = ("progress", "plan", "trials", "resume", "ray", "threads")  # what says nothing of what is measured
LARGE_VIEW = 1 << 23  # elements of views of which one is in memory at a time: more than those of a picture in full HD
Block = Sequence[tuple[int, int]]  # rounds and samples that are measured together


@dataclass(frozen=True)
class Asked:
    """What `verify` was asked for: its arguments."""

    model: ModelLike
    data: str | Path | None = None
    against: ModelLike | None = None
    labels: str | Path | None = None
    preprocess: str | Preprocess | None = None
    provider: str = "cpu"
    protocols: Sequence[str] | None = None
    severity: float = 1.0
    conditions: Sequence[str] | None = None
    camera_pairs: int = 1
    own_pairs: str | Path | None = None
    max_shift: int | None = None
    worst_radius: int = 1
    threshold: float | None = None
    corruptions: Sequence[str] | None = None
    layers: bool = False
    heat_map: str | None = None
    limit: int | None = None
    seed: int = 0
    task: str | None = None
    decode: str | None = None
    margin: float = 0
    size: Sequence[int] | None = None
    batch: int | None = None
    batch_offsets: int = 1
    pairs: int = 1
    min_consistency: float | None = None
    min_near: float | None = None
    max_diff: float | None = None
    names: tuple[str, str] | None = None
    plan: Sequence[Json] = ()
    trials: Sequence[Json] = ()
    strict: bool = False
    resume: Path | None = None
    ray: str | None = None
    threads: int = 0
    progress: bool = False

    def plain(self) -> Json:
        """Those of them that JSON has, by name, and that say what is measured."""
        values = {entry.name: _plain(getattr(self, entry.name)) for entry in fields(self) if entry.name not in HOW}
        return {name: value for name, value in values.items() if value is not None}

    def from_anywhere(self) -> Asked:
        """The same, with paths that do not depend on the folder one is in."""
        paths = {name: _absolute(getattr(self, name)) for name in PATHS}
        return replace(self, **paths)  # type: ignore[arg-type]  # mypy does not see that PATHS are names of paths


def _absolute(given: object) -> object:
    """A path from the root, and anything else as it is."""
    if not isinstance(given, str | Path) or is_address(str(given)):
        return given
    path = Path(given)
    return path.absolute() if path.exists() or path.suffix or len(path.parts) > 1 else given


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int | float) else None


@dataclass(frozen=True)
class OddSample:
    """A sample that could not be read, or only after something was done to it."""

    name: str
    says: str
    measured: bool


@dataclass
class Job:
    """What was opened and what is measured on it; `count` makes the studies' results what they are."""

    asked: Asked
    setup: Setup
    tasks: Sequence[Task]  # of each model
    protocols: Sequence[str]  # those that shift
    rounds: Sequence[tuple[Setup, Sequence[Study]]]  # data, and what is measured on them
    notes: list[str]  # what a reader must know
    odd: list[OddSample] = field(default_factory=list)
    measured: list[list[int]] = field(default_factory=list)  # the samples of each round that were counted

    def blocks(self) -> list[Block]:
        """All samples, in the blocks in which they are measured."""
        return [
            [(number, i) for i in range(start, min(start + BLOCK, len(where.data)))]
            for number, (where, _) in enumerate(self.rounds)
            for start in range(0, len(where.data), BLOCK)
        ]

    def views(self, blocks: Iterable[Block]) -> int:
        """How many views the models see of them."""
        return sum(study.count(i) for block in blocks for number, i in block for study in self.rounds[number][1])

    def measure(self, blocks: Iterable[Block], advance: Callable[[int], None] = lambda views: None) -> Iterator[Found]:
        """Measure samples in whole blocks.

        Raises:
            CannotHandle: A model refuses the data.
            CheckFailed: An output is NaN or infinite.
            UsageError: With `strict`, a sample that cannot be read as it is.
        """
        models, large = self.setup.models, _view(self.setup) > LARGE_VIEW  # of which one after the other is enough
        workers = 0 if self.asked.threads == 1 or large else 2
        profiles = [task.profile for task in self.tasks if task.profile]
        # What ends in NMS has as many rows as it finds
        unlike = any(m.batch == 1 for m in models) if profiles else any(m.constants for m in models)
        one_by_one = unlike or large or any(profile.unbatched for profile in profiles)
        batch = self.asked.batch or (1 if one_by_one else min(_room(self.setup), BATCH[models[0].provider]))
        runs, _ = share_cores(models[0].provider, self.asked.threads)
        for number, keys in groupby((key for block in blocks for key in block), lambda key: key[0]):
            where, studies = self.rounds[number]
            load = partial(_strictly, where) if self.asked.strict else where.sample
            read = [[grid.output for grid in task.grids] for task in self.tasks]
            samples = (i for _, i in keys)
            for found in run_studies(models, load, samples, studies, batch, advance, read, workers, runs):
                yield replace(found, round=number)

    def count(self, found: Iterable[Found]) -> None:
        """Count what was found of all samples, in their order, and draw what the report shows.

        Raises:
            UsageError: No sample could be read.
        """
        self.measured = [[] for _ in self.rounds]
        for one in in_order(found, (key for block in self.blocks() for key in block)):
            where, studies = self.rounds[one.round]
            if one.remark:
                self.odd.append(OddSample(where.data.names[one.index], one.remark, one.notes is not None))
            if one.notes is not None:
                self.measured[one.round].append(one.index)
                for study, notes in zip(studies, one.notes, strict=True):
                    study.count_in(one.index, notes)
        for (where, studies), measured in zip(self.rounds, self.measured, strict=True):
            if not measured:
                reason = next((odd.says for odd in self.odd if not odd.measured), "no sample was measured")
                raise UsageError(f"none of {where.data.description} can be read: {reason}", "give data that can")
            for study in studies:
                study.illustrate(where.sample)

    def identity(self) -> Json:
        """What decides on the figures: what was asked, and what the models, the samples and the tools are."""
        named = [(where.data.names, where.data.labels, where.data.clusters) for where, _ in self.rounds]
        return {
            "asked": self.asked.plain(),
            "models": [_digest(model.source) for model in self.setup.models],
            "input": f"{self.setup.recipe.describe()}; {self.setup.geometry.describe()}",
            "tasks": hashlib.sha256(repr(self.tasks).encode()).hexdigest(),
            "samples": hashlib.sha256(json.dumps(named).encode()).hexdigest(),
            "versions": VERSIONS,
        }


def _digest(model: ModelLike) -> str:
    if isinstance(model, onnx.ModelProto):
        return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    with Path(model).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _strictly(setup: Setup, i: int) -> Sample:
    """A sample that is as it should be."""
    try:
        sample = setup.sample(i)
    except UnreadableSample as error:
        raise UsageError(error.message, error.next_step) from None
    if sample.remark:
        raise UsageError(f"{setup.data.names[i]}: {sample.remark}", "convert or remove the file, or leave out --strict")
    return sample


def _room(setup: Setup) -> int:
    """The largest batch of the views of a setup."""
    return max(1, LARGEST_INPUT // _view(setup))


def _view(setup: Setup) -> int:
    """How many elements a view has."""
    return math.prod(setup.spec.shape(setup.geometry.size))


def open_job(asked: Asked) -> Job:
    """Open models and data, and choose what is measured; errors as `verify`."""
    if asked.provider not in PROVIDERS:
        raise UsageError(f"--provider {asked.provider}: unknown", f"use one of {', '.join(PROVIDERS)}")
    for option, share in (
        ("min-consistency", asked.min_consistency), ("min-near", asked.min_near), ("threshold", asked.threshold)
    ):  # fmt: skip
        if share is not None and not 0 <= share <= 1:
            raise UsageError(f"--{option} {share}: not a share", "give a number from 0 to 1, such as 0.9")
    if asked.max_diff is not None and not asked.max_diff >= 0:
        raise UsageError(f"--max-diff {asked.max_diff}: not a difference", "give a number of at least 0")
    if asked.max_diff is not None and asked.against is None and asked.provider == "cpu":
        raise UsageError("--max-diff: nothing to compare with", "add --against or --provider all")
    own = None if asked.own_pairs is None else open_pairs(asked.own_pairs, asked.limit)
    alone = own is not None and asked.data is None
    setup = open_setup(
        asked.model, own if own and alone else asked.data or "synthetic", against=asked.against, names=asked.names,
        provider=asked.provider, preprocess=asked.preprocess, labels=asked.labels, limit=asked.limit, seed=asked.seed,
        size=asked.size, threads=share_cores(asked.provider, asked.threads)[1],
    )  # fmt: skip
    if asked.batch is not None and asked.batch > _room(setup):
        largest = f"the largest for views of this size is {_room(setup)}"
        raise UsageError(f"--batch {asked.batch}: {largest}", "give a smaller one")
    notes = list(setup.notes)
    tasks = _tasks(setup, asked.task, asked.decode)
    kind = tasks[0].name
    of_camera = {
        "--severity": asked.severity != 1, "--conditions": asked.conditions is not None,
        "--camera-pairs": asked.camera_pairs != 1, "--min-near": asked.min_near is not None,
    }  # fmt: skip
    of_crops = {
        "--crop-pairs": asked.pairs != 1, "--batch-offsets": asked.batch_offsets != 1,
        "--worst-radius": asked.worst_radius != 1, "--threshold": asked.threshold is not None,
    }  # fmt: skip
    of_data = {"--labels": asked.labels is not None}
    if kind != "classify":
        _refuse_idle(of_data | of_crops | of_camera | {"--pairs": own is not None}, f"for task {kind}")
    if alone:
        _refuse_idle(of_data | {"--protocol": asked.protocols is not None}, "for --pairs without --data")
    chosen = () if alone else _protocols(asked.protocols, setup, kind, notes)
    shifted = [protocol for protocol in chosen if protocol not in PICTURED]
    if kind == "detect" and set(shifted) != {"crop"}:
        raise UsageError("--protocol: boxes that wrap around have no region to compare in", "use crop for detectors")
    if kind != "detect":
        _refuse_idle({"--margin": asked.margin != 0}, f"for task {kind}")
    if "camera" not in chosen:
        _refuse_idle(of_camera, "without camera in --protocol")
    if "corruptions" not in chosen:
        _refuse_idle({"--corruptions": asked.corruptions is not None}, "without corruptions in --protocol")
    if not shifted:
        of_shifts = {"--max-shift": asked.max_shift is not None, "--min-consistency": asked.min_consistency is not None}
        _refuse_idle(of_crops | of_shifts, "without crop, circular or fractional in --protocol")
    if set(shifted) == {"fractional"}:
        of_pixels = {"--max-shift": asked.max_shift is not None, "--worst-radius": asked.worst_radius != 1}
        _refuse_idle(of_pixels, "with fractional shifts alone")
    outputs = [task.grids[0].output for task in tasks]
    furthest = _furthest(setup, tasks) if asked.max_shift is None else asked.max_shift
    plans = [
        plan_shifts(
            protocol, setup.geometry, furthest, asked.seed, asked.batch_offsets, asked.worst_radius, asked.pairs
        )
        for protocol in shifted
    ]
    studies: list[Study] = [_study(plan, setup, tasks, asked.margin, asked.threshold) for plan in plans]
    if "camera" in chosen:
        wanted = CONDITIONS if asked.conditions is None else asked.conditions
        studies.insert(0, CameraStudy(setup, outputs, wanted, asked.severity, asked.camera_pairs))
    if "corruptions" in chosen:
        studies.append(
            CorruptionStudy(setup, outputs, tuple(KINDS) if asked.corruptions is None else asked.corruptions)
        )
    rounds = [(setup, studies)]  # the data, and what is measured on them
    if own is not None:
        of_pairs = setup if alone else beside(setup, own, asked.preprocess, asked.size)
        notes += [note for note in of_pairs.notes if note not in notes]
        rounds = [*rounds[alone:], (of_pairs, [OwnPairsStudy(of_pairs, outputs)])]
    return Job(asked, setup, tasks, shifted, rounds, notes)


def _tasks(setup: Setup, asked: str | None, decode: str | None) -> list[Task]:
    """Every model's task, which must be the same and have the samples it needs."""

    def probe() -> Sequence[Array]:
        return setup.centre(_first(setup))

    tasks = [infer_task(model, setup.geometry, asked, decode, probe) for model in setup.models]
    if len({task.name for task in tasks}) > 1:
        told = (f"{model.label} {task.name}" for model, task in zip(setup.models, tasks, strict=True))
        raise CannotHandle(f"the models' tasks differ: {', '.join(told)}", "set --task")
    if tasks[0].name == "metric" and setup.data.kind == "arrays" and not setup.data.triplets:
        raise UsageError("a two-input metric needs arrays ref, p0 and p1 in the .npz", "add them")
    return tasks


def _refuse_idle(given: Mapping[str, bool], where: str) -> None:
    """Refuse the first option that was given and would do nothing."""
    if option := next((option for option, was in given.items() if was), None):
        raise UsageError(f"{option} does nothing {where}", f"leave {option} out")


def _protocols(asked: Sequence[str] | None, setup: Setup, kind: str, notes: list[str]) -> tuple[str, ...]:
    """The protocols asked for, each once, or those that suit: the camera's where it can be, and crops."""
    why_not = setup.no_pictures if kind == "classify" else f"task {kind} gives no single answer to agree"
    if asked is None:
        notes += [f"measured by crops alone, not under a camera: {why_not}"] if why_not else []
        return ("crop",) if why_not else ("camera", "crop")
    if unknown := next((name for name in asked if name not in (*PICTURED, *PROTOCOLS)), None):
        raise UsageError(f"--protocol {unknown}: unknown", f"use {', '.join((*PICTURED, *PROTOCOLS))}")
    if not asked:
        raise UsageError("--protocol: none given", f"use {', '.join((*PICTURED, *PROTOCOLS))}")
    if why_not and (pictured := next((name for name in asked if name in PICTURED), None)):
        next_step = "use crop, or give photographs with --data" if kind == "classify" else "use crop"
        raise UsageError(f"--protocol {pictured}: {why_not}", next_step)
    return tuple(dict.fromkeys(asked))


def _first(setup: Setup) -> Sample:
    """The first sample that can be read; where none can, that is said when they are measured."""
    for i in range(len(setup.data)):
        with suppress(UnreadableSample):
            return setup.sample(i)
    return setup.sample(0)


def _furthest(setup: Setup, tasks: Sequence[Task]) -> int | None:
    """The largest shift that suits a task, None for the usual one."""
    if tasks[0].name == "metric":
        return min(3, setup.geometry.reach)
    if profiles := [task.profile for task in tasks if task.profile]:  # below the coarsest stride, at it and above
        return min(max(max(profile.strides, default=ANY_STRIDE) for profile in profiles) + 1, setup.geometry.reach)
    return None


def _study(plan: ShiftPlan, setup: Setup, tasks: Sequence[Task], margin: float, threshold: float | None) -> Study:
    views, labels = Views(plan.protocol, setup.geometry, setup.axes), [model.label for model in setup.models]
    outputs = [task.grids[0].output for task in tasks]
    if tasks[0].name == "classify":
        return ClassifyStudy(plan, views, labels, outputs, setup.data, threshold)
    if tasks[0].name == "metric":
        return MetricStudy(plan, views, labels, outputs)
    if tasks[0].name == "embed":
        return EmbedStudy(plan, views, labels, outputs, len(setup.data))
    if profiles := [task.profile for task in tasks if task.profile]:
        return DetectStudy(plan, views, labels, profiles, setup.data.names, margin)
    return MapStudy(plan, views, labels, [task.grids for task in tasks], tasks[0].name)
