"""Dense outputs and feature vectors: how far is the output of a shifted input from the shifted output?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from aarewrite.data.arrays import Array, Offset
from aarewrite.data.geometry import Sample
from aarewrite.data.views import Views, fourier_shift
from aarewrite.errors import CannotHandle
from aarewrite.verification.engine import Study
from aarewrite.verification.protocols import ShiftPlan
from aarewrite.verification.statistics import Mean

Key = tuple[int, str, str, float, str]  # model, output, direction, distance, measure
MEASURES = ("relative_error", "psnr", "agreement", "cosine")  # fields of `MapPoint`
ALL_SHIFTS = ("all", 0.0)  # stands for direction and distance
PSNR_CAP = 200.0  # dB, stands for "identical": a mean over images needs a finite number


@dataclass(frozen=True)
class MapGrid:
    """How a dense output lies over the input.

    Attributes:
        output: The output's name.
        axes: Its spatial axes, counted with the batch axis.
        ratio: Output pixels per input pixel, one fraction per axis (1/4 for stride 4, 2 for super-resolution).
        class_axis: Axis of the class scores for pixel agreement, None when there are none.
    """

    output: str
    axes: tuple[int, ...]
    ratio: tuple[Fraction, ...]
    class_axis: int | None

    @property
    def step(self) -> int:
        """Smallest input shift that is a whole number of output pixels on every axis."""
        return math.lcm(*(fraction.denominator for fraction in self.ratio))


@dataclass(frozen=True)
class MapPoint:
    """Errors at one shift, means over images.

    Attributes:
        relative_error: ||shifted back - unshifted|| / ||unshifted|| in the common region.
        psnr: dB, peak = range of the unshifted output (200 where identical); None for vectors.
        agreement: Share of pixels with the same class; None without class maps.
        cosine: Cosine similarity; None for maps.
    """

    direction: str
    distance: float
    relative_error: Mean
    psnr: Mean | None = None
    agreement: Mean | None = None
    cosine: Mean | None = None


@dataclass(frozen=True)
class MapResult:
    """What one protocol says about one output of one model.

    Attributes:
        n: Images.
        points: One entry a shift.
        pixel_agreement, relative_error: Means over images of each image's mean over shifts.
    """

    model: str
    protocol: str
    description: str
    seed: int
    n: int
    output: str
    task: str
    points: tuple[MapPoint, ...]
    pixel_agreement: Mean | None
    relative_error: Mean


def find_grid(
    output: str, shape: Sequence[int], dtype: np.dtype[np.generic], size: Sequence[int], layout: str
) -> MapGrid | None:
    """Recognise an output as a map over the input, or return None.

    Args:
        output: The output's name.
        shape: Its shape with the batch axis, as measured.
        dtype: Its dtype; integer maps are taken as class maps.
        size: Spatial size of the input.
        layout: The input's layout: channels are looked for on the same side first.
    """
    spatial, rank = len(size), len(shape)
    last = tuple(range(rank - spatial, rank))
    middle = tuple(range(1, 1 + spatial))
    candidates = [last, middle] if layout in ("nchw", "ncl", "ncdhw", "nl") else [middle, last]
    for axes in candidates if rank - spatial in (1, 2) else ():
        extents = [shape[axis] for axis in axes]
        if min(extents) < 2 or (rank == 2 and extents[0] != size[0]):  # (N, K) is a map only with K time steps
            continue
        ratio = tuple(_ratio(out, into) for out, into in zip(extents, size, strict=True))
        if all(ratio) and len({round(float(r), 2) for r in ratio if r}) == 1:
            channel = next((axis for axis in range(1, rank) if axis not in axes), None)
            classes = channel is not None and shape[channel] >= 2 and shape[channel] != 3
            if np.issubdtype(dtype, np.integer):
                return MapGrid(output, axes, tuple(r for r in ratio if r), None)
            return MapGrid(output, axes, tuple(r for r in ratio if r), channel if classes else None)
    return None


def _ratio(out: int, into: int) -> Fraction | None:
    """Output pixels per input pixel as a small fraction; borders may cost a pixel or two."""
    if out >= into:
        factor = round(out / into)
        return Fraction(factor) if abs(out - factor * into) <= max(2, factor) else None
    stride = round(into / out)
    return Fraction(1, stride) if abs(out * stride - into) <= 2 * stride else None


class MapStudy(Study):
    """Compares every shifted output with the centre's; keeps only the centre's outputs of the image in work.

    Args:
        plan, views, models: As for every study; for maps only shifts by multiples of the output's step are used.
        grids: Per model, the maps to compare; an empty `axes` compares the output as a vector.
        task: `dense` or `vector`.
    """

    def __init__(
        self, plan: ShiftPlan, views: Views, models: Sequence[str], grids: Sequence[Sequence[MapGrid]], task: str
    ) -> None:
        super().__init__(plan, views, models)
        self._grids, self._task = grids, task
        self._centre: Sequence[dict[str, Array]] = ()
        self._image: dict[Key, list[float]] = {}  # of the image in work
        every = [grid for per_model in grids for grid in per_model]
        step = math.lcm(*(grid.step for grid in every)) if every else 1
        distances: tuple[float, ...] = plan.distances
        if step > 1 and plan.protocol != "fractional":
            reach = plan.geometry.reach if plan.protocol == "crop" else min(plan.geometry.size) // 2
            largest = max(plan.distances[-1], step)
            distances = tuple(range(step, min(int(largest), reach) + 1, step))
            if not distances:
                raise CannotHandle(
                    f"the output's stride is {step} px, the canvas leaves {reach} px around the centre",
                    "give larger samples, or use --protocol circular",
                )
        self._lines = plan.lines(distances)

    def offsets(self, i: int) -> Sequence[Offset]:
        """Return every offset a sample is viewed at, the centre first."""
        return (self.plan.centre, *self._lines)

    def receive(self, sample: Sample, offset: Offset, results: Sequence[dict[str, Array]]) -> None:
        """Take every model's outputs for one view."""
        if not any(offset):
            self._centre = results
            return
        name, distance = self._lines[offset]
        for m, (grids, base, shifted) in enumerate(zip(self._grids, self._centre, results, strict=True)):
            for grid in grids:
                pair = self._align(base[grid.output], shifted[grid.output], grid, offset)
                for measure, value in _compare(*pair, grid, self._task).items():
                    for key in ((m, grid.output, name, distance, measure), (m, grid.output, *ALL_SHIFTS, measure)):
                        self._image.setdefault(key, []).append(value)

    def finish(self, sample: Sample) -> None:
        """Count the image, once over all of its shifts, too: they are not independent."""
        self.n += 1
        for key, values in self._image.items():
            self.tally.add(key, values)
        self._image = {}

    def _align(self, base: Array, shifted: Array, grid: MapGrid, offset: Offset) -> tuple[Array, Array]:
        """Shift the shifted output back and cut both to what they share (arrays of one row each)."""
        if not grid.axes:
            return base, shifted
        for axis, ratio, shift in zip(grid.axes, grid.ratio, offset, strict=True):
            moved = Fraction(shift) * ratio
            if self.views.circular:
                shifted = np.roll(shifted, int(moved), axis) if moved.denominator == 1 else _roll(shifted, moved, axis)
            else:
                count = int(moved)
                keep = base.shape[axis] - count
                base = base[(slice(None),) * axis + (slice(count, None),)]
                shifted = shifted[(slice(None),) * axis + (slice(0, keep),)]
        return base, shifted

    def results(self) -> tuple[MapResult, ...]:
        """Return one result a model and output."""
        return tuple(
            self._result(m, model, grid)
            for m, (model, grids) in enumerate(zip(self.models, self._grids, strict=True))
            for grid in grids
        )

    def _result(self, m: int, model: str, grid: MapGrid) -> MapResult:
        def measured(name: str, distance: float) -> dict[str, Mean]:
            keys = {measure: (m, grid.output, name, distance, measure) for measure in MEASURES}
            return {measure: self.tally.mean(key) for measure, key in keys.items() if key in self.tally}

        points = tuple(MapPoint(name, d, **measured(name, d)) for name, d in self._lines.values())
        total, plan = measured(*ALL_SHIFTS), self.plan
        what = (model, plan.protocol, _describe(plan, grid, self._task), plan.seed, self.n, grid.output, self._task)
        return MapResult(*what, points, total.get("agreement"), total["relative_error"])


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
