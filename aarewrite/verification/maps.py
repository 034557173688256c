"""What a model's outputs are, told from their shapes; and of maps and vectors, how far the output of a shifted input is
from the shifted output.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from aarewrite.data.arrays import Array, Offset, window
from aarewrite.data.geometry import Geometry, Sample
from aarewrite.data.views import Views, fourier_shift
from aarewrite.errors import AarewriteError, CannotHandle, UsageError
from aarewrite.model.index import open_graph
from aarewrite.model.runner import Model
from aarewrite.model.value_sizes import free_axes
from aarewrite.verification.detect import find_profile
from aarewrite.verification.engine import Result, ShiftStudy
from aarewrite.verification.profiles import Profile
from aarewrite.verification.protocols import ShiftPlan
from aarewrite.verification.statistics import Mean
from aarewrite.verification.strides import Ratios, path_ratios, ratio_of_sizes

TASKS = ("classify", "dense", "detect", "metric", "vector")
MEASURES = ("relative_error", "psnr", "agreement", "cosine")  # fields of `MapPoint`
ALL_SHIFTS = ("all", 0.0)  # stands for a direction and distance
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
    """Errors at one shift, means over images."""

    direction: str
    distance: float
    relative_error: Mean  # ||shifted back - unshifted|| / ||unshifted|| in the common region
    psnr: Mean | None = None  # dB, peak = range of the unshifted output (200 where identical); None for vectors
    agreement: Mean | None = None  # share of pixels with the same class; None without class maps
    cosine: Mean | None = None  # cosine similarity; None for maps


@dataclass(frozen=True)
class MapResult(Result):
    """What one protocol says about one output of one model; the means are over images of each image's over shifts."""

    output: str
    task: str
    points: tuple[MapPoint, ...]
    pixel_agreement: Mean | None
    relative_error: Mean


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
    grids: tuple[MapGrid, ...]  # the outputs; for all but `dense` entries with empty axes
    profile: Profile | None = None  # how a detector is decoded
    selected: frozenset[str] = frozenset()  # outputs whose size depends on values, left out but for a detector


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
        CannotHandle: No output fits the task asked for, with the shapes named; or they list predictions of a detector
            that no profile is known for.
    """
    if asked is not None and asked not in TASKS:
        raise UsageError(f"--task {asked}: unknown", f"use one of {', '.join(TASKS)}")
    shapes = [spec.shape(geometry.size, channels=3 if len(spec.axes) == 2 else 1) for spec in model.image_inputs]
    outputs = model.run(model.feed(np.ones((1, *shape), np.float32) for shape in shapes))
    selected, ratios = _of_graph(model, geometry.size)
    left = ", ".join(sorted(selected))
    outputs = {name: array for name, array in outputs.items() if name not in selected}
    listing = ", ".join(f"{name} {array.shape}" for name, array in outputs.items())
    layout = model.image_inputs[0].layout
    maps = [find_grid(name, a.shape, a.dtype, geometry.size, layout, ratios.get(name)) for name, a in outputs.items()]
    grids = tuple(grid for grid in maps if grid is not None)
    numbers = [name for name, a in outputs.items() if a.dtype.kind in "fiu"]
    ranks = (2, 2 + len(geometry.size))  # (N, K) or (N, K, 1, 1); other ranks are lists, of anchors for example
    classes = [n for n in numbers if outputs[n].ndim in ranks and outputs[n].shape[1] == outputs[n].size >= 2]
    # wide integers are indices, of what a detector selects for example
    scores = [n for n in classes if outputs[n].dtype.kind == "f" or outputs[n].dtype.itemsize == 1]
    guess = "metric" if len(model.image_inputs) == 2 else "dense" if grids else "classify" if scores else "vector"
    profile = None
    if len(geometry.size) != 2 or len(model.image_inputs) != 1:
        if decode is not None:
            raise UsageError("--decode: the model takes no single picture", "leave --decode out")
    elif probe and (decode or asked == "detect" or (asked in (None, "vector") and guess in ("dense", "vector"))):
        seen = model.run(model.feed(probe()))
        profile = find_profile(model.label, seen, geometry.size, asked, decode, guess)
    task = asked or ("detect" if profile else guess)
    if not outputs and not profile:
        raise CannotHandle(
            f"{model.label}: the size of every output depends on values ({left}): there are no places to compare",
            "verify the model without what selects them",
        )
    why = "given" if asked else f"inferred from outputs {listing}"
    why += f"; without {left}, whose size depends on values" if left and not profile else ""
    concerned = {
        "classify": (scores or classes)[:1],
        "dense": [grid.output for grid in grids],
        "metric": numbers[:1] if len(model.image_inputs) == 2 else [],
        "vector": numbers,
        "detect": list(model.output_names) if profile else [],
    }[task]
    if profile:
        why += f", decoded by profile {profile.name}"
    if concerned:
        concerns = grids if task == "dense" else tuple(MapGrid(name, (), (), None) for name in concerned)
        return Task(task, why, concerns, profile, selected)
    raise CannotHandle(
        f"{model.label}: no output fits task {task} (outputs: {listing})",
        f"set --task {', '.join(TASKS[:-1])} or {TASKS[-1]}",
    )


def _of_graph(model: Model, size: Sequence[int]) -> tuple[frozenset[str], dict[str, Ratios]]:
    """The outputs whose size depends on values, and the ratios along the paths; nothing where the graph cannot be
    read."""
    try:
        graph = open_graph(model, size, weights=False)
    except AarewriteError:
        return frozenset(), {}
    return frozenset(free_axes(graph.proto, certain=True)), path_ratios(graph)


class MapStudy(ShiftStudy):
    """Compares every shifted output with the centre's; keeps only the centre's outputs of the image in work.

    `grids` are each model's maps; one with empty `axes` is compared as a vector. Maps are shifted by multiples of the
    output's step. `task` is `dense` or `vector`.
    """

    def __init__(
        self, plan: ShiftPlan, views: Views, models: Sequence[str], grids: Sequence[Sequence[MapGrid]], task: str
    ) -> None:
        super().__init__(plan, views, models)
        self._grids, self._task = grids, task
        self._centre: Sequence[dict[str, Array]] = ()
        self._image = defaultdict[tuple[int, str, str], list[float]](list)  # model, output, measure; of the one in work
        step = math.lcm(*(grid.step for per_model in grids for grid in per_model))
        if step > 1 and plan.protocol != "fractional":
            reach = plan.geometry.reach if plan.protocol == "crop" else min(plan.geometry.size) // 2
            if step > reach:
                raise CannotHandle(
                    f"the output's stride is {step} px, the canvas leaves {reach} px around the centre",
                    "give larger samples, or use --protocol circular",
                )
            largest = min(max(int(plan.distances[-1]), step), reach)
            self.lines = plan.lines(range(step, largest + 1, step))

    def receive(self, sample: Sample, number: int, results: Sequence[dict[str, Array]]) -> None:
        """Take every model's outputs for one view."""
        offset = self.offsets(sample.index)[number]
        if number == 0:
            self._centre = results
            return
        for m, (grids, base, shifted) in enumerate(zip(self._grids, self._centre, results, strict=True)):
            for grid in grids:
                pair = self._align(base[grid.output], shifted[grid.output], grid, offset)
                for measure, value in _compare(*pair, grid, self._task).items():
                    self.note((m, grid.output, measure, self.lines[offset]), value)
                    self._image[m, grid.output, measure].append(value)

    def finish(self, sample: Sample) -> None:
        """Note the image once over all of its shifts, too: they are not independent."""
        for key, values in self._image.items():
            self.note((*key, ALL_SHIFTS), values)
        self._image.clear()

    def _align(self, base: Array, shifted: Array, grid: MapGrid, offset: Offset) -> tuple[Array, Array]:
        """Shift the shifted output back and cut both to what they share (arrays of one row each)."""
        if not grid.axes:
            return base, shifted
        moves = [Fraction(shift) * ratio for ratio, shift in zip(grid.ratio, offset, strict=True)]
        if self.views.circular:
            for axis, moved in zip(grid.axes, moves, strict=True):
                shifted = np.roll(shifted, int(moved), axis) if moved.denominator == 1 else _roll(shifted, moved, axis)
            return base, shifted
        corner = [int(moved) for moved in moves]
        shared = [base.shape[axis] - lost for axis, lost in zip(grid.axes, corner, strict=True)]
        return window(base, grid.axes, corner, shared), window(shifted, grid.axes, [0] * len(corner), shared)

    def results_of(self, m: int) -> Sequence[MapResult]:
        """Return what was found of model m, one result an output."""
        return [self._result(m, grid) for grid in self._grids[m]]

    def _result(self, m: int, grid: MapGrid) -> MapResult:
        def measured(shift: Hashable) -> dict[str, Mean]:
            keys = {measure: (m, grid.output, measure, shift) for measure in MEASURES}
            return {measure: self.tally.mean(key) for measure, key in keys.items() if key in self.tally.values}

        total = measured(ALL_SHIFTS)
        return MapResult(
            *self.head(m, _describe(self.plan, grid, self._task), total["relative_error"].n),
            grid.output,
            self._task,
            tuple(MapPoint(name, d, **measured((name, d))) for name, d in self.lines.values()),
            total.get("agreement"),
            total["relative_error"],
        )


