"""Detectors: do the boxes move along when the camera does? Consistency, shaking, births and deaths, survival.

Detections at the centre crop are matched with those at a moved crop, moved back: greedily in order of score, of one
class, overlapping by at least one half. What counts lies inside the region that both crops see.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from aarewrite.data.arrays import Array, Offset
from aarewrite.data.geometry import Sample
from aarewrite.data.views import Views
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.verification.decode import Detections, choose_profile, decode, is_list, misfit, overlaps
from aarewrite.verification.engine import Result, ShiftStudy
from aarewrite.verification.finite import demand_finite
from aarewrite.verification.profiles import AUTO, BUILT_IN, Profile, load_profile
from aarewrite.verification.protocols import ShiftPlan
from aarewrite.verification.records import Note
from aarewrite.verification.statistics import Difference, Mean, Proportion, difference

LEAST_OVERLAP = 0.5  # of two boxes that are the same
SHOWN_FRAMES = 6
SHOWN_BOXES = 40  # in a frame, those of the highest scores
FRAME = 200  # px, long side, of the frames shown
ANY_STRIDE = 32  # px, of detectors whose profile names none
ALL_SHIFTS = ("all", 0.0)  # stands for a direction and distance
FRAME_KEY = "frames"  # what notes of boxes begin with
OUTSIDE = -1.0  # stands for a box that does not count
COUNTS = ("paired", "all", "births", "deaths")


@dataclass(frozen=True)
class DetectPoint:
    """One shift: pairs of detections, an image by the mean of its pairs."""

    direction: str
    distance: float
    consistency: Proportion  # 2 pairs / (detections at the centre + at the shift), pooled over images
    instability: Mean  # 1 - intersection over union of a pair's boxes
    score_change: Mean  # |change of the score|
    jitter: Mean  # difference of the boxes' centres, the larger of both axes, px
    points_jitter: Mean | None  # the same of keypoints, a pair by the mean of its keypoints; None without
    births: int  # detections that only the shifted crop has
    deaths: int  # that only the centre crop has


@dataclass(frozen=True)
class DetectResult(Result):
    """What moved crops say about one detector; consistency and births over all shifts."""

    profile: str
    margin: float  # px by which the region that both crops see is shrunk
    detections: int  # at the centre crops
    images: int  # with at least one detection at any crop; 0: no signal, and every share is NaN
    points: tuple[DetectPoint, ...]
    consistency: Proportion
    instability: Mean
    score_change: Mean
    jitter: Mean  # px, of each detection at the centre the largest over shifts
    jitter_of_side: Mean  # the same by the box's side along that axis
    largest_jitter: float  # px, over all pairs
    births: int
    deaths: int
    # Share of the detections at the centre crops of the model held against that this one has too; None without
    survival: Proportion | None = None

    @property
    def signal(self) -> bool:
        """Whether anything was seen that could be consistent."""
        return self.images > 0


@dataclass(frozen=True)
class Box:
    """A detection of a frame, and whether the other frame has it too; None where it lies outside what both see."""

    corners: tuple[float, float, float, float]  # left, top, right, bottom, px of the model's input
    score: float
    number: int  # of the class
    paired: bool | None


@dataclass(frozen=True)
class Frames:
    """The centre crop of an image and a moved one, with each model's boxes in both."""

    name: str
    offset: Offset
    size: tuple[int, ...]  # of the model's input
    boxes: tuple[tuple[tuple[Box, ...], tuple[Box, ...]], ...]  # by model
    # `(h, w, 3)` uint8, made smaller; empty where the data are no pictures
    pictures: tuple[Array, ...] = field(default=(), repr=False, compare=False)


def match(first: Detections, second: Detections, least: float = LEAST_OVERLAP) -> tuple[Array, Array]:
    """Pairs of detections as indices of both: each of the first, the highest score first, takes the free one of the
    second of its class that overlaps it most, and by at least `least`.
    """
    shared = np.where(first.classes[:, None] == second.classes, overlaps(first.boxes, second.boxes), 0)
    pairs = []
    for i in range(len(first)) if len(second) else ():
        j = int(shared[i].argmax())
        if shared[i, j] >= least:
            pairs.append((i, j))
            shared[:, j] = -1
    left, right = np.asarray(pairs, int).reshape(-1, 2).T
    return left, right


