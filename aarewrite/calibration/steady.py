"""`aarewrite.steady`: the steadiest version of a model that a budget allows, chosen by measurement on one's own images.

Images are split in three: weights are repaired on the first part, candidates compared on the second, and the one that
was chosen is confirmed on the third, which nothing was fitted to or chosen by.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from aarewrite.calibration.budget import relative_budget
from aarewrite.calibration.exposures import Changes, Exposures, Steadiness
from aarewrite.calibration.frontier import Built, Candidate, build, candidates
from aarewrite.calibration.latency import latency_ratio
from aarewrite.calibration.problem import RepairOptions
from aarewrite.data.canvases import Canvases, from_setup
from aarewrite.data.setup import open_setup
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model.model_file import load
from aarewrite.notebook import Record, Tabular, estimate
from aarewrite.options import Json
from aarewrite.outputs import write_bytes
from aarewrite.progress import Bar, progress_bar
from aarewrite.rewriting.pipeline import ModelSource
from aarewrite.texts import read_json
from aarewrite.verification.plausible import preprocessing_doubt
from aarewrite.verification.statistics import BETTER, Difference, judgement
from aarewrite.version import __version__

FIT, COMPARE = 0.4, 0.3  # shares of the images; the rest confirms
FEWEST = 30  # images: fewer show nothing
PAIRS = 3  # near and far, an image
LEAST_TOP1 = -0.5  # points of top-1 that a choice may cost
MINUTES = 20.0
BUDGET = 2.5  # of measured time, where none is given


@dataclass(frozen=True)
class Row:
    """A candidate and what was measured of it."""

    name: str
    cost: float | None = None  # multiply-accumulates relative to the original's
    latency: float | None = None  # measured, relative to the original's
    changes: Changes | None = None  # on the images to compare by
    reason: str = ""  # why nothing was measured

    @property
    def says(self) -> str:
        """What was found, in a few words."""
        return self.reason or (judgement(self.changes.far, self.changes.near) if self.changes else "")

    @property
    def eligible(self) -> bool:
        """Whether it is shown to be better, at no loss of top-1."""
        changes = self.changes
        if changes is None or judgement(changes.far, changes.near) != BETTER:
            return False
        return changes.top1 is None or changes.top1.change >= LEAST_TOP1

    @property
    def gain(self) -> float:
        """Mean change of near and far agreement, points."""
        return (self.changes.near.change + self.changes.far.change) / 2 if self.changes else -np.inf


@dataclass(frozen=True)
class Steady(Tabular):
    """What `steady` returns."""

    rows: tuple[Row, ...]  # every candidate, in the order in which they were tried
    chosen: Row | None  # the steadiest within the budget; None: none is shown to be better
    model: onnx.ModelProto | None  # its model, proven and repaired
    confirmed: Changes | None  # its changes on the images that nothing was chosen by
    images: tuple[int, int, int]  # fitted to, compared by, confirmed by
    data: str  # what images, one line
    preprocess: str  # what was applied to them, one line
    failures: tuple[str, ...]  # why nothing should be written; empty where the gain is confirmed

    def records(self) -> list[Record]:
        """Every figure of every candidate, a row each, and the choice's on the images that confirm."""
        found: list[Record] = []
        for row in self.rows:
            of: Record = {"candidate": row.name}
            ratios = (("cost", row.cost), ("latency", row.latency))
            found += [of | {"measure": name, "value": ratio} for name, ratio in ratios if ratio is not None]
            found += [of | {"images": "compared"} | estimate(one, one.name) for one in _each(row.changes)]
        choice: Record = {"candidate": self.chosen.name if self.chosen else "", "images": "confirmed"}
        return found + [choice | estimate(one, one.name) for one in _each(self.confirmed)]

    def headlines(self) -> list[Record]:
        """The candidates, a row each, and the choice as confirmed."""
        found: list[Record] = [
            {"candidate": row.name, "cost": row.cost, "latency": row.latency, **_told(row.changes), "found": row.says}
            for row in self.rows
        ]
        if self.chosen and self.confirmed:
            found.append({"candidate": self.chosen.name, **_told(self.confirmed), "found": "on other images"})
        return found

    def caption(self) -> str:
        """What was chosen on which images, and what speaks against it."""
        chosen = f"chose {self.chosen.name}" if self.chosen else "none chosen"
        return "; ".join((f"{chosen} on {self.data}; changes in points", *self.failures))

    def to_dict(self) -> Json:
        """Plain values for JSON."""
        return {
            "better": not self.failures,
            "failures": list(self.failures),
            "data": self.data,
            "preprocess": self.preprocess,
            "images": dict(zip(("fitted", "compared", "confirmed"), self.images, strict=True)),
            "chosen": self.chosen.name if self.chosen else None,
            "confirmed": _plain(self.confirmed),
            "candidates": [
                {"name": row.name, "cost": row.cost, "latency": row.latency, "says": row.says}
                | {"changes": _plain(row.changes)}
                for row in self.rows
            ],
        }


