"""The identity proof: when every filter passes a single tap through, the rewritten model equals the original.

The twin is the rewritten graph with the same padding, filter sizes and strides, and taps that are 0 but for the centre
one. Original and twin run in ONNX Runtime on the same random input; not only the outputs but the map of every site is
compared, so that a saturated output cannot hide a misplaced blur. The rewritten model itself is run as well.

Some networks amplify rounding until they differ from themselves by far more than any tolerance. Where original and twin
differ as wholes, the twin is judged site by site: everything behind a site reads the original's own map instead of the
twin's, so that each map is computed from the same input as in the original, and the tolerance stays what it was.
Only where rounding is amplified between two sites (or in a branch), the measure is what the original differs from
itself, on that same stretch, with one unit in the last place more on its input: `NOISE_FACTOR` times that, and never
more than `LARGEST_NOISE`.

Source: the identity law, "dense operator, then subsample by s" equals the strided operator.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np

from aarewrite.errors import CannotHandle, CheckFailed
from aarewrite.model.external import nodes
from aarewrite.model.inference import forget, infer
from aarewrite.model.model_file import Model
from aarewrite.model.precision import in_float32, types_agree
from aarewrite.model.runtime import Session, first_line, open_session
from aarewrite.model.shapes import with_input_shapes
from aarewrite.model.types import Array
from aarewrite.model.value_sizes import free_axes
from aarewrite.passes.contract import Frames
from aarewrite.rewriting.empty_maps import other_inputs, random_maps, saying_nothing
from aarewrite.rewriting.not_finite import weights_to_check
from aarewrite.rewriting.pieces import pieces
from aarewrite.rewriting.random_inputs import Feeds, Run, accepted, run
from aarewrite.rewriting.randomness import Anew, draws, random_outputs, seeded
from aarewrite.rewriting.stretches import cut, given, nudged, with_outputs

TOLERANCES = {"float32": 1e-5, "float64": 1e-12, "float16": 4e-3}  # of the tensor's largest magnitude
STEPS = {"int8": 1.0, "uint8": 1.0}  # one step of a quantised map: a rounding tie
NOISE_FACTOR = 10
LARGEST_NOISE = 1e-2  # of the tensor's largest magnitude
ONE_MORE = "with one unit in the last place more on its input"


@dataclass(frozen=True)
class Claim:
    """What is claimed of a rewrite: its twin computes what the original does."""

    watched: tuple[str, ...] = ()  # the main graph's blurred maps, in graph order: original and twin have them alike
    unproven: tuple[str, ...] = ()  # sites whose operator changes: their maps may change in size at odd sizes
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # where the user gave one, by name
    in_branches: bool = False  # whether sites lie in the branches of an If or in the body of a Loop
    frames: Frames = field(default_factory=dict)  # around what the original's inputs are given, where sizes change


@dataclass(frozen=True)
class Comparison:
    """One tensor of original and twin."""

    tensor: str
    difference: float  # the largest, absolute
    scale: float  # the largest magnitude in the original
    tolerance: float  # what `difference / scale` may be; for integers, what the difference may be
    problem: str = ""  # why they are not equal, "" if they are
    noise: float | None = None  # where it was needed, `relative` of the original to itself `ONE_MORE`

    @property
    def relative(self) -> float:
        """The largest difference relative to the tensor's scale."""
        return self.difference / self.scale if self.scale else self.difference


@dataclass(frozen=True)
class Proof:
    """The outcome of the identity proof."""

    comparisons: tuple[Comparison, ...]  # every compared tensor, for every input it was run on
    inputs: tuple[dict[str, tuple[int, ...]], ...]  # the shapes of the inputs of each run
    unproven: tuple[str, ...] = ()  # sites whose operator the plan changes; the proof says nothing about them
    notes: tuple[str, ...] = ()  # what limits the proof
    judged: str = "whole"  # original and twin ran on the same input; "site by site": see the module

    @property
    def passed(self) -> bool:
        """Whether every compared tensor is equal within its tolerance."""
        return bool(self.comparisons) and not any(c.problem for c in self.comparisons)

    @property
    def worst(self) -> Comparison:
        """The comparison with the largest relative difference."""
        return max(self.comparisons, key=lambda c: (bool(c.problem), c.relative, c.scale))

    @property
    def failure(self) -> str:
        """One line that names the first tensor that differs."""
        if not self.comparisons:
            return "identity proof: there was nothing to compare"
        first = next(c for c in self.comparisons if c.problem)
        return f"identity proof failed at tensor {first.tensor!r}: {first.problem}"

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "passed": self.passed,
            "largest_difference": self.worst.difference,
            "largest_relative_difference": self.worst.relative,
            "at": self.worst.tensor,
            "comparisons": [dataclasses.asdict(c) for c in self.comparisons],
            "inputs": [{name: list(shape) for name, shape in run.items()} for run in self.inputs],
            "unproven": list(self.unproven),
            "notes": list(self.notes),
            "judged": self.judged,
        }


