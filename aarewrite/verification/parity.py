"""Numeric parity: the outputs of two runs, compared by name; and where the nodes of a run were executed.

The models run in Polygraphy's runner. Its comparator is not used: it matches differently named outputs by position,
skips an output the second run lacks, and passes an empty result.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aarewrite.data.arrays import Array
from aarewrite.data.npz import read_arrays
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model.profile import node_times
from aarewrite.model.runner import EXECUTION_PROVIDERS, Model

Run = Mapping[str, Array]  # outputs of one iteration by name

# Relative to the output's scale (its largest magnitude); measured rewrites stay below these on the CPU.
TOLERANCE_CPU = {"float64": 1e-9, "float32": 1e-5, "float16": 4 * 2.0**-10}
TOLERANCE_CUDA = {**TOLERANCE_CPU, "float32": 1e-4}  # with TF32 off


@dataclass(frozen=True)
class OutputParity:
    """One output of two runs, over all iterations."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    max_abs: float  # largest |a - b|
    max_rel: float  # largest |a - b| / |b| where b is not 0
    where: tuple[int, ...]  # index of `max_abs`, the iteration first
    scale: float  # largest |b|
    tolerance: float  # largest |a - b| that passes, absolute
    passed: bool  # the verdict
    reason: str = ""  # why not, empty when passed


@dataclass(frozen=True)
class Parity:
    """Two runs compared."""

    first: str  # label of what is tested
    second: str  # label of what it is held against
    inputs: str  # what both were run on
    outputs: tuple[OutputParity, ...]  # one entry a common output
    mismatches: tuple[str, ...]  # differences of names, counts, shapes or dtypes, and NaN or inf: never acceptable
    # Whether differing values fail the verification; two models that are meant to differ (before and after
    # anti-aliasing) are compared without being required to agree
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
    import polygraphy.config
    from polygraphy.backend.onnxrt import OnnxrtRunner
    from polygraphy.logger import G_LOGGER

    polygraphy.config.AUTOINSTALL_DEPS = False  # no packages are installed at run time
    found: list[Run] = []
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL), OnnxrtRunner(model.session) as runner:  # it logs to stdout
        for feed in feeds:
            named = zip(model.image_inputs, feed, strict=True)
            arrays = {s.name: np.repeat(a, model.batch or 1, axis=0).astype(s.dtype, copy=False) for s, a in named}
            outputs = runner.infer(arrays | model.constants)
            found.append({name: outputs[name] for name in model.output_names})
    return found


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
    selected: Collection[str] = (),
) -> Parity:
    """Compare two runs (one entry an iteration): names, counts, shapes, dtypes and finiteness, then values.

    Args:
        first, second, inputs, required: As in `Parity`.
        got: Outputs of the first.
        want: Outputs of the second.
        max_diff: Largest absolute difference allowed; by default a share of the output's scale by dtype.
        cuda: One side ran on CUDA: the wider tolerance.
        selected: Outputs whose size depends on values: where values need not agree, theirs may differ, too.
    """
    found = [] if len(got) == len(want) else [f"{len(got)} runs against {len(want)}"]
    names, others = ({name: None for run in runs[:1] for name in run} for runs in (got, want))
    if not got or not want:
        found = ["nothing was run, so nothing was compared"]
    elif not names or not others:
        found.append(f"{second if names else first} has no outputs")
    elif names.keys() != others.keys():
        missing, renamed = sorted(others.keys() - names.keys()), sorted(names.keys() - others.keys())
        found.append(
            f"outputs differ by name: only in {second}: {missing or 'none'}, only in {first}: {renamed or 'none'}"
        )
    outputs = []
    for name in [name for name in names if name in others and (required or name not in selected)]:
        a, b = ([np.asarray(run[name]) for run in runs] for runs in (got, want))
        found += [f"output {name!r}{reason}" for reason in _incomparable(first, second, a, b)]
        numeric = all(array.dtype.kind in "fiub" and array.size and np.isfinite(array).all() for array in (*a, *b))
        if numeric and len(a) == len(b) and len({array.shape for array in (*a, *b)}) == 1:
            tolerances = TOLERANCE_CUDA if cuda else TOLERANCE_CPU
            outputs.append(_compare_output(name, np.stack(a), np.stack(b), max_diff, tolerances))
    return Parity(first, second, inputs, tuple(outputs), tuple(found), required)


