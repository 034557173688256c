"""`aarewrite.distill`: weights fitted to what the original says on average over a camera's views, without labels.

The graph and its names stay, only weights change: the result costs what the model costs. For each image the original's
logits are averaged over several exposures of it; the weights are then fitted to give that average for every single
exposure. Source: knowledge distillation (Hinton et al. 2015), its teacher the mean over views of one image.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from aarewrite.calibration.exposures import classes_of, exposures
from aarewrite.calibration.judge import Verdict, answer, compare
from aarewrite.calibration.logits import logits
from aarewrite.calibration.steady import FEWEST
from aarewrite.data.arrays import Array
from aarewrite.data.canvases import Canvases, from_setup
from aarewrite.data.prefetch import prefetch
from aarewrite.data.setup import open_setup
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model.model_file import load
from aarewrite.model.runtime import plain_session
from aarewrite.notebook import Record, Tabular, estimate
from aarewrite.options import Json
from aarewrite.progress import Bar, progress_bar
from aarewrite.rewriting.pipeline import ModelSource
from aarewrite.verification.plausible import preprocessing_doubt
from aarewrite.version import __version__

MINUTES = 30.0
HOLD_OUT = 0.2
POOL = 6400  # exposures in all, so far as each image has some of the `PAIRS` near and far pairs
PAIRS = (1, 4)
JUDGED = 5  # pairs of crops of each sample held out
LEAST_TOP1 = -0.5  # points of top-1 that a result may cost
TOLERANCE = 1e-3  # of the largest logit: how far torch and ONNX Runtime may lie apart


@dataclass(frozen=True)
class Distilled(Tabular):
    """What `distill` returns."""

    model: onnx.ModelProto  # with the new weights
    verdict: Verdict  # on images that nothing was fitted to, against the original
    fitted: int  # images
    exposures: int  # of each of them
    steps: int  # of the optimiser
    minutes: float  # that these took
    loss: tuple[float, float]  # mean divergence from the average, nats, over the first and last tenth of the steps
    weights: int  # tensors that were fitted
    data: str  # what images, one line
    preprocess: str  # what was applied to them, one line
    failures: tuple[str, ...]  # why it should not be used, one line each; empty where it is better

    def records(self) -> list[Record]:
        """The judgement's figures, a row each, and what was done."""
        found: list[Record] = [
            {"before": one.before, "after": one.after, **estimate(one, one.name)} for one in self.verdict.measures
        ]
        done = {"loss at first": self.loss[0], "loss at last": self.loss[1], "steps": self.steps}
        return found + [{"measure": name, "value": value} for name, value in done.items()]

    def caption(self) -> str:
        """What was fitted and judged on what, and what speaks against the result."""
        on = f"on {self.fitted} samples of {self.data}, judged on {self.verdict.images} held out"
        return "; ".join((f"{self.weights} weights distilled {on}", *self.failures))

    def to_dict(self) -> Json:
        """Plain values for JSON."""
        verdict = dataclasses.asdict(self.verdict) | {"judgement": self.verdict.judgement}
        left_out = ("model", "verdict", "failures", "loss")
        plain = {name: value for name, value in vars(self).items() if name not in left_out}
        return {"better": not self.failures, "failures": list(self.failures), **plain} | {
            "loss": list(self.loss),
            "verdict": verdict,
        }


