"""A camera's views of images, and what classifiers answer to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from aarewrite.data.arrays import Array
from aarewrite.data.camera import Scene, draw_camera_pairs
from aarewrite.data.prefetch import prefetch
from aarewrite.data.setup import Setup
from aarewrite.errors import CannotHandle
from aarewrite.options import Json
from aarewrite.verification.classify import consistency, top_classes
from aarewrite.verification.statistics import Difference, difference

BATCH = 8
CONDITION = "mixed"  # every effect at once, as a camera has them


@dataclass(frozen=True)
class Steadiness:
    """One model's figures, one value in 0..1 an image."""

    near: NDArray[np.float64]  # share of pairs at most 1 px apart with equal classes
    far: NDArray[np.float64]  # of pairs up to the whole span apart
    top1: NDArray[np.float64] | None  # share of views with the right class, None without labels

    @classmethod
    def counted(cls, classes: NDArray[np.int64], labels: NDArray[np.int64] | None = None) -> Steadiness:
        """The figures of classes (images, 2, pairs, 2), near pairs first, as `exposures` has the views."""
        agree = consistency(classes)
        top1 = None if labels is None else (classes == labels[:, None, None, None]).mean((1, 2, 3))
        return cls(agree[:, 0], agree[:, 1], top1)

    def against(self, before: Steadiness, seed: int = 0) -> Changes:
        """The paired changes from another model, on the same views."""
        top1 = None
        if self.top1 is not None and before.top1 is not None:
            top1 = difference("top-1", before.top1, self.top1, seed)
        near = difference(f"near agreement, {CONDITION}", before.near, self.near, seed)
        return Changes(near, difference(f"far agreement, {CONDITION}", before.far, self.far, seed), top1)

    def to_dict(self) -> Json:
        """Plain values."""
        return {name: None if found is None else found.tolist() for name, found in vars(self).items()}

    @classmethod
    def of(cls, values: Json) -> Steadiness:
        """The inverse of `to_dict`."""
        near, far, top1 = (values[name] for name in ("near", "far", "top1"))
        return cls(np.asarray(near, float), np.asarray(far, float), None if top1 is None else np.asarray(top1, float))

    @classmethod
    def joined(cls, parts: Sequence[Steadiness]) -> Steadiness:
        """The figures of several sets of images, one after the other."""
        top1 = [part.top1 for part in parts if part.top1 is not None]
        near, far = (np.concatenate([getattr(part, name) for part in parts]) for name in ("near", "far"))
        return cls(near, far, np.concatenate(top1) if len(top1) == len(parts) else None)


@dataclass(frozen=True)
class Changes:
    """Paired changes between two models on the same views, in points."""

    near: Difference
    far: Difference
    top1: Difference | None


def exposures(scene: Scene, seed: int, index: int, pairs: int) -> list[Array]:
    """The views of image `index` as bytes: both of each of so many near pairs, then of as many far ones."""
    drawn = draw_camera_pairs(seed, index, scene.geometry, (CONDITION,), pairs)
    return [scene.picture(view) for pair in sorted(drawn, key=lambda pair: not pair.near) for view in pair.views]


def classes_of(outputs: Array) -> Array:
    """The class of each row of a classifier's output; `CannotHandle` where that is no vector of classes."""
    if outputs.size < 2 * len(outputs) or max(outputs.shape[2:], default=1) > 1:
        raise CannotHandle("the model's first output is no vector of classes", "take a classifier")
    return top_classes(outputs)


class Exposures:
    """The views of `indices`, kept as bytes; `pairs` near and far ones an image.

    Raises:
        CannotHandle: The samples are no pictures.
    """

    def __init__(
        self,
        setup: Setup,
        indices: Sequence[int],
        *,
        pairs: int = 2,
        seed: int = 0,
        advance: Callable[[int], None] = lambda images: None,
    ) -> None:
        self._setup = setup
        labels = setup.data.labels
        self._labels = None if labels is None else np.asarray([labels[i] for i in indices])
        kept = []

        def render(k: int) -> list[Array]:
            sample = setup.sample(indices[k])
            return exposures(setup.scene(sample), seed, sample.index, pairs)

        for _, pictures in prefetch(render, range(len(indices))):
            kept.append(np.stack(pictures))
            advance(1)
        self._pictures, self._pairs = np.stack(kept), pairs
        self._finish = setup.scene(setup.sample(indices[0])).finish

    def of(self, model: onnx.ModelProto, advance: Callable[[int], None] = lambda images: None) -> Steadiness:
        """A classifier's figures; `advance` is called with the number of images done.

        Raises:
            CannotHandle: The model does not run on the data, or its first output is no vector of classes.
        """
        runner = self._setup.models[0].twin(model, self._setup.models[0].provider)
        count, each = self._pictures.shape[:2]
        flat = self._pictures.reshape(-1, *self._pictures.shape[2:])
        found: list[Array] = []
        for begin in range(0, len(flat), BATCH):
            views = np.stack([self._finish(view) for view in flat[begin : begin + BATCH]])
            found.append(classes_of(runner.run(runner.feed([views]))[runner.output_names[0]]))
            advance((begin + len(views)) // each - begin // each)
        return Steadiness.counted(np.concatenate(found).reshape(count, 2, self._pairs, 2), self._labels)
