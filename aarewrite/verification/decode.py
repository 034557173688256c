"""From a detector's outputs for one picture to boxes, scores, classes and keypoints, by a profile; and which profile
fits a model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aarewrite.data.arrays import Array
from aarewrite.errors import CannotHandle
from aarewrite.verification.finite import demand_finite
from aarewrite.verification.profiles import AUTO, BUILT_IN, Boxes, Part, Points, Profile, Scores, load_profile

MOST = 1000  # predictions that NMS looks at, those of the highest scores
SLACK = 1e-3  # rounding of probabilities
ASTRAY = 4.0  # strides that most boxes' centres may be from their cells
Grid = tuple[int, int, int]  # rows, columns, predictions a cell


@dataclass(frozen=True)
class Detections:
    """What was found in one picture, the highest score first; coordinates in px of the model's input, x before y."""

    boxes: Array  # (n, 4): left, top, right, bottom
    scores: Array  # (n,)
    classes: Array  # (n,), whole numbers
    points: Array  # (n, keypoints, 2)

    def __len__(self) -> int:
        """Return how many were found."""
        return len(self.boxes)

    def at(self, which: Array) -> Detections:
        """Those at indices, or where a mask holds."""
        return Detections(self.boxes[which], self.scores[which], self.classes[which], self.points[which])

    def moved(self, offset: Sequence[float]) -> Detections:
        """The same moved by (down, right) px."""
        step = np.asarray(offset, float)[::-1]
        return Detections(self.boxes + np.tile(step, 2), self.scores, self.classes, self.points + step)


@dataclass(frozen=True)
class _Cells:
    """Where each prediction of a list has its cell, `(a, 2)` with x first; empty without grids."""

    corner: Array  # in cells
    stride: Array  # (a, 1) px
    anchor: Array  # px; zeros where the profile has none

    def at(self, rows: Array) -> _Cells:
        return _Cells(self.corner[rows], self.stride[rows], self.anchor[rows]) if len(self.corner) else self


def decode(profile: Profile, outputs: Mapping[str, Array], size: Sequence[int]) -> Detections:
    """What a model found in one picture of a size (height, width), from its outputs with a batch axis of 1.

    Raises:
        CannotHandle: The outputs are not what the profile says, with the reason.
    """
    values = _values(profile, outputs, size)
    best, classes = _best(profile, values)
    rows = np.flatnonzero(best >= profile.threshold)
    rows = rows[np.argsort(-best[rows], kind="stable")[:MOST]]
    found = _detections(profile, values, size, rows, best, classes)
    return found if profile.nms == 1 else found.at(_kept(found, profile.nms))


def choose_profile(
    asked: str, outputs: Mapping[str, Array], size: Sequence[int], label: str, where: str = "--decode"
) -> Profile:
    """The profile asked for, or of the built-in ones the one that fits a model's outputs for a picture.

    Raises:
        UsageError: As `load_profile`.
        CheckFailed: What it reads is NaN.
        CannotHandle: It does not fit, or with `auto` none does or several do; the message says what to write.
    """
    if asked != AUTO:
        profile = load_profile(asked)
        demand_finite(label, profile.read_of(outputs), "the first sample", excluded=True)
        decode(profile, outputs, size)
        return profile
    fitting = [profile for profile in map(load_profile, BUILT_IN) if not misfit(profile, outputs, size)]
    listing = ", ".join(f"{name} {array.shape}" for name, array in outputs.items())
    if len(fitting) > 1:
        names = " and ".join(profile.name for profile in fitting)
        raise CannotHandle(f"{label}: profiles {names} fit outputs {listing}", f"give one of them with {where}")
    if not fitting:
        raise CannotHandle(
            f"{label}: no built-in profile decodes outputs {listing}",
            f"write PROFILE.toml (docs/verification.md), such as {_skeleton(outputs)}, and give it with {where}",
        )
    return fitting[0]


def misfit(profile: Profile, outputs: Mapping[str, Array], size: Sequence[int]) -> str:
    """Why a profile is not the one of these outputs, judged by names, shapes and values; empty where it is."""
    try:
        values = _values(profile, outputs, size)
    except CannotHandle as error:
        return str(error)
    for name, array in outputs.items():
        read = [part for part in profile.parts.values() if part.reads(name)]
        ends = [part.channels[1] if len(part.channels) == 2 else np.inf for part in read]
        last = max(ends, default=0)
        if last < np.inf and read and array.size and array.shape[-1 if read[0].layout != "nca" else 1] > last:
            return f"channels behind {last} of {name!r} are not read"
    if "classes" in values and (np.abs(values["classes"] % 1) > SLACK).any():
        return "numbers of classes are not whole"
    everything = np.arange(len(next(iter(values.values()))))
    found = _detections(profile, values, size, everything, *_best(profile, values))
    return _implausible(profile, found, size)


