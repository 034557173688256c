"""The identity proof: when every filter passes a single tap through, the rewritten model equals the original.

The twin is the rewritten graph with the same padding, filter sizes and strides, and taps that are 0 but for the centre
one. Original and twin run in ONNX Runtime on the same random input; not only the outputs but the map of every site is
compared, so that a saturated output cannot hide a misplaced blur. The rewritten model itself is run as well.
Source: the identity law, "dense operator, then subsample by s" equals the strided operator.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from aarewrite.errors import CannotHandle, CheckFailed
from aarewrite.model.model_file import Model
from aarewrite.model.precision import in_float32
from aarewrite.model.runtime import first_line, open_session, polygraphy_runner
from aarewrite.planning import Plan

Array = npt.NDArray[Any]
Feeds = dict[str, Array]

VOLUME_SIZE = 40  # of symbolic axes of inputs with three spatial axes
IMAGE_SIZES = (160, 224, 256, 320, 640, 512, 128, 64, 32)
ODD_IMAGE_SIZES = (161, 225)
SEQUENCE_LENGTHS = (1024, 512, 576, 256, 288, 16000, 128, 64, 1)
TOLERANCES = {"float32": 1e-5, "float64": 1e-5, "float16": 4e-3}  # of the tensor's largest magnitude


@dataclass(frozen=True)
class Comparison:
    """One tensor of original and twin.

    Attributes:
        tensor: Its name.
        difference: Largest absolute difference.
        scale: Largest magnitude in the original.
        tolerance: What `difference / scale` may be; for integers, what the difference may be.
        problem: Why they are not equal, "" if they are.
    """

    tensor: str
    difference: float
    scale: float
    tolerance: float
    problem: str = ""

    @property
    def relative(self) -> float:
        """The largest difference relative to the tensor's scale."""
        return self.difference / self.scale if self.scale else self.difference


@dataclass(frozen=True)
class Proof:
    """The outcome of the identity proof.

    Attributes:
        comparisons: Every compared tensor, for every input it was run on.
        inputs: The shapes of the inputs of each run.
        unproven: Sites whose operator the plan changes; the proof says nothing about them.
        notes: What limits the proof.
    """

    comparisons: tuple[Comparison, ...]
    inputs: tuple[dict[str, tuple[int, ...]], ...]
    unproven: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

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

    def to_dict(self) -> dict[str, Any]:
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
        }


def prove(original: Model, twin: Model, rewritten: Model, plan: Plan, seed: int = 0) -> Proof:
    """Run the identity proof on random input, and the rewritten model on the same input.

    Args:
        original: The model as it was.
        twin: The plan applied with the single tap 1 (unproven sites left as they were).
        rewritten: The plan applied.
        plan: For the sites' names and the input shapes given by the user.
        seed: Of the random inputs.

    Raises:
        CannotHandle: ONNX Runtime cannot load or run the original.
        CheckFailed: The rewritten model does not run, or its outputs differ in name, type or shape.
    """
    notes: list[str] = []
    models = [original, twin, rewritten]
    watched = _watched(plan)
    try:
        before, after = (open_session(_with_outputs(model, watched)) for model in models[:2])
    except CannotHandle:
        models = [in_float32(model) for model in models]
        if models[0] is original:
            raise
        before, after = (open_session(_with_outputs(model, watched)) for model in models[:2])
        notes.append("run in float32: ONNX Runtime's CPU provider has no kernels for the model's type")
    runs = list(_runs(before, models[0], plan, seed))
    comparisons: list[Comparison] = []
    for feeds, expected in runs:
        try:
            actual = _run(after, feeds)
        except Exception as error:  # ONNX Runtime raises a dozen private types
            raise CheckFailed(f"identity proof: the twin does not run: {first_line(error)}", _way_out(error)) from None
        comparisons += _compare(expected, actual, watched)
    del after, before
    _run_result(models[2], runs)
    if any(planned.site.scope for planned in plan.rewrites):
        notes.append("sites in branches are covered where the random input takes the branch")
    return Proof(
        comparisons=tuple(comparisons),
        inputs=tuple({name: value.shape for name, value in feeds.items()} for feeds, _ in runs),
        unproven=tuple(p.site.node for p in plan.rewrites if p.rewrite and not p.rewrite.proven),
        notes=tuple(notes),
    )


def _watched(plan: Plan) -> list[str]:
    """Names of the main graph's blurred tensors: they exist in original and twin alike."""
    return [p.map_name for p in plan.rewrites if not p.site.scope and p.map_name]


