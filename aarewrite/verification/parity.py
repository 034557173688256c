"""Numeric parity through Polygraphy, guarded against its false passes.

Polygraphy matches differently named outputs by position, skips an output the second run lacks, and an empty
result counts as a pass. So names, counts, dtypes, shapes and finiteness are compared here first; only
what survives that is handed to Polygraphy's comparator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from aarewrite.data.arrays import Array
from aarewrite.data.sources import read_arrays
from aarewrite.errors import UsageError
from aarewrite.model.runner import Model

Run = Mapping[str, Array]  # outputs of one iteration by name

# Relative to the output's scale (its largest magnitude); measured rewrites stay below these on the CPU.
TOLERANCE_CPU = {"float64": 1e-9, "float32": 1e-5, "float16": 4 * 2.0**-10}
TOLERANCE_CUDA = {**TOLERANCE_CPU, "float32": 1e-4}  # with TF32 off


@dataclass(frozen=True)
class OutputParity:
    """One output of two runs, over all iterations.

    Attributes:
        max_abs: Largest |a - b|.
        max_rel: Largest |a - b| / |b| where b is not 0.
        where: Index of `max_abs`, the iteration first.
        scale: Largest |b|.
        tolerance: Largest |a - b| that passes, absolute.
        passed: The verdict.
        reason: Why not, empty when passed.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    max_abs: float
    max_rel: float
    where: tuple[int, ...]
    scale: float
    tolerance: float
    passed: bool
    reason: str = ""


@dataclass(frozen=True)
class Parity:
    """Two runs compared.

    Attributes:
        first: Label of what is tested.
        second: Label of what it is held against.
        inputs: What both were run on.
        outputs: One entry a common output.
        mismatches: Differences of names, counts, shapes or dtypes, and NaN or inf: never acceptable.
        required: Whether differing values fail the verification; two models that are meant to differ
            (before and after anti-aliasing) are compared without being required to agree.
    """

    first: str
    second: str
    inputs: str
    outputs: tuple[OutputParity, ...]
    mismatches: tuple[str, ...]
    required: bool

    @property
    def equal(self) -> bool:
        """Whether every output is there, comparable and within tolerance."""
        return bool(self.outputs) and not self.mismatches and all(output.passed for output in self.outputs)

    @property
    def failures(self) -> tuple[str, ...]:
        """Why the verification fails because of this comparison; empty when it does not."""
        title = f"parity of {self.first} with {self.second}"
        found = [f"{title}: {reason}" for reason in self.mismatches]
        if self.required:
            found += [f"{title}: output {o.name!r} {o.reason}" for o in self.outputs if not o.passed]
        return tuple(found)


def run_model(model: Model, feeds: Sequence[Sequence[Array]]) -> list[Run]:
    """Run a model on every feed (one array an image input, batch axis 1) through Polygraphy's runner."""
    from polygraphy.backend.onnxrt import OnnxrtRunner

    step = model.batch or 1
    loader = []
    for feed in feeds:
        named = zip(model.image_inputs, feed, strict=True)
        arrays = {spec.name: np.repeat(a, step, axis=0).astype(spec.dtype, copy=False) for spec, a in named}
        loader.append(arrays | model.constants)
    with _polygraphy() as comparator:
        results = comparator.Comparator.run([OnnxrtRunner(model.session, name=model.label)], data_loader=loader)
        return [dict(iteration) for iteration in results[0][1]]


def compare(
    first: str,
    second: str,
    got: Sequence[Run],
    want: Sequence[Run],
    inputs: str,
    *,
    max_diff: float | None = None,
    cuda: bool = False,
    required: bool = True,
) -> Parity:
    """Compare two runs output by output.

    Args:
        first: Label of what is tested.
        second: Label of what it is held against.
        got: Outputs of the first, one entry an iteration.
        want: Outputs of the second.
        inputs: What both ran on, for the report.
        max_diff: Largest absolute difference allowed; by default a share of the output's scale by dtype.
        cuda: One side ran on CUDA: the wider tolerance.
        required: See `Parity`.
    """
    mismatches = _mismatches(first, second, got, want)
    outputs = []
    for name in got[0] if got and want else ():
        if any(name not in run or np.shape(run[name]) != np.shape(got[0][name]) for run in (*got, *want)):
            continue
        a = np.stack([np.asarray(run[name]) for run in got])
        b = np.stack([np.asarray(run[name]) for run in want[: len(got)]])
        numeric = a.dtype.kind in "fiub" and b.dtype.kind in "fiub"
        if a.shape == b.shape and a.size and numeric and np.isfinite(a).all() and np.isfinite(b).all():
            outputs.append(_compare_output(name, a, b, max_diff, TOLERANCE_CUDA if cuda else TOLERANCE_CPU))
    return Parity(first, second, inputs, tuple(outputs), tuple(mismatches), required)


