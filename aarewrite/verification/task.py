"""What kind of answer a model gives, told from the rank and shape of its outputs as measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aarewrite.data.geometry import Geometry
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model.runner import Model
from aarewrite.verification.maps import MapGrid, find_grid

TASKS = ("classify", "dense", "metric", "vector")


@dataclass(frozen=True)
class Task:
    """The task of one model and the outputs it concerns."""

    name: str  # one of `TASKS`
    why: str  # how it was found, for the report
    grids: tuple[MapGrid, ...]  # the outputs; for `classify` and `metric` one entry with empty axes


def infer_task(model: Model, geometry: Geometry, asked: str | None) -> Task:
    """Run the model once and tell its task; `asked` overrules the guess.

    Raises:
        UsageError: `asked` is unknown.
        CannotHandle: No output fits the task asked for, with the shapes named.
    """
    if asked is not None and asked not in TASKS:
        raise UsageError(f"--task {asked}: unknown", f"use one of {', '.join(TASKS)}")
    shapes = [spec.shape(geometry.size, channels=3 if len(spec.axes) == 2 else 1) for spec in model.image_inputs]
    outputs = model.run(model.feed(np.ones((1, *shape), np.float32) for shape in shapes))
    listing = ", ".join(f"{name} {array.shape}" for name, array in outputs.items())
    layout = model.image_inputs[0].layout
    maps = [find_grid(name, a.shape, a.dtype, geometry.size, layout) for name, a in outputs.items()]
    grids = tuple(grid for grid in maps if grid is not None)
    numbers = [name for name, a in outputs.items() if a.dtype.kind in "fiu"]
    ranks = (2, 2 + len(geometry.size))  # (N, K) or (N, K, 1, 1); other ranks are lists, of anchors for example
    classes = [n for n in numbers if outputs[n].ndim in ranks and outputs[n].shape[1] == outputs[n].size >= 2]
    guess = "metric" if len(model.image_inputs) == 2 else "dense" if grids else "classify" if classes else "vector"
    task = asked or guess
    why = "given" if asked else f"inferred from outputs {listing}"
    concerned = {
        "classify": classes[:1],
        "dense": [grid.output for grid in grids],
        "metric": numbers[:1] if len(model.image_inputs) == 2 else [],
        "vector": numbers,
    }[task]
    if concerned:
        return Task(task, why, grids if task == "dense" else tuple(MapGrid(name, (), (), None) for name in concerned))
    raise CannotHandle(
        f"{model.label}: no output fits task {task} (outputs: {listing})",
        "set --task classify, dense, metric or vector",
    )