def _with_outputs(model: Model, names: list[str]) -> Model:
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    present = {output.name for output in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    return model.with_proto(proto)


def _run(session: Any, feeds: Feeds) -> dict[str, Array]:
    """One inference through Polygraphy's runner."""
    with polygraphy_runner(session) as runner:
        return dict(runner.infer(feeds, check_inputs=False))


def _run_result(model: Model, runs: list[tuple[Feeds, dict[str, Array]]]) -> None:
    """Load and run the rewritten model as a user would, and compare its signature at run time."""
    try:
        session = open_session(model, optimise=True)
        for feeds, expected in runs:
            for output, value in zip(session.get_outputs(), session.run(None, feeds), strict=True):
                wanted = expected[output.name]
                same = getattr(value, "shape", None) == getattr(wanted, "shape", None)
                if not same or getattr(value, "dtype", None) != getattr(wanted, "dtype", None):
                    raise CheckFailed(f"output {output.name!r} is {value.shape} instead of {wanted.shape}")
    except (CannotHandle, CheckFailed) as error:
        raise CheckFailed(f"the rewritten model: {error.message}") from None
    except Exception as error:  # ONNX Runtime raises a dozen private types
        raise CheckFailed(f"the rewritten model does not run: {first_line(error)}", _way_out(error)) from None


def _way_out(error: Exception) -> str:
    small = "reflect" in str(error)
    return "a map is too small: use --pad edge, a smaller --filter, or --skip the node" if small else ""


def _compare(expected: dict[str, Array], actual: dict[str, Array], watched: list[str]) -> Iterator[Comparison]:
    """Compare the sites' maps in graph order, then the outputs: the first problem is where it began."""
    for name in dict.fromkeys([*watched, *expected]):
        a, b = expected[name], actual.get(name)
        if b is None:
            yield Comparison(name, float("inf"), 0.0, 0.0, "missing from the twin")
        elif isinstance(a, np.ndarray):
            yield _compare_arrays(name, a, b)


def _compare_arrays(name: str, a: Array, b: Array) -> Comparison:
    if a.shape != b.shape or a.dtype != b.dtype:
        return Comparison(name, float("inf"), 0.0, 0.0, f"{b.dtype}{b.shape} instead of {a.dtype}{a.shape}")
    if a.dtype.kind not in "fiub":
        equal = bool(np.array_equal(a, b))
        return Comparison(name, 0.0 if equal else 1.0, 1.0, 0.0, "" if equal else "values differ")
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(x)
    if not np.array_equal(finite, np.isfinite(y)) or not np.array_equal(x[~finite], y[~finite], equal_nan=True):
        return Comparison(name, float("inf"), 0.0, 0.0, "NaN or infinity in one of them")
    difference = float(np.max(np.abs(x[finite] - y[finite]), initial=0.0))
    scale = float(np.max(np.abs(x), initial=0.0, where=finite))
    if a.dtype.kind == "f":
        tolerance = TOLERANCES[a.dtype.name]
        limit = tolerance * max(scale, 1e-30)
    else:
        limit = tolerance = (
            1.0 if a.dtype.kind in "iu" and a.dtype.itemsize == 1 else 0.0
        )  # one step of a quantised map: a rounding tie
    problem = "" if difference <= limit else f"differs by {difference:.3g} at a scale of {scale:.3g}"
    return Comparison(name, difference, scale, tolerance, problem)


# ---- random input ------------------------------------------------------------------------------------------


def _runs(session: Any, model: Model, plan: Plan, seed: int) -> Iterator[tuple[Feeds, dict[str, Array]]]:
    """Random inputs the original accepts, with its outputs: the first size that runs, an odd one where sizes are open
    (and no site changes its operator, whose output may then differ in size), and every value that a scalar integer
    input is compared with in the graph."""
    inputs = session.get_inputs()
    symbolic = any(not isinstance(dim, int) or dim <= 0 for value in inputs for dim in value.shape[1:])
    symbolic = symbolic and not plan.input_shapes
    values = _switches(model, inputs)
    first = _first_that_runs(session, plan, inputs, IMAGE_SIZES if symbolic else IMAGE_SIZES[:1], values, seed)
    if isinstance(first, str):
        raise CannotHandle(
            f"ONNX Runtime cannot run the original on random input: {first}",
            "give its sizes with --input NAME:SHAPE, or write without proof with --no-verify",
        )
    yield from first
    same_size = all(planned.rewrite.proven for planned in plan.rewrites if planned.rewrite)
    if symbolic and same_size and any(len(value.shape) >= 4 for value in inputs):
        odd = _first_that_runs(session, plan, inputs, ODD_IMAGE_SIZES, values, seed)
        if not isinstance(odd, str):
            yield from odd


def _first_that_runs(
    session: Any, plan: Plan, inputs: Any, sizes: tuple[int, ...], values: list[Feeds], seed: int
) -> list[tuple[Feeds, dict[str, Array]]] | str:
    """One run for each branch-switching value: with the first size the original accepts."""
    lengths = SEQUENCE_LENGTHS if any(_open_sequence(value, plan) for value in inputs) else SEQUENCE_LENGTHS[:1]
    problem, found = "no input size was tried", []
    for switches in values:
        for size, length in itertools.product(sizes, lengths):
            feeds = _random_feeds(inputs, plan, size, length, np.random.default_rng(seed)) | switches
            try:
                found.append((feeds, _run(session, feeds)))
                break
            except Exception as error:  # ONNX Runtime raises a dozen private types
                problem = first_line(error)
    return found or problem


def _open_sequence(value: Any, plan: Plan) -> bool:
    open_end = bool(value.shape) and (not isinstance(value.shape[-1], int) or value.shape[-1] <= 0)
    return 1 < len(value.shape) <= 3 and open_end and value.name not in plan.input_shapes


def _random_feeds(inputs: Any, plan: Plan, size: int, length: int, rng: np.random.Generator) -> Feeds:
    feeds: Feeds = {}
    known: dict[str, int] = {}
    for value in inputs:
        shape = plan.input_shapes.get(value.name) or _concrete(value.shape, size, length, known)
        feeds[value.name] = _random_array(value, shape, rng)
    return feeds


def _concrete(shape: list[Any], size: int, length: int, known: dict[str, int]) -> tuple[int, ...]:
    """Sizes for open axes: 1 for the batch, `size` for images, `length` for the last axis of sequences."""
    dims = []
    for axis, dim in enumerate(shape):
        if isinstance(dim, int) and dim > 0:
            dims.append(dim)
            continue
        wanted = 1
        if len(shape) >= 4 and axis > 0:
            wanted = size if len(shape) == 4 else VOLUME_SIZE + size % 2
        elif axis > 0 and axis == len(shape) - 1:
            wanted = length
        dims.append(known.setdefault(dim, wanted) if isinstance(dim, str) else wanted)
    return tuple(dims)


def _random_array(value: Any, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    if kind in ("float", "double", "float16"):
        dtype = {"float": np.float32, "double": np.float64, "float16": np.float16}[kind]
        return rng.standard_normal(shape).astype(dtype)
    if kind in ("int8", "uint8"):
        info = np.iinfo(kind)
        return rng.integers(info.min, info.max + 1, shape).astype(kind)
    if kind in ("int32", "int64", "bool", "uint32", "uint64", "int16", "uint16"):
        return rng.integers(0, 2, shape).astype(kind)
    raise CannotHandle(
        f"input {value.name!r} of type {value.type}: no random values for it", "use --no-verify and check by hand"
    )


def _switches(model: Model, inputs: Any) -> list[Feeds]:
    """Values of scalar integer inputs that the graph compares them with: each may take another branch."""
    scalars = {value.name: value for value in inputs if value.type in ("tensor(int64)", "tensor(int32)")}
    scalars = {name: value for name, value in scalars.items() if len(value.shape) == 0}
    if not scalars:
        return [{}]
    constants: dict[str, Array] = {}
    for tensor in model.proto.graph.initializer:
        if not tensor.dims and tensor.data_location != onnx.TensorProto.EXTERNAL:
            constants[tensor.name] = onnx.numpy_helper.to_array(tensor)
    for node in model.proto.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value" and not attribute.t.dims:
                constants[node.output[0]] = onnx.numpy_helper.to_array(attribute.t)
    found: list[Feeds] = [{}]
    for node in model.proto.graph.node:
        if node.op_type == "Equal":
            name = next((n for n in node.input if n in scalars), None)
            constant = next((constants[n] for n in node.input if n in constants), None)
            if name is not None and constant is not None:
                dtype = np.int64 if scalars[name].type == "tensor(int64)" else np.int32
                found.append({name: np.array(constant, dtype=dtype).reshape(())})
    return found
