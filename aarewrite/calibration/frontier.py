"""The candidates for the steadiest version of a model, each built and measured: steadiness under a camera over cost."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources

import onnx

from aarewrite.calibration.problem import RepairOptions
from aarewrite.calibration.repair import Progress, repair
from aarewrite.data.arrays import Batches
from aarewrite.errors import AarewriteError
from aarewrite.recipe import Recipe, load_recipe
from aarewrite.rewriting.pipeline import Options, Result, rewrite

EVERYWHERE = ("*",)


@dataclass(frozen=True)
class Candidate:
    """One way to make a model steadier: a recipe, whether weights are repaired, and a recipe for what comes out."""

    name: str
    recipe: Mapping[str, object]  # keys of a `Recipe`, the others as in "aligned"
    repair: bool = False
    skip_sites: bool = False  # nothing is blurred
    then: Mapping[str, object] = field(default_factory=dict)  # what is done to the repaired model; {}: nothing
    opt_in: bool = False  # measured where it is asked for only

    def rewritten(self, model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], verify: bool = False) -> Result:
        """The rewrite by the recipe. Errors as `rewrite`."""
        return self._step(model, self.recipe, self.skip_sites, shapes, verify)

    def finished(self, model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], verify: bool = False) -> Result:
        """What is done `then` to the rewritten and repaired model."""
        return self._step(model, self.then, True, shapes, verify)

    def _step(
        self,
        model: onnx.ModelProto,
        keys: Mapping[str, object],
        skip: bool,
        shapes: Mapping[str, Sequence[int]],
        verify: bool,
    ) -> Result:
        recipe: Recipe = load_recipe("aligned").with_options(**keys)
        return rewrite(model, recipe, verify=verify, **Options(skip=EVERYWHERE if skip else (), input_shapes=shapes))


def candidates() -> tuple[Candidate, ...]:
    """All of them, most promising first: `recipes/frontier.toml`."""
    table = tomllib.loads(resources.files("aarewrite").joinpath("recipes/frontier.toml").read_text("utf-8"))
    return tuple(Candidate(**entry) for entry in table["candidate"])


@dataclass(frozen=True)
class Built:
    """A candidate's model."""

    model: onnx.ModelProto
    cost: float | None  # multiply-accumulates relative to the original's, None where unknown


def build(
    candidate: Candidate,
    original: onnx.ModelProto,
    batches: Batches | None,
    shapes: Mapping[str, Sequence[int]],
    options: RepairOptions,
    *,
    verify: bool = False,
    progress: Progress | None = None,
) -> Built | str:
    """The candidate's model, or why there is none. Without `batches` nothing is repaired: the cost is the same."""
    try:
        first = candidate.rewritten(original, shapes, verify)
        if not first.changed:
            return "nothing to do in this model"
        model = first.model
        if candidate.repair and batches is not None:
            model, _ = repair(original, model, batches, options, progress=progress)
        if not candidate.then:
            return Built(model, first.plan.cost)
        last = candidate.finished(model, shapes, verify)
        costs = first.plan.cost, last.plan.cost
        return Built(last.model, None if None in costs else math.prod(cost or 0 for cost in costs))
    except AarewriteError as error:
        return error.message