def is_list(array: Array) -> bool:
    """Whether an output lists predictions: (1, n, values), or rows of six or seven values without a batch axis."""
    return array.ndim == 3 or (array.ndim == 2 and array.shape[0] != 1 and array.shape[1] in (6, 7))


def _grids(profile: Profile, size: Sequence[int]) -> list[Grid]:
    counts = profile.per_cell * (len(profile.strides) if len(profile.per_cell) == 1 else 1)
    return [(-(-size[0] // s), -(-size[1] // s), k) for s, k in zip(profile.strides, counts, strict=True)]


def _cells(profile: Profile, size: Sequence[int]) -> _Cells:
    corners, strides, anchors = [np.zeros((0, 2))], [np.zeros((0, 1))], [np.zeros((0, 2))]
    for number, (rows, columns, count) in enumerate(_grids(profile, size)):
        y, x, _ = np.indices((rows, columns, count)).reshape(3, -1)
        corners.append(np.stack((x, y), -1).astype(float))
        strides.append(np.full((len(x), 1), float(profile.strides[number])))
        anchor = np.asarray(profile.anchors[number] if profile.anchors else [(0, 0)] * count, float)
        anchors.append(np.tile(anchor, (rows * columns, 1)))
    return _Cells(np.concatenate(corners), np.concatenate(strides), np.concatenate(anchors))


def _values(profile: Profile, outputs: Mapping[str, Array], size: Sequence[int]) -> dict[str, Array]:
    """What each part of the profile reads, `(predictions, values)`, grid by grid, row by row."""
    if missing := [g for g, k in zip(profile.anchors, _grids(profile, size), strict=False) if len(g) != k[2]]:
        raise CannotHandle(f"profile {profile.name}: {len(missing[0])} anchors a cell", "correct per_cell or anchors")
    found = {}
    for key, part in profile.parts.items():
        try:
            values = _read(part, outputs, _grids(profile, size)).astype(np.float64)
            found[key] = _checked(part, values)
        except ValueError as reason:
            raise CannotHandle(f"profile {profile.name}: [{key}]: {reason}", "correct the profile") from None
    if len({len(values) for values in found.values()}) > 1:
        counts = ", ".join(f"{len(values)} of [{key}]" for key, values in found.items())
        raise CannotHandle(f"profile {profile.name}: numbers of predictions differ: {counts}", "correct the profile")
    return found


def _read(part: Part, outputs: Mapping[str, Array], grids: Sequence[Grid]) -> Array:
    """The part's values, `(predictions, values)`; `ValueError` with the reason where they are not there."""
    named = {name: a for name, a in outputs.items() if part.reads(name)}
    shapes = ", ".join(f"{name} {array.shape}" for name, array in (named or outputs).items())
    if not named:
        raise ValueError(f"no output is called {' or '.join(part.outputs)}; there are {shapes}")
    if "h" not in part.layout:
        lists = {name: values for name, a in named.items() if (values := _listed(a, part.layout)) is not None}
        total = sum(rows * columns * count for rows, columns, count in grids)
        whole = [values for values in lists.values() if not grids or len(values) == total]
        if len(whole) > 1:
            raise ValueError(f"several outputs fit: {shapes}")
        pieces: list[Array | None] = [*whole] or [
            _first(lists, rows * columns * count) for rows, columns, count in grids
        ]
    else:
        pieces = [_first({name: _gridded(a, part.layout, grid) for name, a in named.items()}) for grid in grids]
    if not pieces or any(piece is None for piece in pieces):
        grid = " + ".join("x".join(map(str, grid)) for grid in grids)
        where = f" as {part.layout} with grids of {grid} predictions" if grids else f" as {part.layout}"
        raise ValueError(f"no output can be read{where}: {shapes}")
    values = np.concatenate([piece for piece in pieces if piece is not None])
    start, stop = (*(part.channels or (0,)), values.shape[1])[:2]
    chosen: Array = values[:, start:stop]
    if not start < stop <= values.shape[1]:
        raise ValueError(f"channels {list(part.channels)} of {values.shape[1]}: {shapes}")
    return chosen


def _listed(array: Array, layout: str) -> Array | None:
    if array.ndim != len(layout) or (layout[0] == "n" and len(array) != 1):
        return None
    rows = array[0] if layout[0] == "n" else array
    return (
        rows.reshape(1, -1)
        if layout == "nc"
        else rows[:, None]
        if layout == "na"
        else rows.T
        if layout == "nca"
        else rows
    )


def _gridded(array: Array, layout: str, grid: Grid) -> Array | None:
    axes = re.findall(r"\((\w+)\)|(\w)", layout)
    known = dict(zip("hwk", grid, strict=True)) | {"n": 1}
    if array.ndim != len(axes):
        return None
    letters, extents = "", list[int]()
    for (shared, alone), extent in zip(axes, array.shape, strict=True):
        letters += shared or alone
        if shared and extent % known["k"]:
            return None
        extents += [known["k"], extent // known["k"]] if shared else [extent]
    if any(known.get(letter, extent) != extent for letter, extent in zip(letters, extents, strict=True)):
        return None
    order = [letters.index(letter) for letter in "nhwkc" if letter in letters]
    values = array.reshape(extents).transpose(order)
    return values.reshape(-1, values.shape[-1]) if "k" in letters or known["k"] == 1 else None


def _first(values: dict[str, Array] | dict[str, Array | None], length: int | None = None) -> Array | None:
    """The first that is there, of a length where one is given; it is taken out."""
    for name, one in values.items():
        if one is not None and length in (None, len(one)):
            del values[name]
            return one
    return None


def _checked(part: Part, values: Array) -> Array:
    """Values as they are used; `ValueError` with the reason where they cannot be what the part says."""
    if isinstance(part, Boxes) and values.shape[1] != 4:
        raise ValueError(f"{values.shape[1]} values a box, not 4; write channels = [from, to]")
    if isinstance(part, Points) and values.shape[1] % part.step:
        raise ValueError(f"{values.shape[1]} values are no multiple of step = {part.step}")
    if not isinstance(part, Scores):
        return values
    if part.background is not None and part.background >= values.shape[1]:
        raise ValueError(f"background = {part.background} of {values.shape[1]} classes")
    if part.activation == "sigmoid":
        return _sigmoid(values)
    if part.activation == "softmax":
        powers = np.exp(values - values.max(1, keepdims=True))
        softmax: Array = powers / powers.sum(1, keepdims=True)
        return softmax
    if values.size and not (values.min() >= -SLACK and values.max() <= 1 + SLACK):
        lie = f"{values.min():.3g} to {values.max():.3g}"
        raise ValueError(f'values from {lie} are no probabilities; write activation = "sigmoid" or "softmax"')
    if part.distribution and (np.abs(values.sum(1) - 1) > 10 * SLACK).any():
        raise ValueError("the scores of a prediction do not sum to 1")
    within: Array = np.clip(values, 0, 1)
    return within


def _best(profile: Profile, values: Mapping[str, Array]) -> tuple[Array, Array]:
    """The score of every prediction, and its class."""
    scores = np.ones((len(next(iter(values.values()))), 1))
    for key, part in (("scores", profile.scores), ("objectness", profile.objectness)):
        if part is not None:
            own = values[key] ** part.power
            if part.background is not None:
                own[:, part.background] = 0
            scores = scores * own
    classes = values["classes"][:, 0] if "classes" in values else scores.argmax(1)
    return scores.max(1), classes.round().astype(np.int64)


def _detections(
    profile: Profile, values: Mapping[str, Array], size: Sequence[int], rows: Array, best: Array, classes: Array
) -> Detections:
    """The predictions at rows, decoded."""
    cells = _cells(profile, size).at(rows)
    scale = np.asarray(size[::-1], float)  # width, height
    points = np.zeros((len(rows), 0, 2))
    if profile.keypoints is not None:
        points = _points(profile, profile.keypoints, values["keypoints"][rows], cells, scale)
    if profile.boxes is None:
        boxes = np.concatenate((points.min(1), points.max(1)), -1)
    else:
        boxes = _corners(profile, profile.boxes, values["boxes"][rows], cells, scale)
    return Detections(boxes, best[rows], classes[rows], points)


def _corners(profile: Profile, part: Boxes, t: Array, cells: _Cells, scale: Array) -> Array:
    """Boxes from their coded values, by the formulas of docs/verification.md."""
    unit = scale if part.units == "relative" else np.ones(2)
    first, second = t[:, :2], t[:, 2:]
    if part.code == "corners":
        return np.concatenate((first * unit, second * unit), -1)
    if part.code == "corners-yx":
        return np.concatenate((first[:, ::-1] * unit, second[:, ::-1] * unit), -1)
    if part.code == "centre":
        return _around(first * unit, second * unit)
    cell, stride, anchor = cells.corner + profile.offset, cells.stride, cells.anchor
    with np.errstate(over="ignore"):  # what is no size in logarithms becomes infinite, and implausible
        if part.code == "distances":
            return np.concatenate(((cell - first) * stride, (cell + second) * stride), -1)
        if part.code == "offset":
            return _around(cell * stride + first * unit, second * unit)
        if part.code == "yolox":
            return _around((cell + first) * stride, np.exp(second) * stride)
        if part.code == "yolov3":
            return _around((cell + _sigmoid(first)) * stride, np.exp(second) * anchor)
        if part.code == "yolov5":
            return _around((cell + 2 * _sigmoid(first) - 0.5) * stride, (2 * _sigmoid(second)) ** 2 * anchor)
        if part.code == "tanh":
            return _around((cell + np.tanh(first)) * stride, _sigmoid(second) * scale)
        of_centre, of_size = profile.variances  # ssd
        return _around(cell * stride + first * of_centre * anchor, np.exp(second * of_size) * anchor)


def _points(profile: Profile, part: Points, t: Array, cells: _Cells, scale: Array) -> Array:
    coded: Array = t.reshape(len(t), t.shape[1] // part.step, part.step)[..., :2]
    unit = scale if part.units == "relative" else np.ones(2)
    points: Array = coded * unit
    if part.code == "points":
        return points
    cell, stride, anchor = (values[:, None] for values in (cells.corner + profile.offset, cells.stride, cells.anchor))
    points = coded * {"cells": stride, "offset": unit, "ssd": profile.variances[0] * anchor}[part.code]
    points += cell * stride
    return points


def _around(centre: Array, extent: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return np.concatenate((centre - extent / 2, centre + extent / 2), -1)


def _sigmoid(values: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-np.clip(values, -50, 50)))
    return result


def _implausible(profile: Profile, found: Detections, size: Sequence[int]) -> str:
    """Why all predictions together, good and bad ones, cannot be boxes of a picture; empty where they can."""
    if len(found) == 0:
        return ""
    boxes = found.boxes
    if not np.isfinite(boxes).all():
        return "boxes are not finite"
    if (boxes[:, 2:] < boxes[:, :2] - 1).any(1).mean() > 0.05:
        return "boxes end before they begin"
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    if profile.strides:
        cells = _cells(profile, size)
        away = np.abs(centre - (cells.corner + 0.5) * cells.stride).max(1) / cells.stride[:, 0]
        return "" if np.median(away) <= ASTRAY else "boxes lie far from their cells"
    scale = np.asarray(size[::-1], float)
    inside = ((centre > -0.5 * scale) & (centre < 1.5 * scale)).all(1).mean()
    return "" if inside > 0.9 and np.ptp(centre) > 1 else "boxes do not spread over the picture"


def overlaps(first: Array, second: Array) -> Array:
    """Intersection over union of boxes, `(n, 4)` and `(m, 4)` -> `(n, m)`; boxes without area overlap nothing."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), -1)
    areas = [np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), -1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1] - shared
    result: Array = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result


def _kept(found: Detections, largest: float) -> Array:
    """Non-maximum suppression: of boxes of a class that overlap by more than `largest`, the one of highest score."""
    alike = found.classes[:, None] == found.classes
    clash = alike & (overlaps(found.boxes, found.boxes) > largest)
    kept = list[int]()
    for i in range(len(found)):  # the highest score first
        if not clash[i, kept].any():
            kept.append(i)
    return np.asarray(kept, int)


def _skeleton(outputs: Mapping[str, Array]) -> str:
    """The profile of these outputs as far as their shapes tell it, in one line of TOML's inline tables."""
    wide = {name: array.shape[-1] for name, array in outputs.items() if array.ndim > 1}
    boxes = [name for name, width in wide.items() if width == 4]
    others = [name for name in wide if name not in boxes]
    if boxes and others:
        of_boxes, of_scores = f'"{boxes[0]}"]', f'"{others[0]}"]'
    else:
        name = next(iter(wide or outputs))
        of_boxes, of_scores = f'"{name}"], channels = [0, 4]', f'"{name}"], channels = [4]'
    return f'boxes = {{outputs = [{of_boxes}, code = "..."}} and scores = {{outputs = [{of_scores}}}'
