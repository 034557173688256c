"""Opening what is measured: models on one provider, data, and how samples become a model's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from aarewrite.data.arrays import Array
from aarewrite.data.camera import Scene, scene
from aarewrite.data.dataset import Data, UnreadableSample
from aarewrite.data.geometry import Geometry, Sample, plan_geometry, prepare
from aarewrite.data.prefetch import prefetch
from aarewrite.data.preprocess import PRESETS, Preprocess, to_model_units
from aarewrite.data.preprocess_files import load_preprocess
from aarewrite.data.sources import open_data
from aarewrite.data.views import Views
from aarewrite.errors import CannotHandle
from aarewrite.model.runner import InputSpec, Model, ModelLike, cuda_available
from aarewrite.options import check_fields


@dataclass(frozen=True)
class Setup:
    """What was opened."""

    models: tuple[Model, ...]  # on one provider; the model under test first, the one it is held against second
    against_label: str | None  # what the first is held against: the second model's label or the name of saved outputs
    reference: Path | None  # the .npz of saved outputs
    data: Data  # samples, labels counted as in the models' output
    spec: InputSpec  # the input that fits all models
    recipe: Preprocess  # how samples become input
    geometry: Geometry  # sizes of input and canvas
    seed: int  # of synthetic samples
    notes: tuple[str, ...]  # what a reader must know about figures from it

    @property
    def axes(self) -> tuple[int, ...]:
        """Spatial axes of a canvas (no batch axis)."""
        return tuple(axis - 1 for axis in self.spec.axes)

    def sample(self, i: int) -> Sample:
        """Load sample i and bring it to the canvas; errors as `prepare`."""
        return prepare(self.data, i, self.spec, self.recipe, self.geometry, self.seed)

    def scene(self, sample: Sample) -> Scene:
        """What a camera's views of the sample are taken of; `CannotHandle` where it is no picture of bytes."""
        if sample.raw is None:
            raise CannotHandle(f"a camera sees pictures: {self.no_pictures}", "give a folder of images")
        finish = partial(to_model_units, spec=self.spec, recipe=self.recipe)
        return scene(*sample.raw, self.geometry, self.recipe.interpolation, finish)

    @property
    def no_pictures(self) -> str:
        """Why the samples are nothing that a camera takes; empty where they are pictures."""
        if self.data.kind == "synthetic":
            return "synthetic noise is no picture"
        if self.data.kind == "images" or self.sample(0).raw is not None:
            return ""
        made = f"{self.data.sample_shape} {'floats' if self.data.is_float else 'integers'}"
        return f"samples of {made} are no pictures (bytes with 1 or 3 channels)"

    def readable(self) -> Setup:
        """The same without images that cannot be read, which its data's description then names; decodes every one.

        Raises:
            UnreadableSample: None can be read.
        """
        if self.data.kind != "images":
            return self

        def fault(i: int) -> UnreadableSample | None:
            try:
                self.data.load(i)
            except UnreadableSample as error:
                return error
            return None

        faults = dict(prefetch(fault, range(len(self.data))))
        broken = [error for error in faults.values() if error is not None]
        if len(broken) == len(faults):
            raise broken[0]
        if not broken:
            return self
        shown = "; ".join(error.message for error in broken[:3]) + "; ..." * (len(broken) > 3)
        description = f"{self.data.description}, {len(broken)} of them not read: {shown}"
        kept = [i for i, error in faults.items() if error is None]
        return replace(self, data=self.data.only(kept, description))

    def centre(self, sample: Sample) -> tuple[Array, ...]:
        """The centre crop of each of the sample's canvases, one array an image input, batch axis 1."""
        views = Views("crop", self.geometry, self.axes)
        canvases = (sample.canvas, *sample.pair)[: len(self.models[0].image_inputs)]
        return tuple(np.ascontiguousarray(views.centre(canvas))[None] for canvas in canvases)


def open_setup(
    model: ModelLike,
    source: str | Path | Data,
    *,
    against: ModelLike | None = None,
    names: tuple[str, str] | None = None,
    provider: str = "cpu",
    preprocess: str | Preprocess | None = None,
    labels: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    size: Sequence[int] | None = None,
    threads: int = 0,
) -> Setup:
    """Open models and data, and settle preprocessing and crop geometry; arguments and errors as `verify`."""
    recipe = load_preprocess(preprocess) if isinstance(preprocess, str) else preprocess
    if recipe is not None:
        check_fields(recipe, f"preprocessing {recipe.name}")
    notes = []
    if provider == "all" and not cuda_available():
        notes.append("CUDA: no CUDAExecutionProvider on this machine; only the CPU was measured")
    where = "cuda" if provider == "cuda" else "cpu"
    layout = recipe.layout if recipe else "auto"
    saved = isinstance(against, str | Path) and Path(against).suffix == ".npz"
    reference = Path(str(against)) if saved else None
    sources = [model] if against is None or saved else [model, against]
    labelled = zip(sources, names or ("", ""), strict=False)
    models = [Model(one, where, layout=layout, label=label, threads=threads) for one, label in labelled]
    if len({opened.label for opened in models}) < len(models):
        models[1].label += " (against)"
    if isinstance(source, Data):
        data = source
    else:
        data = open_data(source, labels, limit, seed, tuple(v.name for v in models[0].session.get_inputs()))
    for opened in models:
        _set_constants(opened, data)
    against_label = reference.name if reference else (models[1].label if len(models) > 1 else None)
    return _settle(tuple(models), against_label, reference, data, recipe, size, seed, notes)