def distill(
    model: ModelSource,
    data: str | Path,
    *,
    teacher: ModelSource | None = None,
    minutes: float = MINUTES,
    device: str = "cpu",
    labels: str | Path | None = None,
    preprocess: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    hold_out: float = HOLD_OUT,
    force: bool = False,
    resume: Path | None = None,
    progress: bool = False,
) -> Distilled:
    """Fit a classifier's weights to what its original says on average over a camera's views; needs PyTorch.

    Args:
        model: Path or ModelProto; never changed.
        data: Folder of images like those that the model sees; labels are not needed.
        teacher: The original, whose answers are averaged and which the result is judged against; None: the model
            itself. For a model that was rewritten and repaired it is the one before.
        minutes: Time to fit in, on the wall's clock.
        device: "cpu" or "cuda", where PyTorch computes.
        labels: CSV of labels; the judgement then has accuracies, and may not lose more than half a point of top-1.
        preprocess, limit, seed: As for `aarewrite.verify`.
        hold_out: Share of the samples that nothing is fitted to.
        force: Whether to fit where the preprocessing looks wrong.
        resume: File that the state is written to every minute, and read from where an earlier run left it.
        progress: Show progress on stderr when it is a terminal.

    Raises:
        UsageError: The request or the data are wrong, too few images among them.
        CannotHandle: PyTorch is missing or has no such device, the model has an operator that is not translated or no
            float32 weights, or is no classifier of pictures.
        CheckFailed: PyTorch and ONNX Runtime compute different things.
    """
    if not minutes > 0:
        raise UsageError(f"--minutes {minutes:g}: no time", "give more than 0")
    if importlib.util.find_spec("torch") is None:
        raise CannotHandle("distilling needs PyTorch, which is not installed", "pip install 'aarewrite[distill]'")
    from aarewrite.calibration.torch_fit import Fitting

    student = load(model).self_contained()
    original = student if teacher is None else load(teacher).self_contained()
    setup = open_setup(student, data, preprocess=preprocess, labels=labels, limit=limit, seed=seed).readable()
    if reason := setup.no_pictures:
        raise UsageError(f"--data {data}: {reason}", "give a folder of images like those that the model sees")
    if len(setup.data) < FEWEST:
        raise UsageError(f"{len(setup.data)} images show nothing", f"give at least {FEWEST}, better hundreds")
    canvases = from_setup(setup)
    if canvases.constants or len(setup.models[0].image_inputs) > 1:
        raise CannotHandle("the model has several inputs", "take a classifier of single images")
    fitting = Fitting(student, device, seed)
    if (doubt := preprocessing_doubt(setup)) and not force:
        raise UsageError(doubt, "nothing was fitted: set --preprocess, or give --force")
    fitted, judged = ([int(i) for i in part] for part in canvases.split(hold_out, seed))
    pairs = max(PAIRS[0], min(PAIRS[1], POOL // (4 * len(fitted))))
    told = (__version__, setup.data.names, fitted, pairs, seed, setup.recipe.describe())
    protos = [one.SerializeToString(deterministic=True) for one in (student, original)]
    key = hashlib.sha256(b"".join(protos) + repr(told).encode()).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        with progress_bar("rendering exposures", len(fitted), progress) as bar:
            pool = _pool(canvases, fitted, pairs, seed, Path(folder) / "pool.npy", bar)
        finish = setup.scene(setup.sample(fitted[0])).finish
        with progress_bar("averaging the original", len(fitted), progress) as bar:
            targets = _targets(original, canvases, pool, finish, bar)
        fitting.agree(student, canvases, [finish(view) for view in pool[0, :2]], TOLERANCE)
        with progress_bar("distilling", None, progress) as bar:
            state = fitting.run(pool, targets, finish, minutes, bar, resume, key)
        result = fitting.written()
        fitting.agree(result, canvases, [finish(view) for view in pool[-1, :2]], TOLERANCE)
    before, after = answer((original, result), canvases, judged, pairs=JUDGED, seed=seed)
    verdict = compare(before, after, seed=seed)
    return Distilled(
        model=result,
        verdict=verdict,
        fitted=len(fitted),
        exposures=pool.shape[1],
        steps=state.step,
        minutes=state.spent / 60,
        loss=state.loss(),
        weights=len(fitting.graph.parameters),
        data=setup.data.description,
        preprocess=setup.recipe.describe(),
        failures=tuple(_failures(doubt, verdict)),
    )


def _pool(canvases: Canvases, indices: Sequence[int], pairs: int, seed: int, path: Path, bar: Bar) -> Array:
    """The exposures of every image as bytes, (images, views, h, w, C), in a file: they may be larger than memory."""
    scene = canvases.scene
    assert scene is not None

    def render(index: int) -> Array:
        return np.stack(exposures(scene(index), seed, index, pairs))

    pool: Array = np.empty(0)
    for k, (_, views) in enumerate(prefetch(render, indices)):
        if k == 0:
            pool = np.lib.format.open_memmap(path, "w+", views.dtype, (len(indices), *views.shape))
        pool[k] = views
        bar(1)
    return pool


def _targets(
    original: onnx.ModelProto, canvases: Canvases, pool: Array, finish: Callable[[Array], Array], bar: Bar
) -> Array:
    """The original's logits averaged over the exposures of each image, less their mean, (images, classes) float32."""
    session = plain_session(original)
    name, found = session.get_outputs()[0].name, []
    for views in pool:
        outputs = [session.run([name], feed)[0] for feed in canvases.feeds(finish(view) for view in views)]
        answers = np.concatenate(outputs)
        classes_of(answers)
        scores = logits(answers)
        found.append((scores - scores.mean(1, keepdims=True)).mean(0))
        bar(1)
    return np.stack(found)


def _failures(doubt: str, verdict: Verdict) -> Iterator[str]:
    if doubt:
        yield doubt
    if not verdict.better:
        changes = ", ".join(f"{one.name} {one.says}" for one in (verdict.consistency, verdict.one_pixel))
        yield f"{verdict.judgement} on {verdict.images} samples held out: {changes} points"
    if verdict.top1 and verdict.top1.change < LEAST_TOP1:
        yield f"top-1 {verdict.top1.says} points on {verdict.images} samples held out"
