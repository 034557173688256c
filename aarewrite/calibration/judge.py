"""Judging a repaired model by samples it was not fitted to: does it keep its classes, do they shift less?

Classifiers are judged by top-1 classes, everything else by how far its outputs move. Every difference is
taken image by image (the same crops for both models), since images vary far more than models do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import add

import numpy as np
import onnx
from numpy.typing import NDArray

from aarewrite.calibration.exposures import Steadiness, classes_of, exposures
from aarewrite.data.arrays import Array
from aarewrite.data.canvases import Canvases, random_offset
from aarewrite.data.views import DIRECTIONS, Views, draw_pairs
from aarewrite.errors import UsageError
from aarewrite.model.runtime import first_line, plain_session
from aarewrite.verification.classify import consistency
from aarewrite.verification.statistics import BETTER, Difference, difference, judgement

SEEN = 1000  # pairs of a camera's views, near and as many far ones, in all, so far as that is
FEWEST, MOST = 3, 16  # of each image


@dataclass(frozen=True)
class Answers:
    """A classifier's classes for the views of each image: n images, p pairs."""

    centre: NDArray[np.int64]  # for the centre crop, (n,)
    pairs: NDArray[np.int64]  # for two random crops each, (n, p, 2)
    # For the first crop of a third of the pairs and its one-pixel neighbours, (n, bases, 1 + neighbours)
    near: NDArray[np.int64]
    labels: NDArray[np.int64] | None = None  # the true classes, (n,); None when unknown
    # For pairs of views under a camera, near ones and then far ones, (n, 2, p', 2); None for data that are no pictures
    seen: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Verdict:
    """What calibration did, on held-out images."""

    images: int  # number of held-out images
    # What the two agreements are of, and with them whether it is better: `camera`, or `crop` for no pictures
    protocol: str
    pairs: int  # near, and as many far ones, of each image; of random crops where the protocol is `crop`
    consistency: Difference  # share of pairs of views far apart with equal classes
    one_pixel: Difference  # share of pairs of views at most 1 px apart with equal classes
    agreement: float  # share of crops with the original's class, 0..1
    top1: Difference | None = None  # accuracy over all crops, where labels are known
    centre_top1: Difference | None = None  # accuracy on the centre crop
    crop_consistency: Difference | None = None  # of whole-pixel crops, beside the camera's
    crop_one_pixel: Difference | None = None

    @property
    def judgement(self) -> str:
        """What the two agreements show together, as `verify` says it of two models."""
        return judgement(self.consistency, self.one_pixel)

    @property
    def better(self) -> bool:
        """Whether held-out images show it to be steadier, and under neither measure less steady."""
        return self.judgement == BETTER

    @property
    def measures(self) -> tuple[Difference, ...]:
        """All changes, the deciding ones first."""
        beside = self.crop_consistency, self.crop_one_pixel, self.top1, self.centre_top1
        return (self.consistency, self.one_pixel, *(one for one in beside if one is not None))