def prove(original: Model, twin: Model, rewritten: Model, claim: Claim, seed: int = 0) -> Proof:
    """Run the identity proof on random input, of which `seed` decides, and the rewritten model on the same input. The
    twin is the rewrite with the single tap 1, and unproven sites left as they were.

    Raises:
        CannotHandle: ONNX Runtime cannot load, optimise or run the original.
        CheckFailed: The rewritten model does not run, its outputs differ in name, type or shape, or no blurred map has
            values that tell where they are.
    """
    notes: list[str] = []
    if random := random_outputs(original):
        notes.append(f"random, and compared as drawn from one seed: {', '.join(random)}")
    original, twin = seeded(original), seeded(twin)
    try:
        before = _session(with_outputs(original, claim.watched))
    except CannotHandle:
        single = in_float32(original)
        if single is original or not types_agree(original):
            raise
        original, twin, rewritten = single, in_float32(twin), in_float32(rewritten)
        before = _session(with_outputs(original, claim.watched))
        notes.append("run in float32: ONNX Runtime's CPU provider has no kernels for the model's type")
    runs = accepted(before, original, claim.input_shapes, not claim.unproven, seed)
    observed = claim.watched or tuple(runs[0][1])
    if saying_nothing(runs, observed):
        runs += [(feeds, run(before, feeds)) for feeds in other_inputs(runs[0][0], seed)]
    framed = [_framed(feeds, claim.frames) for feeds, _ in runs]
    comparisons: list[Comparison] = []
    found = _outputs("identity proof: the twin", with_outputs(twin, claim.watched), framed)
    for (_, expected), actual in zip(runs, found, strict=True):
        comparisons += _compare(expected, actual, claim.watched)
    judged = "whole"
    first = next((c for c in comparisons if c.problem), None)
    if first and (apart := _site_by_site(original, twin, runs, claim)):
        comparisons, judged = apart, "site by site"
        if not any(c.problem for c in apart):
            notes += _explained(first, apart, before, runs)
    del before
    covered = _on_random_maps(original, twin, runs, claim, seed)
    comparisons += covered
    silent = [name for name in saying_nothing(runs, observed) if name not in {c.tensor for c in covered}]
    if silent:
        what = f"{', '.join(silent)}: NaN, or one value everywhere, on every input tried"
        if len(silent) == len(observed):
            weights = weights_to_check(original) or "check the model's weights"
            raise CheckFailed(f"identity proof: nothing was compared; {what}", weights)
        notes.append(f"nothing was compared at {what}")
    try:
        _compare_signature(original, rewritten, runs, framed)
    except CheckFailed:
        _check_optimised(original)  # what ONNX Runtime makes of the original as well is no fault of the rewrite
        raise
    if claim.in_branches:
        notes.append("sites in branches are covered where the random input takes the branch")
    return Proof(
        comparisons=tuple(comparisons),
        inputs=tuple({name: value.shape for name, value in feeds.items()} for feeds, _ in runs),
        unproven=claim.unproven,
        notes=tuple(notes),
        judged=judged,
    )


def _session(model: Model, optimise: bool = False) -> Session:
    """A session whose random operators, if it has any, draw the same at each run."""
    opened = functools.partial(open_session, model, optimise)
    return Anew(opened) if any(map(draws, nodes(model.proto))) else opened()


def _framed(feeds: Feeds, frames: Frames) -> Feeds:
    """The inputs with something around them, where the twin takes larger ones."""
    return {name: np.pad(value, frames[name], "edge") if name in frames else value for name, value in feeds.items()}