def _each(changes: Changes | None) -> list[Difference]:
    found = (changes.near, changes.far, changes.top1) if changes else ()
    return [one for one in found if one is not None]


def _told(changes: Changes | None) -> Record:
    return {one.name: one.says for one in _each(changes)}


class _OutOfTime(Exception):
    """The time given is over."""


def steady(
    model: ModelSource,
    data: str | Path,
    *,
    budget: str | float | None = None,
    minutes: float = MINUTES,
    labels: str | Path | None = None,
    preprocess: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    resume: Path | None = None,
    progress: bool = False,
) -> Steady:
    """Find the steadiest version of a classifier under a camera that costs no more than the budget.

    Args:
        model: Path or ModelProto; never changed.
        data: Folder of images like those that the model sees; labels are not needed.
        budget: Largest latency, measured here, relative to the original's: "1.15x"; or "120MMAC". None: 2.5x.
        minutes: Time to measure candidates in; those that do not fit are listed as not measured.
        labels: CSV of labels; a choice may then cost no more than half a point of top-1.
        preprocess, limit, seed: As for `aarewrite.verify`.
        input_shapes: As for `aarewrite.rewrite`.
        resume: File that what was measured is written to, and read from where an earlier run left it.
        progress: Show progress on stderr when it is a terminal.

    Raises:
        UsageError: The request or the data are wrong, too few images among them.
        CannotHandle: The model cannot be read or run, or is no classifier; the data are no pictures.
        CheckFailed: The proof of the chosen candidate failed.
    """
    if not minutes > 0:
        raise UsageError(f"--minutes {minutes:g}: no time", "give more than 0")
    ends = time.monotonic() + 60 * minutes
    original = load(model).self_contained()
    setup = open_setup(original, data, preprocess=preprocess, labels=labels, limit=limit, seed=seed).readable()
    if reason := setup.no_pictures:
        raise UsageError(f"--steady {data}: {reason}", "give a folder of images like those that the model sees")
    if len(setup.data) < FEWEST:
        raise UsageError(f"--steady: {len(setup.data)} images show nothing", f"give at least {FEWEST}, better hundreds")
    doubts = [doubt] if (doubt := preprocessing_doubt(setup)) else []
    most = relative_budget(budget, original, input_shapes) or BUDGET
    canvases = from_setup(setup)
    shapes = dict(input_shapes or {canvases.input: (1, *setup.spec.shape(setup.geometry.size, channels=3))})
    order = np.random.default_rng([seed, len(setup.data)]).permutation(len(setup.data)).tolist()
    first, second = round(FIT * len(order)), round((FIT + COMPARE) * len(order))
    fitted, compared, confirmed = (sorted(part) for part in (order[:first], order[first:second], order[second:]))
    offered = [one for one in candidates() if not one.opt_in]
    work = _Work(original, canvases, shapes, fitted, RepairOptions(seed=seed), ends)
    known = _Measured.read(resume, _key(original, setup.data.names, offered, seed, shapes))
    rows: list[Row] = []
    models: dict[str, onnx.ModelProto] = {}
    with progress_bar("rendering views", len(compared), progress) as bar:
        try:
            views = Exposures(setup, compared, pairs=PAIRS, seed=seed, advance=work.ticking(bar))
            before = known.of("untouched") or views.of(original, work.ticking(bar))
        except _OutOfTime:
            reason = f"--minutes {minutes:g}: not even the original was measured"
            raise UsageError(reason, "give more, or fewer images by --limit") from None
        known.add("untouched", before)
        for candidate in offered:
            row = Row(candidate.name, reason="not measured: the time was over")
            with contextlib.suppress(_OutOfTime):
                row, made = work.measured(candidate, before, views, known, most, bar)
                if made is not None:
                    models[candidate.name] = made
            rows.append(row)
    chosen = max((row for row in rows if row.eligible), key=lambda row: row.gain, default=None)
    counts = len(fitted), len(compared), len(confirmed)
    told = setup.data.description, setup.recipe.describe()
    if chosen is None:
        why = (*doubts, f"no candidate within {most:.2f}x is shown to be steadier on {len(compared)} images")
        return Steady(tuple(rows), None, None, None, counts, *told, why)
    work.ends = np.inf  # what was chosen is finished
    candidate = next(one for one in offered if one.name == chosen.name)
    with progress_bar(f"confirming {chosen.name}", len(confirmed), progress) as bar:
        best = work.proven(candidate, models.get(chosen.name), bar)
        views = Exposures(setup, confirmed, pairs=PAIRS, seed=seed, advance=bar)
        changes = views.of(best).against(views.of(original), seed)
    found = judgement(changes.far, changes.near)
    if found != BETTER:
        doubts.append(f"{chosen.name}: {found} on {len(confirmed)} images that it was not chosen by")
    return Steady(tuple(rows), chosen, best, changes, counts, *told, tuple(doubts))


