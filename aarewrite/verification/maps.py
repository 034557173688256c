"""What a model's outputs are, told from their shapes; and of maps and vectors, how far the output of a shifted input is
from the shifted output.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np

from aarewrite.data.arrays import Array, Offset
from aarewrite.data.geometry import Geometry, Sample
from aarewrite.data.views import Views
from aarewrite.errors import AarewriteError, CannotHandle, UsageError
from aarewrite.model.index import open_graph
from aarewrite.model.runner import Model
from aarewrite.model.value_sizes import free_axes
from aarewrite.verification.detect import find_profile
from aarewrite.verification.engine import Result, ShiftStudy
from aarewrite.verification.finite import demand_finite, says_nothing
from aarewrite.verification.masks import boundary_distance, unpaired_components
from aarewrite.verification.profiles import Profile
from aarewrite.verification.protocols import ShiftPlan
from aarewrite.verification.registration import register
from aarewrite.verification.statistics import Mean
from aarewrite.verification.strides import Ratios, path_ratios, ratio_of_sizes

DENSE = ("dense", "depth", "image", "segment")  # tasks whose outputs are maps
TASKS = (*DENSE, "classify", "detect", "embed", "metric", "vector")
FLAT = 1e-6  # a map whose range is no larger than this share of its magnitude is constant
ALL_SHIFTS = ("all", 0.0)  # stands for a direction and distance
Key = tuple[int, str, str, tuple[str, float]]  # model, output, measure, and direction and distance
PSNR_CAP = 200.0  # dB, stands for "identical": a mean over images needs a finite number


@dataclass(frozen=True)
class MapGrid:
    """How a dense output lies over the input."""

    output: str  # the output's name
    axes: tuple[int, ...]  # its spatial axes, counted with the batch axis
    # Output pixels per input pixel, one fraction per axis (1/4 for stride 4, 2 for super-resolution)
    ratio: tuple[Fraction, ...]
    class_axis: int | None  # axis of the class scores for pixel agreement, None when there are none

    @property
    def step(self) -> int:
        """Smallest input shift that is a whole number of output pixels on every axis."""
        return math.lcm(*(fraction.denominator for fraction in self.ratio))


@dataclass(frozen=True)
class MapPoint:
    """What one shift does, means over images; None where a task does not have the measure, or nothing was seen."""

    direction: str
    distance: float
    relative_error: Mean | None = None  # ||shifted back - unshifted|| / ||unshifted|| in the common region
    psnr: Mean | None = None  # dB, peak = range of the unshifted output (200 where identical); not of vectors
    agreement: Mean | None = None  # share of pixels with the same class
    cosine: Mean | None = None  # cosine similarity of vectors
    # Of depth: as `relative_error` to the mean, after the scale and shift that fit best; and |that scale - 1|
    aligned_error: Mean | None = None
    scale_change: Mean | None = None
    # Of masks: mean distance of boundaries, px of the output; components that only one of both has
    boundary: Mean | None = None
    vanished: Mean | None = None
    appeared: Mean | None = None


MEASURES = tuple(entry.name for entry in fields(MapPoint) if entry.name not in ("direction", "distance"))


@dataclass(frozen=True)
class MapResult(Result):
    """What one protocol says about one output of one model; the means are over images of each image's over shifts."""

    output: str
    task: str
    points: tuple[MapPoint, ...]
    pixel_agreement: Mean | None
    relative_error: Mean | None
    total: MapPoint  # over all shifts
    # What changes from one frame of a pan to the next: relative error, of masks the share of pixels
    flicker: Mean | None
    images: int  # whose output is not constant, whatever the shift; only they count, and with 0 there is no signal

    @property
    def signal(self) -> bool:
        """Whether anything was seen that could be steady."""
        return self.images > 0

    @property
    def headline(self) -> str:
        """The measure that says most, a field of `MapPoint`."""
        return {"depth": "aligned_error", "segment": "agreement"}.get(self.task, "relative_error")