def _site_by_site(original: Model, twin: Model, runs: list[Run], claim: Claim) -> list[Comparison]:
    """Compare the twin with the original where every map is computed from the original's own maps in front of it.

    Returns [] where the models do not run like that.
    """
    comparisons: list[Comparison] = []
    watched = claim.watched
    try:
        for feeds, expected in runs:
            maps = {name: expected[name] for name in watched}
            before, after = (_session(cut(model, maps)) for model in (original, twin))
            stretches = feeds | given(maps)
            found = list(_compare(expected, run(after, _framed(stretches, claim.frames)), watched))
            if any(c.problem for c in found):
                moved = run(before, nudged(stretches))
                found = [_within_noise(c, expected[c.tensor], moved[c.tensor]) for c in found]
            comparisons += found
    except Exception:  # ONNX Runtime raises a dozen private types
        return []
    return comparisons


def _on_random_maps(original: Model, twin: Model, runs: list[Run], claim: Claim, seed: int) -> list[Comparison]:
    """Compare the maps that say nothing on any input where every map is computed from random ones in front of it: those
    that then say something. [] where the models do not run like that."""
    silent = saying_nothing(runs, claim.watched)
    if not silent:
        return []
    feeds, expected = runs[0]
    maps = random_maps({name: expected[name] for name in claim.watched}, seed)
    stretches = feeds | given(maps)
    try:
        before = run(_session(cut(original, maps)), stretches)
        after = run(_session(cut(twin, maps)), _framed(stretches, claim.frames))
    except Exception:  # ONNX Runtime raises a dozen private types
        return []
    still = saying_nothing([(stretches, before)], silent)
    return [c for c in _compare(before, after, claim.watched) if c.tensor in silent and c.tensor not in still]


def _within_noise(comparison: Comparison, expected: Array, moved: Array) -> Comparison:
    """A comparison that failed, against what the original differs from itself on the same stretch."""
    if not comparison.problem or not np.isfinite(comparison.difference) or expected.dtype.kind != "f":
        return comparison
    noise = compare_arrays(comparison.tensor, expected, moved).relative
    tolerance = min(NOISE_FACTOR * noise, LARGEST_NOISE)
    problem = "" if comparison.relative <= tolerance else comparison.problem
    if problem and noise > LARGEST_NOISE:
        problem += f"; it cannot be proven, for the original differs from itself by {noise:.2g} of that {ONE_MORE}"
    return dataclasses.replace(comparison, tolerance=tolerance, problem=problem, noise=noise)


def _explained(first: Comparison, apart: list[Comparison], before: Session, runs: list[Run]) -> Iterator[str]:
    """What the user should know where `first` failed in the comparison of the wholes, but the sites hold apart."""
    name = first.tensor
    itself = [compare_arrays(name, expected[name], run(before, nudged(feeds))[name]) for feeds, expected in runs]
    yield (
        f"the network amplifies rounding: as a whole, {name} {first.problem}, and in the original by "
        f"{max(c.difference for c in itself):.3g} {ONE_MORE}; so each site was compared on the original's own maps"
    )
    for c in apart:
        if c.noise is not None:
            yield (
                f"{c.tensor} differs by {c.relative:.2g} of its scale, within {NOISE_FACTOR} times the {c.noise:.2g} "
                f"that it differs by in the original {ONE_MORE}"
            )


def _compare_signature(original: Model, rewritten: Model, runs: list[Run], framed: list[Feeds]) -> None:
    """Load and run the rewritten model as a user would, and compare its signature at run time: element types and sizes,
    but for those that depend on values."""
    found = _outputs("the rewritten model", rewritten, framed, optimise=True)
    for (feeds, expected), actual in zip(runs, found, strict=True):
        for name in expected.keys() & actual.keys():
            kind, wanted = (_kind_and_sizes(value[name]) for value in (actual, expected))
            if kind == wanted:
                continue
            sized = deepcopy(with_input_shapes(original, {name: value.shape for name, value in feeds.items()}))
            forget(sized.graph, {info.name for info in (*sized.graph.value_info, *sized.graph.output)})  # one run's
            free = free_axes(infer(sized)).get(name, set())
            if _but(kind, free) != _but(wanted, free):
                raise CheckFailed(f"the rewritten model: output {name!r} is {kind[1]} instead of {wanted[1]}")