def answer(
    models: Sequence[onnx.ModelProto],
    canvases: Canvases,
    indices: Sequence[int],
    *,
    pairs: int = 10,
    seen: int | None = None,
    seed: int = 0,
    threads: int = 0,
) -> list[Answers]:
    """Run classifiers on the views that judging needs: so many pairs of crops, and `seen` of a camera's views.

    The views depend on seed and image alone, so all models see the same ones, and `verify` those of the pairs.

    Raises:
        CannotHandle: A model's first output is no vector of classes.
        UsageError: A model does not run on the data.
    """
    runs, steps = [_runner(model, canvases, threads) for model in models], DIRECTIONS[len(canvases.axes)].values()
    still = (0,) * len(canvases.axes)
    count = seen or camera_pairs(len(indices))
    found: list[list[tuple[Array, ...]]] = [[] for _ in models]
    for index in map(int, indices):
        geometry, canvas = canvases.centred(canvases.load(index))
        views = Views("crop", geometry, canvases.axes)
        drawn = draw_pairs(seed, index, geometry, pairs)
        bases = [first for first, _ in drawn[: max(1, pairs // 3)]]
        close = [(base, *(tuple(map(add, base, step)) for step in steps)) for base in bases]
        offsets = dict.fromkeys(chain((still,), *drawn, *close))
        crops = [views.at(canvas, one) for one in offsets]
        if canvases.scene is not None:
            scene = canvases.scene(index)
            crops += [scene.finish(picture) for picture in exposures(scene, seed, index, count)]
        for run, answers in zip(runs, found, strict=True):
            tops = classes_of(run(crops))
            classes = dict(zip(offsets, tops[: len(offsets)], strict=True))
            answers.append((
                classes[still],
                np.array([[classes[one] for one in pair] for pair in drawn]),
                np.array([[classes[one] for one in group] for group in close]),
                tops[len(offsets) :].reshape(2, -1, 2),
            ))  # fmt: skip
    labels = None if canvases.labels is None else canvases.labels[np.asarray(indices)]
    together = (map(np.array, zip(*answers, strict=True)) for answers in found)
    return [
        Answers(centre, paired, near, labels, None if canvases.scene is None else views)
        for centre, paired, near, views in together
    ]


def camera_pairs(images: int) -> int:
    """How many near and as many far pairs of a camera's views each of so many images is judged by."""
    return min(MOST, max(FEWEST, round(SEEN / max(1, images))))


def compare(before: Answers, after: Answers, *, seed: int = 0) -> Verdict:
    """Judge one model's answers against another's to the same views."""

    def changed(name: str, measure: Callable[[Answers], Array]) -> Difference:
        return difference(name, measure(before), measure(after), seed)

    top1 = centre = None
    if before.labels is not None:
        true = before.labels
        top1 = changed("top-1, all crops", lambda a: (a.pairs == true[:, None, None]).mean((1, 2)))
        centre = changed("top-1, centre crop", lambda a: a.centre == true)
    crops = (
        changed("crop consistency", lambda a: consistency(a.pairs)),
        changed("crop 1-px agreement", lambda a: (a.near[..., 1:] == a.near[..., :1]).mean((1, 2))),
    )
    agreement = float((before.pairs == after.pairs).mean())
    if before.seen is None or after.seen is None:
        return Verdict(len(before.centre), "crop", before.pairs.shape[1], *crops, agreement, top1, centre)
    seen = Steadiness.counted(after.seen).against(Steadiness.counted(before.seen), seed)
    pairs = before.seen.shape[2]
    return Verdict(len(before.centre), "camera", pairs, seen.far, seen.near, agreement, top1, centre, *crops)


@dataclass(frozen=True)
class Drift:
    """How far dense or vector outputs move, as relative L2 errors (0: not at all), means over images."""

    before: float  # of the original when its input moves by `step` pixels and the output is moved back
    after: float  # of the other model
    apart: float  # between the two models on the same crop
    step: tuple[int, ...]  # pixels, per spatial axis: the output's stride, or 1 for vectors


def drift(
    original: onnx.ModelProto, other: onnx.ModelProto, canvases: Canvases, indices: Sequence[int], *, threads: int = 0
) -> Drift:
    """Measure how far the first output moves under a shift, for models that are no classifiers.

    A map is compared where both crops see the image and no border within an eighth of it.

    Raises:
        UsageError: The samples leave no room to shift.
    """
    runs = [_runner(model, canvases, threads) for model in (original, other)]
    rows, apart, step = [], [], (1,) * len(canvases.axes)
    for sample in (canvases.load(int(index)) for index in indices):
        room = canvases.room(sample)
        outs = [run([canvases.crop(sample, [0] * len(room))])[0] for run in runs]
        inner, back = [slice(None)], [slice(None)]
        if outs[0].ndim == len(room) + 1:  # a map
            shape = outs[0].shape[1:]
            step = tuple(max(1, round(n / m)) for n, m in zip(canvases.size, shape, strict=True))
            rims = [(max(1, m // 8), m) for m in shape]
            inner += [slice(rim + 1, m - rim) for rim, m in rims]
            back += [slice(rim, m - rim - 1) for rim, m in rims]
        if any(s > r for s, r in zip(step, room, strict=True)):
            raise UsageError("the samples leave no room to shift by the output's stride", "give larger samples")
        again = [run([canvases.crop(sample, step)])[0] for run in runs]
        rows.append([_relative(b[tuple(back)], a[tuple(inner)]) for a, b in zip(outs, again, strict=True)])
        apart.append(_relative(outs[1], outs[0]))
    before, after = np.mean(rows, axis=0).tolist()
    return Drift(before, after, float(np.mean(apart)), step)


def _relative(value: Array, reference: Array) -> float:
    return float(np.linalg.norm(value - reference) / max(float(np.linalg.norm(reference)), 1e-30))


def _runner(model: onnx.ModelProto, canvases: Canvases, threads: int) -> Callable[[Sequence[Array]], Array]:
    """A function that runs a model on crops and returns its first output, (crops, ...)."""
    session = plain_session(model, threads)
    name = session.get_outputs()[0].name

    def run(crops: Sequence[Array]) -> Array:
        try:
            return np.concatenate([np.asarray(session.run([name], feed)[0]) for feed in canvases.feeds(crops)])
        except Exception as error:
            reason = f"the model does not run on the data: {first_line(error)}"
            raise UsageError(reason, "check shape, type and preprocessing") from error

    return run


@dataclass(frozen=True)
class Effect:
    """What a change of the model does, by figures that are steady on a few dozen images."""

    # How far outputs scatter over crops of one image, relative to how far they scatter over images, and relative to the
    # original: 0.8 is a fifth less. For maps: the ratio of the drifts under a shift.
    noise: float
    disagreement: float  # share of crops with another class than the original's, 0..1; for maps the relative L2 error


class Judge:
    """Judges many variants of one model on the same random crops of samples, the original's outputs being kept."""

    def __init__(
        self,
        original: onnx.ModelProto,
        canvases: Canvases,
        indices: Sequence[int],
        *,
        crops: int = 8,
        seed: int = 0,
        threads: int = 0,
    ) -> None:
        self._original, self._canvases, self._indices = original, canvases, indices
        self._crops, self._seed, self._threads = crops, seed, threads
        self._before = self._outputs(original)
        self._map = self._before.ndim > 3 and max(self._before.shape[3:]) > 1

    def effect(self, model: onnx.ModelProto) -> Effect:
        """Judge one variant."""
        if self._map:
            moved = drift(self._original, model, self._canvases, self._indices, threads=self._threads)
            return Effect(moved.after / max(moved.before, 1e-30), moved.apart)
        before, after = (outputs.reshape(*outputs.shape[:2], -1) for outputs in (self._before, self._outputs(model)))
        changed = float((before.argmax(-1) != after.argmax(-1)).mean())
        return Effect(_scatter(after) / max(_scatter(before), 1e-30), changed)

    def _outputs(self, model: onnx.ModelProto) -> Array:
        """First outputs, (images, crops, ...)."""
        run, canvases = _runner(model, self._canvases, self._threads), self._canvases
        found = []
        for index in map(int, self._indices):
            sample, rng = canvases.load(index), np.random.default_rng([self._seed, index, 1])
            room = canvases.room(sample)
            found.append(run([canvases.crop(sample, random_offset(room, rng)) for _ in range(self._crops)]))
        return np.stack(found)


def _scatter(outputs: Array) -> float:
    """Variance over crops of one image, relative to the variance over images; (images, crops, values)."""
    # A constant added to all scores changes no class: it must not count as scatter either.
    scores = outputs.astype(np.float64)
    scores -= scores.mean(-1, keepdims=True)
    image = scores.mean(1, keepdims=True)
    within = np.square(scores - image).sum(-1).mean()
    between = np.square(image - image.mean(0, keepdims=True)).sum(-1).mean()
    # A model that says the same to every image does not scatter, but it is no better for it.
    return float(within / between) if between > 1e-12 * np.square(outputs, dtype=np.float64).sum(-1).mean() else np.inf