def find_grid(
    output: str,
    shape: Sequence[int],
    dtype: np.dtype[np.generic],
    size: Sequence[int],
    layout: str,
    ratios: Ratios | None = None,
) -> MapGrid | None:
    """Recognise an output, by its measured shape with the batch axis, as a map over an input of a size, or return None.

    Its axes and strides are those of its path, the `ratios`, where they are known. Else they are told from the sizes:
    channels are looked for on the same side as the input's first. Integer maps are taken as class maps.
    """
    spatial, rank = len(size), len(shape)
    if ratios is not None and len(ratios) == rank:
        axes = tuple(axis for axis, ratio in enumerate(ratios) if ratio is not None)
        if len(axes) < spatial or min(shape[axis] for axis in axes) < 2:
            return None
        return _grid(output, shape, dtype, axes, tuple(ratio for ratio in ratios if ratio is not None))
    last = tuple(range(rank - spatial, rank))
    middle = tuple(range(1, 1 + spatial))
    candidates = [last, middle] if layout in ("nchw", "ncl", "ncdhw", "nl") else [middle, last]
    for axes in candidates if rank - spatial in (1, 2) else ():
        extents = [shape[axis] for axis in axes]
        if min(extents) < 2 or (rank == 2 and extents[0] != size[0]):  # (N, K) is a map only with K time steps
            continue
        found = [ratio_of_sizes(out, into) for out, into in zip(extents, size, strict=True)]
        ratio = tuple(r for r in found if r is not None)
        if len(ratio) == spatial and len({round(float(r), 2) for r in ratio}) == 1:
            return _grid(output, shape, dtype, axes, ratio)
    return None


def _grid(
    output: str, shape: Sequence[int], dtype: np.dtype[np.generic], axes: tuple[int, ...], ratio: tuple[Fraction, ...]
) -> MapGrid:
    channel = next((axis for axis in range(1, len(shape)) if axis not in axes), None)
    scores = channel is not None and shape[channel] >= 2 and shape[channel] != 3
    return MapGrid(output, axes, ratio, channel if scores and not np.issubdtype(dtype, np.integer) else None)


@dataclass(frozen=True)
class Task:
    """The task of one model and the outputs it concerns."""

    name: str  # one of `TASKS`
    why: str  # how it was found, for the report
    grids: tuple[MapGrid, ...]  # the outputs; for all tasks but `DENSE` entries with empty axes
    profile: Profile | None = None  # how a detector is decoded
    selected: tuple[str, ...] = ()  # outputs whose size depends on values, left out but for a detector