def _check_optimised(original: Model) -> None:
    """Load the original as a user would."""
    try:
        _session(original, optimise=True)
    except CannotHandle as error:
        raise CannotHandle(f"the original, optimised: {error.message}", "install a newer onnxruntime") from None


def _kind_and_sizes(value: object) -> tuple[str, tuple[int, ...]]:
    """Element type and shape of an output; of a sequence or map its Python type."""
    return (value.dtype.name, value.shape) if isinstance(value, np.ndarray) else (type(value).__name__, ())


def _but(kind: tuple[str, tuple[int, ...]], free: Collection[int]) -> tuple[str, list[int | None]]:
    return kind[0], [None if axis in free else size for axis, size in enumerate(kind[1])]


def _outputs(what: str, model: Model, runs: list[Feeds], optimise: bool = False) -> Iterator[dict[str, Array]]:
    """A model's outputs on the inputs of each run; `what` is what errors call it."""
    try:
        session = _session(model, optimise)
        for feeds in runs:
            yield run(session, feeds)
    except CannotHandle as error:
        raise CheckFailed(f"{what}: {error.message}", error.next_step) from None
    except Exception as error:  # ONNX Runtime raises a dozen private types
        small = "a map is too small: use --pad edge, a smaller --filter, or --skip the node"
        hint = small if "reflect" in str(error) else ""
        raise CheckFailed(f"{what} does not run: {first_line(error)}", hint) from None


def _compare(expected: dict[str, Array], actual: dict[str, Array], watched: Iterable[str]) -> Iterator[Comparison]:
    """Compare the sites' maps in graph order, then the outputs: the first problem is where it began."""
    for name in dict.fromkeys([*watched, *expected]):
        a, b = expected[name], actual.get(name)  # a sequence is a list, a map a dictionary
        if name not in actual:
            yield Comparison(name, float("inf"), 0.0, 0.0, "missing from the twin")
        else:
            yield from compare_values(name, a, b)


def compare_values(name: str, a: object, b: object) -> Iterator[Comparison]:
    """Compare arrays, and what sequences and maps hold, entry by entry."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        yield compare_arrays(name, a, b)
    elif isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        yield compare_arrays(name, *(np.array([one[key] for key in a]) for one in (a, b)))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for place, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from compare_values(f"{name}[{place}]", x, y)
    elif a is not b:  # an empty optional is None
        yield Comparison(name, float("inf"), 0.0, 0.0, "its entries differ")


def compare_arrays(name: str, a: Array, b: Array) -> Comparison:
    """Compare what should be equal: `a` is right, `TOLERANCES` and `STEPS` say how far `b` may be from it."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return Comparison(name, float("inf"), 0.0, 0.0, f"{b.dtype}{b.shape} instead of {a.dtype}{a.shape}")
    if a.dtype.kind not in "fiub":
        equal = bool(np.array_equal(a, b))
        return Comparison(name, 0.0 if equal else 1.0, 1.0, 0.0, "" if equal else "values differ")
    difference = scale = 0.0
    for x, y in zip(pieces(a), pieces(b), strict=True):
        x, y = x.astype(np.float64), y.astype(np.float64)
        finite = np.isfinite(x)
        if not np.array_equal(finite, np.isfinite(y)) or not np.array_equal(x[~finite], y[~finite], equal_nan=True):
            return Comparison(name, float("inf"), 0.0, 0.0, "NaN or infinity in one of them")
        difference = max(difference, float(np.max(np.abs(x[finite] - y[finite]), initial=0.0)))
        scale = max(scale, float(np.max(np.abs(x), initial=0.0, where=finite)))
    if a.dtype.kind == "f":
        tolerance = TOLERANCES[a.dtype.name]
        limit = tolerance * max(scale, 1e-30)
    else:
        limit = tolerance = STEPS.get(a.dtype.name, 0.0)
    problem = "" if difference <= limit else f"differs by {difference:.3g} at a scale of {scale:.3g}"
    return Comparison(name, difference, scale, tolerance, problem)