def find_profile(
    label: str, outputs: Mapping[str, Array], size: Sequence[int], task: str | None, decode: str | None, guess: str
) -> Profile | None:
    """The profile that decodes a model's outputs for a picture; None where it is no detector.

    Args:
        label: What the model is called.
        outputs: Of one picture, with a batch axis of 1.
        size: Of the picture (height, width).
        task: The task asked for.
        decode: The profile asked for.
        guess: The task that the outputs' shapes alone suggest.

    Raises:
        UsageError: As `load_profile`, or `decode` is given for another task.
        CannotHandle: Its outputs list predictions, or detections are asked for, and no profile is known for them.
    """
    if task == "detect" or (task is None and decode is not None):
        return choose_profile(decode or AUTO, outputs, size, label)
    if decode is not None:
        raise UsageError(f"--decode does nothing for task {task}", "leave --decode out")
    fitting = [name for name in BUILT_IN if not misfit(load_profile(name), outputs, size)]
    if task is None and len(fitting) == 1:
        return load_profile(fitting[0])
    if guess == "vector" and any(map(is_list, outputs.values())):
        if task is None:
            return choose_profile(AUTO, outputs, size, label)
        listing = ", ".join(f"{name} {array.shape}" for name, array in outputs.items() if is_list(array))
        reason = f"{label}: {listing} lists predictions; compared as a vector they say nothing"
        raise CannotHandle(reason, "use --task detect with --decode, or --task embed for tokens")
    return None


@dataclass(frozen=True)
class _Change:
    """What a shift did to one image's detections; coordinates in the centre crop's frame."""

    pairs: tuple[Array, Array]  # indices of both sides, those that count
    born: Array  # indices of the moved crop's detections without a partner
    died: Array  # and of the centre's
    measures: Mapping[str, list[float]]  # of each pair
    jitter: Array  # of each pair along both axes, px