def infer_task(
    model: Model,
    geometry: Geometry,
    asked: str | None,
    decode: str | None = None,
    probe: Callable[[], Sequence[Array]] | None = None,
) -> Task:
    """Run the model on ones and tell its task; `asked` overrules the guess, `decode` is the profile of a detector.

    What may be a detector is run on `probe` too, an array an input: whether a profile fits is told from values. Without
    it detectors are not looked for.

    Raises:
        UsageError: `asked` or `decode` is unknown, or they exclude each other.
        CheckFailed: All outputs are NaN for `probe`.
        CannotHandle: No output fits the task asked for, with the shapes named; or they list predictions of a detector
            that no profile is known for.
    """
    if asked is not None and asked not in TASKS:
        raise UsageError(f"--task {asked}: unknown", f"use one of {', '.join(TASKS)}")
    shapes = [spec.shape(geometry.size, channels=3 if len(spec.axes) == 2 else 1) for spec in model.image_inputs]
    outputs = model.run(model.feed(np.ones((1, *shape), np.float32) for shape in shapes))
    selected, ratios = _of_graph(model, geometry.size)
    left = ", ".join(selected)
    empty = [name for name, array in outputs.items() if not array.size]
    outputs = {name: array for name, array in outputs.items() if name not in (*selected, *empty)}
    listing = ", ".join(f"{name} {array.shape}" for name, array in outputs.items())
    layout = model.image_inputs[0].layout
    maps = [find_grid(name, a.shape, a.dtype, geometry.size, layout, ratios.get(name)) for name, a in outputs.items()]
    grids = tuple(grid for grid in maps if grid is not None)
    numbers = [name for name, a in outputs.items() if a.dtype.kind in "fiu"]
    ranks = (2, 2 + len(geometry.size))  # (N, K) or (N, K, 1, 1); other ranks are lists, of anchors for example
    classes = [n for n in numbers if outputs[n].ndim in ranks and outputs[n].shape[1] == outputs[n].size >= 2]
    single = [grid for grid in grids if outputs[grid.output].size == _pixels(grid, outputs[grid.output])]
    masks = [grid for grid in grids if grid.class_axis is not None or outputs[grid.output].dtype.kind in "iu"]
    # wide integers are indices, of what a detector selects for example
    scores = [n for n in classes if outputs[n].dtype.kind == "f" or outputs[n].dtype.itemsize == 1]
    guess = "metric" if len(model.image_inputs) == 2 else "dense" if grids else "classify" if scores else "vector"
    profile = None
    if len(geometry.size) != 2 or len(model.image_inputs) != 1:
        if decode is not None:
            raise UsageError("--decode: the model takes no single picture", "leave --decode out")
    elif probe and (decode or asked == "detect" or (asked in (None, "vector") and guess in ("dense", "vector"))):
        seen = model.run(model.feed(probe()))
        if says_nothing(seen):
            demand_finite(model.label, seen, "the first sample")
        profile = find_profile(model.label, seen, geometry.size, asked, decode, guess)
    task = asked or ("detect" if profile else guess)
    if task != "metric" and len(model.image_inputs) > 1:
        names = ", ".join(spec.name for spec in model.image_inputs)
        raise CannotHandle(f"{model.label}: task {task} shifts one input, the model takes {names}", "use --task metric")
    if not outputs and not profile and not selected:
        raise CannotHandle(f"{model.label}: outputs without values: {', '.join(empty)}", "check the model")
    if not outputs and not profile:
        raise CannotHandle(
            f"{model.label}: the size of every output depends on values ({left}): there are no places to compare",
            "verify the model without what selects them",
        )
    why = "given" if asked else f"inferred from outputs {listing}"
    why += f"; without {left}, whose size depends on values" if left and not profile else ""
    concerned = {
        "classify": (scores or classes)[:1],
        "metric": numbers[:1] if len(model.image_inputs) == 2 else [],
        "vector": numbers,
        "embed": [name for name in numbers if outputs[name].size >= 2][:1],
        "detect": list(model.output_names) if profile else [],
    }.get(task, [])
    of_maps = {"dense": grids, "image": grids, "depth": single, "segment": masks or single}.get(task, ())
    if profile:
        why += f", decoded by profile {profile.name}"
    if concerned or of_maps:
        concerns = tuple(of_maps) or tuple(MapGrid(name, (), (), None) for name in concerned)
        return Task(task, why, concerns, profile, selected)
    raise CannotHandle(
        f"{model.label}: no output fits task {task} (outputs: {listing})",
        f"set --task {', '.join(TASKS[:-1])} or {TASKS[-1]}",
    )


def _pixels(grid: MapGrid, output: Array) -> int:
    return math.prod(output.shape[axis] for axis in grid.axes)


def _of_graph(model: Model, size: Sequence[int]) -> tuple[tuple[str, ...], dict[str, Ratios]]:
    """The outputs whose size depends on values, and the ratios along the paths; nothing where the graph cannot be
    read."""
    try:
        graph = open_graph(model, size, weights=False)
    except AarewriteError:
        return (), {}
    return tuple(sorted(free_axes(graph.proto, certain=True))), path_ratios(graph)