def _mismatches(first: str, second: str, got: Sequence[Run], want: Sequence[Run]) -> list[str]:
    if not got or not want:
        return ["nothing was run, so nothing was compared"]
    found = []
    if len(got) != len(want):
        found.append(f"{len(got)} runs against {len(want)}")
    if not got[0] or not want[0]:
        return [*found, f"{first if not got[0] else second} has no outputs"]
    missing, renamed = sorted(set(want[0]) - set(got[0])), sorted(set(got[0]) - set(want[0]))
    if missing or renamed:
        found.append(
            f"outputs differ by name: only in {second}: {missing or 'none'}, only in {first}: {renamed or 'none'}"
        )
    for name in got[0]:
        if name not in want[0]:
            continue
        a, b = np.asarray(got[0][name]), np.asarray(want[0][name])
        if a.shape != b.shape:
            found.append(f"output {name!r}: shape {a.shape} against {b.shape}")
        if a.dtype != b.dtype:
            found.append(f"output {name!r}: dtype {a.dtype} against {b.dtype}")
        if a.size == 0:
            found.append(f"output {name!r} is empty")
        for label, runs in ((first, got), (second, want)):
            for kind, test in (("NaN", np.isnan), ("inf", np.isinf)):
                values = [np.asarray(run[name]) for run in runs if name in run]
                count = sum(int(test(value).sum()) for value in values if value.dtype.kind == "f")
                if count:
                    found.append(f"output {name!r} of {label} holds {count} {kind}")
    return found


def _compare_output(
    name: str, a: Array, b: Array, max_diff: float | None, tolerances: Mapping[str, float]
) -> OutputParity:
    first, second = a.astype(np.float64), b.astype(np.float64)
    difference = np.abs(first - second)
    scale = float(np.abs(second).max())
    tolerance = max_diff if max_diff is not None else tolerances.get(str(a.dtype), 0.0) * scale
    where = tuple(int(i) for i in np.unravel_index(int(difference.argmax()), difference.shape))
    nonzero = second != 0
    relative = float(np.max(difference[nonzero] / np.abs(second[nonzero]), initial=0.0))
    passed = _polygraphy_verdict(name, first, second, tolerance)
    worst = float(difference.max())
    # Polygraphy and this file must agree; if they ever do not, the stricter verdict counts.
    passed = passed and worst <= tolerance
    reason = "" if passed else f"differs by {worst:.3g} at {where}, tolerance {tolerance:.3g}"
    return OutputParity(name, str(a.dtype), a.shape[1:], worst, relative, where, scale, tolerance, passed, reason)


def _polygraphy_verdict(name: str, first: Array, second: Array, tolerance: float) -> bool:
    with _polygraphy() as comparator:
        sides = {
            label: {name: np.ascontiguousarray(values)} for label, values in (("first", first), ("second", second))
        }
        runs = comparator.RunResults(
            [(label, [comparator.IterationResult(outputs, runner_name=label)]) for label, outputs in sides.items()]
        )
        check = comparator.SimpleCompareFunc(atol=tolerance, rtol=0.0, check_error_stat="elemwise")
        verdicts = comparator.Comparator.compare_accuracy(runs, compare_func=check)
    matches = [m for verdict in verdicts for pair in verdict.values() for outputs in pair for m in outputs.values()]
    return bool(matches) and all(map(bool, matches))  # an empty result must not pass


@contextmanager
def _polygraphy() -> Iterator[ModuleType]:
    """Polygraphy's comparator, silent (it logs to stdout) and kept from installing packages at run time."""
    import polygraphy.config
    from polygraphy import comparator
    from polygraphy.logger import G_LOGGER

    polygraphy.config.AUTOINSTALL_DEPS = False
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        yield comparator


def split_reference(path: Path, model: Model) -> tuple[dict[str, Array] | None, dict[str, Array]]:
    """Split the arrays of a reference .npz into (inputs or None, outputs) by the model's names.

    Raises:
        UsageError: Some inputs are there and others missing, or nothing besides inputs is there.
    """
    arrays = read_arrays(path)
    names = [spec.name for spec in model.image_inputs]
    present = [name for name in names if name in arrays]
    if present and len(present) < len(names):
        lacking = next(name for name in names if name not in arrays)
        raise UsageError(f"{path}: input {lacking!r} is missing", "save all inputs of the model, or none")
    outputs = {name: array for name, array in arrays.items() if name not in {*names, *model.constants}}
    if not outputs:
        raise UsageError(f"{path}: holds inputs but no outputs", f"save the outputs {', '.join(model.output_names)}")
    return ({name: arrays[name] for name in names} if present else None), outputs