class DetectStudy(ShiftStudy):
    """Matches the detections of every shifted crop with the centre's; keeps those of the image in work and a few to
    show.

    `profiles` are one a model, `names` the samples'; `UsageError` for a `margin` that leaves no region.
    """

    def __init__(
        self,
        plan: ShiftPlan,
        views: Views,
        models: Sequence[str],
        profiles: Sequence[Profile],
        names: Sequence[str],
        margin: float = 0,
    ) -> None:
        super().__init__(plan, views, models)
        if not 0 <= margin < (most := min(plan.geometry.size) / 4):
            raise UsageError(f"--margin {margin:g}: leaves no region", f"give 0 to less than {most:g} px")
        self._profiles, self._names, self._margin = profiles, names, margin
        self._found: list[list[Detections]] = []  # by view of the image in work, then by model
        self._worst: list[tuple[float, float, int, Frames]] = []  # a heap of those shown

    def receive(self, sample: Sample, number: int, results: Sequence[dict[str, Array]]) -> None:
        """Decode every model's outputs for one view."""
        for model, profile, outputs in zip(self.models, self._profiles, results, strict=True):
            demand_finite(model, profile.read_of(outputs), self._names[sample.index], excluded=True)
        size = self.plan.geometry.size
        found = [decode(profile, outputs, size) for profile, outputs in zip(self._profiles, results, strict=True)]
        self._found.append(found)

    def finish(self, sample: Sample) -> None:
        """Note the image's figures."""
        offsets = self.offsets(sample.index)[1:]
        changes = [
            [self._compare(base, seen.moved(offset), offset) for offset, seen in zip(offsets, shifted, strict=True)]
            for base, *shifted in zip(*self._found, strict=True)
        ]
        for m, of_model in enumerate(changes):
            self._note_model(m, self._found[0][m], of_model)
        if len(self.models) == 2:
            new, old = self._found[0]
            self.note("old", len(old))
            self.note("survived", len(match(old, new)[0]))
        upset = [_upset(at) for at in zip(*changes, strict=True)]
        worst = max(range(len(upset)), key=upset.__getitem__)
        if any(upset[worst]):
            self._note_frames(worst + 1, [of_model[worst] for of_model in changes], upset[worst])
        self._found.clear()

    def count_in(self, i: int, notes: Sequence[Note]) -> None:
        """Count sample i by its notes; keep its frames if they are among the worst."""
        frames: dict[Hashable, float] = {
            key[1:]: value for key, value in notes if isinstance(key, tuple) and key[0] == FRAME_KEY
        }
        super().count_in(i, [note for note in notes if not (isinstance(note[0], tuple) and note[0][0] == FRAME_KEY)])
        if not frames:
            return
        place = (frames["births and deaths",], frames["jitter",], -i)
        if len(self._worst) < SHOWN_FRAMES or place > self._worst[0][:3]:
            put = heapq.heappush if len(self._worst) < SHOWN_FRAMES else heapq.heappushpop
            put(self._worst, (*place, self._frames_of(i, frames)))

    def illustrate(self, load: Callable[[int], Sample]) -> None:
        """Cut both views of every image that is shown."""
        for k, (gone, jitter, place, frames) in enumerate(self._worst):
            pictures = self.pictures(load(-place), (self.plan.centre, frames.offset), FRAME)
            self._worst[k] = (gone, jitter, place, replace(frames, pictures=pictures))

    def _compare(self, base: Detections, seen: Detections, offset: Offset) -> _Change:
        low = np.maximum(offset, 0)[::-1] + self._margin
        high = (np.asarray(self.plan.geometry.size) + np.minimum(offset, 0))[::-1] - self._margin
        inside, also = (_within(found.boxes, low, high) for found in (base, seen))
        left, right = match(base, seen)
        died = np.flatnonzero(inside & ~np.isin(np.arange(len(base)), left))
        born = np.flatnonzero(also & ~np.isin(np.arange(len(seen)), right))
        either = inside[left] | also[right]  # a pair at the region's border is no birth and no death
        left, right = left[either], right[either]
        first, second = base.at(left), seen.at(right)
        jitter = np.abs(_centres(first) - _centres(second))
        measures = {
            "instability": 1 - overlaps(first.boxes, second.boxes).diagonal(),
            "score_change": np.abs(first.scores - second.scores),
            "jitter": jitter.max(1, initial=0),
        }
        if first.points.size:
            measures["points_jitter"] = np.abs(first.points - second.points).max(2).mean(1)
        listed = {name: values.tolist() for name, values in measures.items() if len(values)}
        return _Change((left, right), born, died, listed, jitter)

    def _note_model(self, m: int, base: Detections, changes: Sequence[_Change]) -> None:
        largest, every = np.full((len(base), 2), np.nan), dict[str, list[float]]()
        totals = dict.fromkeys(COUNTS, 0)
        for line, change in zip(self.lines.values(), changes, strict=True):
            born, died, paired = len(change.born), len(change.died), len(change.pairs[0])
            counts = zip(COUNTS, (2 * paired, 2 * paired + born + died, born, died), strict=True)
            for name, value in counts:
                self.note((m, name, line), value)
                totals[name] += value
            for name, values in change.measures.items():
                self.note((m, name, line), values)
                every.setdefault(name, []).extend(values)
            largest[change.pairs[0]] = np.fmax(largest[change.pairs[0]], change.jitter)
        moved = np.flatnonzero(~np.isnan(largest[:, 0]))
        if len(moved):
            sides = base.boxes[moved, 2:] - base.boxes[moved, :2]
            every |= {
                "jitter": largest[moved].max(1).tolist(),
                "jitter_of_side": (largest[moved] / sides).max(1).tolist(),
                "largest_jitter": [float(largest[moved].max())],
            }
        for name, total in totals.items():
            self.note((m, name, ALL_SHIFTS), total)
        for name, values in every.items():
            self.note((m, name, ALL_SHIFTS), values)
        self.note((m, "detections"), len(base))

    def _note_frames(self, number: int, changes: Sequence[_Change], upset: tuple[int, float]) -> None:
        """Note the boxes of the centre and of another view: what is shown is drawn from notes alone."""
        for name, value in zip(("births and deaths", "jitter", "view"), (*upset, number), strict=True):
            self.note((FRAME_KEY, name), value)
        for m, change in enumerate(changes):
            alone, views = (change.died, change.born), (self._found[0][m], self._found[number][m])
            for side, (found, paired, unpaired) in enumerate(zip(views, change.pairs, alone, strict=True)):
                states = dict.fromkeys(unpaired.tolist(), False) | dict.fromkeys(paired.tolist(), True)
                for k in range(min(len(found), SHOWN_BOXES)):
                    state = states.get(k, OUTSIDE)
                    row = (*found.boxes[k], found.scores[k], found.classes[k], state)
                    for place, value in enumerate(row):
                        self.note((FRAME_KEY, m, side, k, place), float(value))

    def _frames_of(self, i: int, notes: Mapping[Hashable, float]) -> Frames:
        def box(m: int, side: int, k: int) -> Box:
            left, top, right, bottom, score, number, state = (notes[m, side, k, place] for place in range(7))
            return Box((left, top, right, bottom), score, int(number), None if state == OUTSIDE else bool(state))

        def boxes(m: int, side: int) -> tuple[Box, ...]:
            return tuple(box(m, side, k) for k in range(SHOWN_BOXES) if (m, side, k, 0) in notes)

        models = tuple((boxes(m, 0), boxes(m, 1)) for m in range(len(self.models)))
        offset = self.offsets(i)[int(notes["view",])]
        return Frames(self._names[i], offset, self.plan.geometry.size, models)

    @property
    def frames(self) -> tuple[Frames, ...]:
        """The images whose detections a shift upset most, the worst first."""
        return tuple(frames for *_, frames in sorted(self._worst, key=lambda entry: entry[:3], reverse=True))

    def results_of(self, m: int) -> Sequence[DetectResult]:
        """Return what was found of model m."""
        tally, wholes = self.tally, self.tally.values[m, "all", ALL_SHIFTS]
        old, survived = tally.values["old"], tally.values["survived"]
        points = [self._point(m, line) for line in self.lines.values()]
        born, died = (int(sum(tally.values[m, name, ALL_SHIFTS])) for name in ("births", "deaths"))
        margin = f" shrunk by {self._margin:g} px" if self._margin else ""
        description = f"{self.plan.geometry.describe()}; inside the region that both see{margin}"

        def mean(name: str) -> Mean:
            return tally.mean((m, name, ALL_SHIFTS))

        found = DetectResult(
            *self.head(m, description, len(wholes)),
            self._profiles[m].name,
            self._margin,
            int(sum(tally.values[m, "detections"])),
            sum(whole > 0 for whole in wholes),
            tuple(points),
            self._consistency(m, ALL_SHIFTS),
            mean("instability"),
            mean("score_change"),
            mean("jitter"),
            mean("jitter_of_side"),
            mean("largest_jitter").largest,
            born,
            died,
            Proportion.pooled(survived, old) if len(self.models) == 2 and m == 0 else None,
        )
        return [found]

    def _consistency(self, m: int, line: tuple[str, float]) -> Proportion:
        return Proportion.pooled(self.tally.values[m, "paired", line], self.tally.values[m, "all", line])

    def _point(self, m: int, line: tuple[str, float]) -> DetectPoint:
        def mean(name: str) -> Mean:
            return self.tally.mean((m, name, line))

        born, died = (int(sum(self.tally.values[m, name, line])) for name in ("births", "deaths"))
        points = mean("points_jitter") if (m, "points_jitter", line) in self.tally.values else None
        consistency = self._consistency(m, line)
        return DetectPoint(
            *line, consistency, mean("instability"), mean("score_change"), mean("jitter"), points, born, died
        )

    def changes(self) -> tuple[Difference, ...]:
        """The paired change of consistency from the second model to the first, over images where both see something."""
        if len(self.models) != 2:
            return ()
        counted = [zip(*(self.tally.values[m, name, ALL_SHIFTS] for name in COUNTS[:2]), strict=True) for m in (0, 1)]
        both = [(a / b, c / d) for (a, b), (c, d) in zip(*counted, strict=True) if b and d]
        after, before = zip(*both, strict=True) if both else ((), ())
        name = f"{self.plan.protocol} consistency of detections"
        return (difference(name, before, after, self.plan.seed),) if both else ()


def _centres(found: Detections) -> Array:
    middle: Array = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    return middle


def _within(boxes: Array, low: Array, high: Array) -> Array:
    inside: Array = np.all((boxes[:, :2] >= low) & (boxes[:, 2:] <= high), axis=1)
    return inside


def _upset(changes: Sequence[_Change]) -> tuple[int, float]:
    """How much a shift upset an image in all models: births and deaths, the largest jitter."""
    gone = sum(len(change.born) + len(change.died) for change in changes)
    return gone, float(max(change.jitter.max(initial=0) for change in changes))