class MapStudy(ShiftStudy):
    """Compares every shifted output with the centre's, and with the one before on the same pan; keeps only these.

    `grids` are each model's maps; one with empty `axes` is compared as a vector. `task` is one of `DENSE`, or `vector`.
    """

    def __init__(
        self, plan: ShiftPlan, views: Views, models: Sequence[str], grids: Sequence[Sequence[MapGrid]], task: str
    ) -> None:
        super().__init__(plan, views, models)
        self._grids, self._task = grids, task
        self._centre: Sequence[dict[str, Array]] = ()
        self._last: Sequence[dict[str, Array]] = ()  # of the pan
        self._image = defaultdict[Key, list[float]](list)  # of the one in work
        self._varies = dict[tuple[int, str], bool]()  # whether an output of it is not always the same constant
        step = math.lcm(*(grid.step for per_model in grids for grid in per_model))
        if step > 1 and plan.protocol != "fractional":  # shifts below the stride, and by it
            reach = plan.geometry.reach if plan.protocol == "crop" else min(plan.geometry.size) // 2
            self.lines = plan.lines(sorted({*plan.distances, min(step, reach)}))

    def receive(self, sample: Sample, number: int, results: Sequence[dict[str, Array]]) -> None:
        """Take every model's outputs for one view."""
        for m, grids in enumerate(self._grids):
            of_view = {grid.output: results[m][grid.output] for grid in grids}
            demand_finite(self.models[m], of_view, f"sample {sample.index + 1}")
            for name, values in of_view.items() if number else ():
                if values.shape != (before := self._centre[m][name].shape):
                    sizes = f"{before} for one view and {values.shape} for another"
                    raise CannotHandle(
                        f"{self.models[m]}: output {name!r} is {sizes}", "leave out what selects by value"
                    )
        offset = self.offsets(sample.index)[number]
        if number == 0:
            self._centre = results
            return
        direction, distance = self.lines[offset]
        front = self.plan.step(direction, distance - self.plan.distances[0])  # the frame before, if it was seen
        first = front == self.plan.centre
        last = self._centre if first else self._last if front in self.lines else ()
        unit = self.plan.step(direction, self.plan.distances[0])
        for m, grids in enumerate(self._grids):
            for grid in grids:
                base, moved = self._centre[m][grid.output], results[m][grid.output]
                key = m, grid.output
                compared = self._compare(base, moved, grid, offset)
                differ = bool(compared) and self._differ(base, moved, grid)
                self._varies[key] = self._varies.get(key, False) or differ
                for measure, value in compared.items():
                    self._image[*key, measure, self.lines[offset]].append(value)
                    self._image[*key, measure, ALL_SHIFTS].append(value)
                if last and grid.axes:
                    found = self._compare(last[m][grid.output], moved, grid, unit, of_pan=True)
                    self._image[*key, "flicker", ALL_SHIFTS] += found.values()
        self._last = results

    def finish(self, sample: Sample) -> None:
        """Note the image, and once over all of its shifts: they are not independent."""
        for (m, output, measure, line), values in self._image.items():
            if values and self._varies[m, output]:
                self.note((m, output, measure, line), values)
        for key, varies in self._varies.items():
            self.note((*key, "varies"), varies)
        self._image.clear()
        self._varies.clear()

    def _differ(self, base: Array, moved: Array, grid: MapGrid) -> bool:
        """Whether two outputs are anything but the same constant."""
        if self._task == "segment":
            base, moved = _classes(base, grid, base), _classes(moved, grid, base)
        values = np.concatenate((base.reshape(-1), moved.reshape(-1))).astype(np.float64)
        return bool(np.ptp(values) > FLAT * np.abs(values).max())

    def _compare(
        self, base: Array, moved: Array, grid: MapGrid, offset: Offset, of_pan: bool = False
    ) -> dict[str, float]:
        """Every measure of a pair of outputs, `offset` apart; `of_pan`: only the one that flicker is told by."""
        moves = [Fraction(shift) * ratio for ratio, shift in zip(grid.ratio, offset, strict=False)]
        if self._task == "segment":
            base, moved = self._masks(base, moved, grid, moves)
            return _compare_masks(base, moved, of_pan) if base.size else {}
        base, moved = register(base, moved, grid.axes, moves, self.views.circular)
        if not base.size:  # the shift is as large as the map
            return {}
        first, second = base.astype(np.float64), moved.astype(np.float64)
        norms = float(np.linalg.norm(first)), float(np.linalg.norm(second))
        # Zeros that do not stay so have an error of 1
        found = {"relative_error": float(np.linalg.norm(second - first)) / (norms[0] or norms[1] or 1.0)}
        if of_pan:
            return found
        if self._task == "vector":
            product = norms[0] * norms[1]
            return found | {"cosine": float((first * second).sum()) / product if product else 1.0}
        mse, peak = float(((second - first) ** 2).mean()), float(np.ptp(first)) or float(np.ptp(second))
        found["psnr"] = PSNR_CAP if mse == 0 else min(PSNR_CAP, 10 * math.log10(max(peak**2, 1e-300) / mse))
        if self._task == "depth":
            found |= _aligned(first, second)
        elif grid.class_axis is not None and self._task == "dense":
            masks = base.argmax(grid.class_axis), moved.argmax(grid.class_axis)
            if np.ptp(np.stack(masks)):  # one class throughout says nothing
                found["agreement"] = float((masks[0] == masks[1]).mean())
        return found

    def _masks(self, base: Array, moved: Array, grid: MapGrid, moves: Sequence[Fraction]) -> tuple[Array, Array]:
        """The classes of two outputs, in the part that both show."""
        if base.dtype.kind in "iu" and any(move.denominator > 1 for move in moves):  # a map a class can be interpolated
            numbers = np.union1d(base, moved)
            several = [(numbers.reshape(-1, *(1,) * base.ndim) == one).astype(np.float32) for one in (base, moved)]
            pair = register(several[0], several[1], [axis + 1 for axis in grid.axes], moves, self.views.circular)
            first, second = (numbers[one.argmax(0)] for one in pair)
            return first, second
        pair = register(base, moved, grid.axes, moves, self.views.circular)
        return _classes(pair[0], grid, base), _classes(pair[1], grid, base)

    def results_of(self, m: int) -> Sequence[MapResult]:
        """Return what was found of model m, one result an output."""
        return [self._result(m, grid) for grid in self._grids[m]]

    def _result(self, m: int, grid: MapGrid) -> MapResult:
        def point(line: tuple[str, float]) -> MapPoint:
            keys = {measure: (m, grid.output, measure, line) for measure in MEASURES}
            found: dict[str, Any] = {
                name: self.tally.mean(key) for name, key in keys.items() if key in self.tally.values
            }
            return replace(MapPoint(*line), **found)

        varies, flicker = self.tally.values[m, grid.output, "varies"], (m, grid.output, "flicker", ALL_SHIFTS)
        total, nothing = point(ALL_SHIFTS), Mean.of([])
        has_classes = self._task == "segment" or (self._task == "dense" and grid.class_axis is not None)
        return MapResult(
            *self.head(m, _describe(self.plan, grid, self._task), len(varies)),
            grid.output,
            self._task,
            tuple(map(point, self.lines.values())),
            (total.agreement or nothing) if has_classes else None,
            None if self._task == "segment" else total.relative_error or nothing,
            total,
            self.tally.mean(flicker) if flicker in self.tally.values else None,
            int(sum(varies)),
        )