def beside(setup: Setup, data: Data, preprocess: str | Preprocess | None, size: Sequence[int] | None) -> Setup:
    """The models of a setup on other data; arguments and errors as `verify`."""
    recipe = load_preprocess(preprocess) if isinstance(preprocess, str) else preprocess
    return _settle(setup.models, setup.against_label, setup.reference, data, recipe, size, setup.seed, [])


def _settle(
    models: tuple[Model, ...],
    against_label: str | None,
    reference: Path | None,
    data: Data,
    recipe: Preprocess | None,
    size: Sequence[int] | None,
    seed: int,
    notes: list[str],
) -> Setup:
    """Choose input, preprocessing, labels and sizes for models and data."""
    spec = _common_input(models)
    recipe = recipe or _default_recipe(spec, data)
    if data.class_count is not None and (doubt := _other_classes(models[0], data.class_count, not data.class_names)):
        notes.append(f"{doubt}: these are no labels for it; name folders by class index, or give --labels")
        data = replace(data, labels=None, class_names={})
    if data.labels and (moved := _label_offset(recipe, models[0], data.labels)):
        class_names = {i + moved: name for i, name in data.class_names.items()}
        data = replace(data, labels=tuple(label + moved for label in data.labels), class_names=class_names)
        notes.append(f"labels moved by {moved}: class 0 of the model is background")
    geometry = plan_geometry(spec, data, recipe, size)
    if geometry.padded:
        notes.append("samples are no larger than the input: their borders were reflected to make room for crops")
    if data.kind == "synthetic":
        notes.append("synthetic noise: absolute numbers say little, use them to compare models")
    return Setup(models, against_label, reference, data, spec, recipe, geometry, seed, tuple(notes))


def _set_constants(model: Model, data: Data) -> None:
    """Give inputs that carry no samples their array of the .npz; `CannotHandle` says how to give one that lacks."""
    inputs = dict(zip((value.name for value in model.session.get_inputs()), model.inputs, strict=True))
    model.constants = {name: array for name, array in data.constants.items() if name in inputs}
    left = {name: spec for name, spec in inputs.items() if name not in model.constants}
    shifted = [spec for spec in left.values() if spec is not None]
    lacking = [name for name, spec in left.items() if spec is None]
    twins = len({(spec.layout, spec.channels) for spec in shifted}) == 1 and len(shifted) == 2
    if not twins:
        lacking += [spec.name for spec in shifted[1:]]
    if lacking:
        raise CannotHandle(
            f"{model.label}: input {lacking[0]!r} has no data",
            f"give an .npz with the samples under {shifted[0].name if shifted else 'the input'!r} and an array "
            f"{lacking[0]!r} for one sample",
        )


def _common_input(models: Sequence[Model]) -> InputSpec:
    """The input that fits all models: sizes and channels fixed by any of them; `CannotHandle` where inputs differ."""
    first, *others = models
    spec = first.image_inputs[0]
    for other in others:
        pairs = list(zip(first.image_inputs, other.image_inputs, strict=False))
        if len(first.image_inputs) != len(other.image_inputs) or not all(_alike(a, b) for a, b in pairs):
            left, right = (", ".join(s.describe() for s in m.image_inputs) for m in (first, other))
            raise CannotHandle(
                f"inputs differ: {first.label} takes {left}, {other.label} takes {right}",
                "compare models that take the same samples",
            )
        size = tuple(a or b for a, b in zip(spec.size, pairs[0][1].size, strict=True))
        spec = replace(spec, size=size, channels=spec.channels or pairs[0][1].channels)
    return spec


def _alike(a: InputSpec, b: InputSpec) -> bool:
    if a.layout != b.layout or a.dtype.kind != b.dtype.kind:
        return False
    sizes = zip((a.channels, *a.size), (b.channels, *b.size), strict=True)
    return all(x is None or y is None or x == y for x, y in sizes)


def _default_recipe(spec: InputSpec, data: Data) -> Preprocess:
    if data.is_float:
        return replace(PRESETS["none"], name="none (default for floating-point samples)")
    if spec.dtype.kind in "iu":
        choice = "raw255"
    else:
        choice = "unit" if spec.channels == 1 or len(spec.axes) != 2 else "imagenet"
    return replace(PRESETS[choice], name=f"{choice} (assumed; set --preprocess)")


def _other_classes(model: Model, count: int, numbered: bool) -> str:
    """Why classes that were counted in the data cannot be the model's; empty where they may be."""
    sizes = {size for value in model.session.get_outputs() for size in (value.shape or ())[1:] if isinstance(size, int)}
    background = {1001} if count == 1000 else set[int]()
    if not sizes or ({count} | background) & sizes or (numbered and count < max(sizes)):
        return ""
    return f"{count} class folders, but outputs of {model.label} have {', '.join(map(str, sorted(sizes)))} values"


def _label_offset(recipe: Preprocess, model: Model, labels: Sequence[int]) -> int:
    if recipe.label_offset is not None:
        return recipe.label_offset
    background = any(1001 in (value.shape or ()) for value in model.session.get_outputs())
    return 1 if background and max(labels) < 1000 else 0