class _Work:
    """What measuring a candidate needs."""

    def __init__(
        self,
        original: onnx.ModelProto,
        canvases: Canvases,
        shapes: Mapping[str, Sequence[int]],
        fitted: Sequence[int],
        options: RepairOptions,
        ends: float,
    ) -> None:
        self.original, self.canvases, self.shapes, self.options, self.ends = original, canvases, shapes, options, ends
        self._batches = canvases.batches(fitted, seed=options.seed)
        self._seen: dict[tuple[bytes, bool], str] = {}

    def ticking(self, bar: Bar) -> Callable[[int], None]:
        """Advance the bar, and stop when the time is over."""

        def tick(steps: int) -> None:
            bar(steps)
            if time.monotonic() > self.ends:
                raise _OutOfTime

        return tick

    def measured(
        self, candidate: Candidate, before: Steadiness, views: Exposures, known: _Measured, most: float, bar: Bar
    ) -> tuple[Row, onnx.ModelProto | None]:
        """A candidate's row, and its model where it had to be built."""
        name = candidate.name
        bar(0, title=name)
        plain = build(candidate, self.original, None, self.shapes, self.options)
        if isinstance(plain, str):
            return Row(name, reason=plain), None
        same = self._seen.setdefault((plain.model.graph.SerializeToString(), candidate.repair), name)
        if same != name:
            return Row(name, plain.cost, reason=f"the same as {same}"), None
        latency = known.latency(name) or latency_ratio(self.original, plain.model, self.canvases)
        if latency > most:
            known.add(name, None, latency)
            return Row(name, plain.cost, latency, reason=f"takes {latency:.2f}x the time, over {most:.2f}x"), None
        after, made = known.of(name), None
        if after is None:
            built = self.built(candidate, bar)
            if isinstance(built, str):
                return Row(name, plain.cost, latency, reason=built), None
            made = built.model
            after = views.of(made, self.ticking(bar))
            known.add(name, after, latency)
        return Row(name, plain.cost, latency, after.against(before, self.options.seed)), made

    def built(self, candidate: Candidate, bar: Bar) -> Built | str:
        """A candidate with its weights repaired, or why that cannot be."""
        tick = self.ticking(bar)
        return build(candidate, self.original, self._batches, self.shapes, self.options, progress=lambda *_: tick(0))

    def proven(self, candidate: Candidate, made: onnx.ModelProto | None, bar: Bar) -> onnx.ModelProto:
        """The model of a candidate, the rewrites in it proven."""
        if made is None:  # measured by an earlier run
            built = self.built(candidate, bar)
            if isinstance(built, str):
                raise CannotHandle(f"{candidate.name}: {built}")
            made = built.model
        first = candidate.rewritten(self.original, self.shapes, verify=True)
        if candidate.then:
            candidate.finished(first.model, self.shapes, verify=True)
        return made


class _Measured:
    """What was measured, kept in a file from one run to the next."""

    def __init__(self, path: Path | None, key: str, rows: dict[str, Json]) -> None:
        self._path, self._key, self._rows = path, key, rows

    @classmethod
    def read(cls, path: Path | None, key: str) -> _Measured:
        """What an earlier run of the same request left; nothing where the file is of another request."""
        rows: dict[str, Json] = {}
        if path is not None and path.is_file():
            table = read_json(path, "it cannot be resumed: remove it")
            if isinstance(table, dict) and table.get("key") == key:
                rows = table.get("rows", {})
        return cls(path, key, rows)

    def of(self, name: str) -> Steadiness | None:
        """The figures of a candidate."""
        found = self._rows.get(name, {}).get("figures")
        return Steadiness.of(found) if found else None

    def latency(self, name: str) -> float | None:
        """Its latency."""
        found: float | None = self._rows.get(name, {}).get("latency")
        return found

    def add(self, name: str, figures: Steadiness | None, latency: float | None = None) -> None:
        """Keep what was measured."""
        self._rows[name] = {"latency": latency, "figures": figures.to_dict() if figures else None}
        if self._path is not None:
            write_bytes(self._path, [json.dumps({"key": self._key, "rows": self._rows}).encode()])


def _key(
    original: onnx.ModelProto,
    names: Sequence[str],
    offered: Sequence[Candidate],
    seed: int,
    shapes: Mapping[str, Sequence[int]],
) -> str:
    """What a request is known again by: its model, samples, candidates and seed."""
    told = repr((__version__, list(names), offered, seed, sorted(shapes.items()), PAIRS))
    return hashlib.sha256(original.SerializeToString(deterministic=True) + told.encode()).hexdigest()


def _plain(changes: Changes | None) -> Json | None:
    if changes is None:
        return None
    named = {"near": changes.near, "far": changes.far, "top1": changes.top1}
    keys = ("before", "after", "change", "low", "high", "p", "n")
    return {name: {key: getattr(one, key) for key in keys} for name, one in named.items() if one is not None}