def _classes(values: Array, grid: MapGrid, like: Array) -> Array:
    """The class of each pixel: the highest score's, the number itself, or whether a single value is in favour.

    A single value is when it is at least one half where those of `like` are probabilities, else 0.
    """
    if grid.class_axis is not None:
        scores: Array = values.argmax(grid.class_axis)
        return scores
    if values.dtype.kind in "iu":
        return values
    probabilities = like.min() >= 0 and like.max() <= 1
    favour: Array = values >= (0.5 if probabilities else 0)
    return favour


def _compare_masks(first: Array, second: Array, of_pan: bool) -> dict[str, float]:
    agreement = float((first == second).mean())
    if of_pan:
        return {"changed": 1 - agreement}
    found = {"agreement": agreement}
    flat = [mask.reshape([extent for extent in mask.shape if extent > 1]) for mask in (first, second)]
    if flat[0].ndim == 2:
        vanished, appeared = unpaired_components(*flat)
        found |= {"vanished": vanished, "appeared": appeared}
        if (away := boundary_distance(*flat)) is not None:
            found["boundary"] = away
    return found


def _aligned(first: Array, second: Array) -> dict[str, float]:
    """What is left of a depth map when another one is scaled, by 0 or more, and shifted to fit it best (least squares).

    The solution is that of a line through the pairs of values: the scale is their covariance by a variance.
    """
    wanted, given = first - first.mean(), second - second.mean()
    norms = float((wanted**2).sum()), float((given**2).sum())
    scale = max(0.0, float((wanted * given).sum()) / norms[1]) if norms[1] else float(norms[0] == 0)
    left = float(((wanted - scale * given) ** 2).sum())
    error = math.sqrt(left / norms[0]) if norms[0] else float(norms[1] > 0)
    return {"aligned_error": error, "scale_change": abs(scale - 1)}


def _describe(plan: ShiftPlan, grid: MapGrid, task: str) -> str:
    where = plan.geometry.describe() if plan.protocol == "crop" else f"centre crop, {plan.protocol} shift"
    if task == "vector":
        return f"{where}; outputs compared as they are, not shifted back"
    stride = "x".join(str(1 / ratio) for ratio in grid.ratio)
    finer = ", fractions of its pixels by band-limited interpolation" if grid.step > 1 else ""
    return f"{where}; shifted back by the output's stride ({stride}){finer}, common region"