def _roll(values: Array, shift: Fraction, axis: int) -> Array:
    spectrum = np.fft.fft(values.astype(np.float64), axis=axis)
    return fourier_shift(spectrum, (-float(shift),), (axis,))


def _compare(base: Array, shifted: Array, grid: MapGrid, task: str) -> dict[str, float]:
    found = {}
    if grid.class_axis is not None:
        same = base.argmax(grid.class_axis) == shifted.argmax(grid.class_axis)
        found["agreement"] = float(same.mean())
    elif np.issubdtype(base.dtype, np.integer) and base.dtype == shifted.dtype:
        found["agreement"] = float((base == shifted).mean())
    first, second = base.astype(np.float64), shifted.astype(np.float64)
    norm = float(np.linalg.norm(first))
    error = float(np.linalg.norm(second - first))
    found["relative_error"] = error / norm if norm else (0.0 if error == 0 else math.inf)
    if task == "vector":
        product = norm * float(np.linalg.norm(second))
        found["cosine"] = float((first * second).sum()) / product if product else 1.0
    else:
        mse, peak = float(((second - first) ** 2).mean()), float(np.ptp(first))
        found["psnr"] = PSNR_CAP if mse == 0 else min(PSNR_CAP, 10 * math.log10(max(peak**2, 1e-300) / mse))
    return found


def _describe(plan: ShiftPlan, grid: MapGrid, task: str) -> str:
    where = plan.geometry.describe() if plan.protocol == "crop" else f"centre crop, {plan.protocol} shift"
    if task == "vector":
        return f"{where}; outputs compared as they are, not shifted back"
    stride = "x".join(str(1 / ratio) for ratio in grid.ratio)
    return f"{where}; shifted back by the output's stride ({stride}), common region"