def _incomparable(first: str, second: str, got: Sequence[Array], want: Sequence[Array]) -> Iterator[str]:
    a, b = got[0], want[0]
    if a.shape != b.shape:
        yield f": shape {a.shape} against {b.shape}"
    if a.dtype != b.dtype:
        yield f": dtype {a.dtype} against {b.dtype}"
    if a.size == 0:
        yield " is empty"
    for label, arrays in ((first, got), (second, want)):
        for kind, test in (("NaN", np.isnan), ("inf", np.isinf)):
            if count := sum(int(test(array).sum()) for array in arrays if array.dtype.kind == "f"):
                yield f" of {label} holds {count} {kind}"


def _compare_output(
    name: str, got: Array, want: Array, max_diff: float | None, tolerances: Mapping[str, float]
) -> OutputParity:
    first, second = got.astype(np.float64), want.astype(np.float64)
    difference, scale = np.abs(first - second), float(np.abs(second).max())
    tolerance = tolerances.get(str(got.dtype), 0.0) * scale if max_diff is None else max_diff
    where = tuple(int(i) for i in np.unravel_index(difference.argmax(), difference.shape))
    worst, nonzero = float(difference[where]), second != 0
    relative = float(np.max(difference[nonzero] / np.abs(second[nonzero]), initial=0.0))
    reason = "" if worst <= tolerance else f"differs by {worst:.3g} at {where}, tolerance {tolerance:.3g}"
    return OutputParity(
        name, str(got.dtype), got.shape[1:], worst, relative, where, scale, tolerance, not reason, reason
    )


def compare_with_file(
    path: Path, model: Model, feeds: Sequence[Sequence[Array]], inputs: str, max_diff: float | None
) -> Parity:
    """Compare a model with the arrays of an .npz under its names: outputs of the inputs saved with them, or of `feeds`.

    Raises:
        UsageError: Some inputs are there and others missing, or nothing besides inputs is there.
    """
    arrays = read_arrays(path)
    names = [spec.name for spec in model.image_inputs]
    saved = {name: arrays[name] for name in names if name in arrays}
    want = {name: array for name, array in arrays.items() if name not in {*names, *model.constants}}
    if 0 < len(saved) < len(names):
        lacking = next(name for name in names if name not in arrays)
        raise UsageError(f"{path}: input {lacking!r} is missing", "save all inputs of the model, or none")
    if not want:
        raise UsageError(f"{path}: holds inputs but no outputs", f"save the outputs {', '.join(model.output_names)}")
    if saved:
        got, inputs = model.run(saved), f"the inputs in {path.name}"
    else:
        got = model.run(model.feed(np.concatenate(column) for column in zip(*feeds, strict=True)))
        rows = max((len(array) for array in want.values() if array.ndim), default=len(feeds))
        if rows < len(feeds):
            got = {name: array[:rows] for name, array in got.items()}
        want = {name: array[: len(feeds)] for name, array in want.items()}
    cuda = model.provider == "cuda"
    return compare(model.label, path.name, [got], [want], inputs, max_diff=max_diff, cuda=cuda)


@dataclass(frozen=True)
class Placement:
    """Where the nodes of one run were executed."""

    model: str  # label of the model
    provider: str  # `cpu` or `cuda`: what was asked for
    counts: Mapping[str, int]  # nodes by execution provider (after ONNX Runtime's own fusions)
    fallen_back: tuple[str, ...]  # `name (operator)` of the nodes that ran on the CPU although CUDA was asked for
    milliseconds: float  # time of one run, the best of three, with the given batch


def node_placement(model: Model, provider: str, feeds: Mapping[str, Array]) -> Placement:
    """Run a model under ONNX Runtime's profiler and read where each node ran; errors as `Model`."""
    with tempfile.TemporaryDirectory() as folder:
        profiled = model.twin(model.source, provider, profile=Path(folder) / "profile")
        times = []
        for _ in range(3):
            start = time.perf_counter()
            profiled.run(feeds)
            times.append((time.perf_counter() - start) * 1e3)
        nodes = node_times(profiled.session)
    if not nodes:
        raise CannotHandle(f"{model.label}: ONNX Runtime's profile names no node", "report this with the model")
    wanted = EXECUTION_PROVIDERS[provider]
    fallen = tuple(f"{node.name} ({node.op})" for node in nodes if node.provider != wanted)
    return Placement(model.label, provider, Counter(node.provider for node in nodes), fallen, min(times))
