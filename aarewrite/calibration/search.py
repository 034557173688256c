"""Choosing what to do at each site so that the result fits the weights at hand.

Every candidate is built, repaired on some calibration images and judged on others: what counts is how the repaired
model behaves, not how much the untouched weights suffer. First each choice alone, then the good ones together, the
most useful first, as long as the limits on cost and on disagreement with the original hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import Protocol

import onnx

from aarewrite.calibration.judge import Judge
from aarewrite.calibration.problem import RepairOptions
from aarewrite.calibration.repair import DEFAULTS, repair
from aarewrite.data.canvases import Canvases
from aarewrite.errors import UsageError


@dataclass(frozen=True)
class Choice:
    """One thing that can be done at a site."""

    label: str  # for people and for the plan: "after, f=3, strength 0.5"
    change: object = field(default=None, compare=False)  # what `Variants.build` understands


class Variants(Protocol):
    """What can be done to a model; a site that is not named in `chosen` is left as it is."""

    def sites(self) -> Sequence[str]:
        """The sites, in graph order."""

    def choices(self, site: str) -> Sequence[Choice]:
        """What can be done there, without "leave"."""

    def build(self, chosen: Mapping[str, Choice]) -> tuple[onnx.ModelProto, float]:
        """The rewritten model, not repaired, and its cost relative to the original's.

        Raises:
            UsageError: The choices exclude each other.
        """


@dataclass(frozen=True)
class SearchOptions:
    """Limits and effort of the search."""

    budget: float = 1.15  # largest cost relative to the original's
    max_disagreement: float = 0.10  # largest share of crops with another class than the original's
    images: int = 48  # calibration images to repair trials on
    judged: int = 48  # other calibration images to judge trials by
    crops: int = 8  # crops of each of these
    gain: float = 0.01  # least relative reduction of crop noise that is worth a change


LIMITS = SearchOptions()


@dataclass(frozen=True)
class Trial:
    """A combination that was built, repaired and measured: a point of the trade-off curve."""

    chosen: tuple[tuple[str, str], ...]  # (site, label) for each site that is changed
    cost: float  # relative to the original's, as `Variants.build` counts it
    noise: float  # crop noise after repair relative to the original's, see `Effect`
    disagreement: float  # with the original after repair
    accepted: bool  # whether the search went on from it
    reason: str  # why it was or was not


@dataclass(frozen=True)
class SearchResult:
    """The combination found and everything tried on the way, in order."""

    chosen: dict[str, Choice]
    trials: tuple[Trial, ...]


def search(
    original: onnx.ModelProto,
    variants: Variants,
    canvases: Canvases,
    indices: Sequence[int],
    options: SearchOptions = LIMITS,
    repair_options: RepairOptions = DEFAULTS,
    *,
    minutes: float | None = None,
    progress: Callable[[Trial, int], None] | None = None,
) -> SearchResult:
    """Find what to do at each site of a model.

    Args:
        original, variants: The model, and what can be done to it.
        canvases, indices: The data; part of these samples repairs trials, another part judges them.
        options, repair_options: Limits and effort, and how trials are repaired.
        minutes: Time to try in: what was found by then is the result. None: until all is tried.
        progress: Called after each trial with the number of choices that are tried alone.

    Raises:
        UsageError: Fewer than four samples.
    """
    if len(indices) < 4:
        raise UsageError(f"{len(indices)} calibration samples are too few to choose by", "give at least a dozen")
    most = min(options.images, len(indices) // 2)
    fitted, judged = list(indices[:most]), list(indices[most : most + options.judged])
    seed, threads = repair_options.seed, repair_options.threads
    judge = Judge(original, canvases, judged, crops=options.crops, seed=seed, threads=threads)
    batches = canvases.batches(fitted, crops=repair_options.crops, seed=seed)
    offered = {site: variants.choices(site) for site in variants.sites()}
    trials: list[Trial] = []
    began = time.monotonic()

    def measure(chosen: Mapping[str, Choice], best: float) -> Trial:
        """Try a combination; it is accepted when it is within the limits and has less noise than `best`."""
        names = tuple((site, choice.label) for site, choice in chosen.items())
        cost = noise = disagreement = nan
        try:
            model, cost = variants.build(chosen)
            why = f"costs {cost:.2f}x, over {options.budget:.2f}x" if cost > options.budget else ""
        except UsageError as error:
            why = error.message
        if not why:
            effect = judge.effect(repair(original, model, batches, repair_options)[0])
            noise, disagreement = effect.noise, effect.disagreement
            if disagreement > options.max_disagreement:
                why = f"disagrees on {disagreement:.1%}, over {options.max_disagreement:.1%}"
            elif noise > best - options.gain:
                why = f"crop noise {noise:.3f}, no gain on {best:.3f}"
        trial = Trial(names, cost, noise, disagreement, not why, why or "less crop noise")
        trials.append(trial)
        if progress is not None:
            progress(trial, sum(map(len, offered.values())))
        return trial

    def over() -> bool:
        return minutes is not None and time.monotonic() - began > 60 * minutes

    # Each choice alone: what a site can give, and at what price.
    alone: list[tuple[float, str, Choice]] = []
    for site, choice in ((site, choice) for site, choices in offered.items() for choice in choices):
        if over():
            break
        trial = measure({site: choice}, 1.0)
        if trial.accepted:
            alone.append((1.0 - trial.noise, site, choice))

    # Together, the largest gain first; a site takes the strongest choice that still fits.
    chosen: dict[str, Choice] = {}
    best = 1.0
    for gain, site, choice in sorted(alone, key=lambda one: -one[0]):
        if site in chosen:
            continue
        added = {**chosen, site: choice}
        wanted = {name: added[name] for name in variants.sites() if name in added}
        if not chosen:
            chosen, best = wanted, 1.0 - gain  # measured already
            continue
        if over():
            break
        trial = measure(wanted, best)
        if trial.accepted:
            chosen, best = wanted, trial.noise
    return SearchResult(chosen, tuple(trials))
