"""Does a classifier see what it was trained on? Wrong preprocessing looks like a bad model.

The signs: nearly all samples get one class, or labels fit no better than chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import comb

import numpy as np

from aarewrite.data.arrays import Array
from aarewrite.data.preprocess import PRESETS
from aarewrite.data.setup import Setup
from aarewrite.verification.classify import top_classes
from aarewrite.verification.maps import infer_task

FEWEST, MOST = 20, 64  # samples that are looked at, evenly spaced
MANY_CLASSES = 100
NEARLY_ALL = {False: 0.95, True: 0.8}  # share of samples with one class, by whether there are many
CHANCE = 0.05  # labels fit by chance where a guess is right as often with this probability at least
SURE = 0.001  # and another preprocessing does better where a guess is that with this probability at most


def preprocessing_doubt(setup: Setup, readable: Sequence[int] | None = None) -> str:
    """Why the preprocessing looks wrong for the last of the models and which presets fit better, in one line.

    Empty where nothing looks wrong, where there are fewer than 20 samples, for noise, and where there are no classes.
    `readable` are the samples that may be looked at, by default all.
    """
    known = range(len(setup.data)) if readable is None else readable
    task = infer_task(setup.models[-1], setup.geometry, None)
    output = task.grids[0].output
    if task.name != "classify" or setup.data.kind == "synthetic" or len(known) < FEWEST:
        return ""
    places = np.unique(np.asarray(known)[np.linspace(0, len(known) - 1, MOST).astype(int)]).tolist()
    n, labels = len(places), setup.data.labels
    true = None if labels is None else np.asarray(labels)[places]

    def hits(classes: Array, moved: int = 0) -> int:
        return 0 if true is None else int(np.count_nonzero(classes == true + moved))

    tops, classes = _answers(setup, output, places)
    (most, count), limit = _commonest(tops), NEARLY_ALL[classes >= MANY_CLASSES]
    right = hits(tops)
    if count >= limit * n and (true is None or _commonest(true)[1] < limit * n):
        wrong = f"{count} of {n} samples get class {most}"
    elif true is not None and _by_chance(right, n, classes) >= CHANCE:
        wrong = f"{right} of {n} labels fit, as by chance"
    else:
        return ""
    better = []
    for preset in () if setup.data.is_float else PRESETS.values():
        if not preset.apply or preset.name == setup.recipe.name:
            continue
        recipe = replace(preset, interpolation=setup.recipe.interpolation)
        found = _answers(replace(setup, recipe=recipe), output, places)[0]
        fit = hits(found)
        if true is not None and fit > right and _by_chance(fit, n, classes) <= SURE:
            better.append((fit, f"{preset.name} ({fit} of {n} labels fit)"))
        elif true is None and 2 * _commonest(found)[1] < n:
            distinct = len(set(found.tolist()))
            better.append((distinct, f"{preset.name} ({distinct} classes among {n} samples)"))
    for moved in (-1, 1) if true is not None else ():
        if _by_chance(fit := hits(tops, moved), n, classes) <= SURE:
            better.append((fit, f"labels moved by {moved:+d} with label_offset ({fit} of {n} fit)"))
    told = ", ".join(says for _, says in sorted(better, reverse=True)) or "none of the presets"
    return f"the preprocessing looks wrong ({setup.recipe.name}): {wrong}; what fits better: {told}"


def _answers(setup: Setup, output: str, places: Sequence[int]) -> tuple[Array, int]:
    """The last model's classes for the centre crops, and how many classes there are."""
    model = setup.models[-1]
    rows = [model.run(model.feed(setup.centre(setup.sample(i))))[output].reshape(-1) for i in places]
    return top_classes(np.stack(rows)), len(rows[0])


def _commonest(classes: Array) -> tuple[int, int]:
    return Counter[int](classes.tolist()).most_common(1)[0]


def _by_chance(right: int, n: int, classes: int) -> float:
    """The probability that guesses among so many classes are right so often or more often."""
    p = 1 / classes
    return sum(comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(right, n + 1))
