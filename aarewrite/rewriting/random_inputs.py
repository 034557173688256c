"""Random inputs that a model accepts: the sizes of its open axes, and values that take each of its branches."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from math import prod

import numpy as np

from aarewrite.errors import CannotHandle
from aarewrite.model.index import Constants
from aarewrite.model.model_file import Model
from aarewrite.model.runtime import LARGEST_INPUT, Port, Session, dtype_of, first_line
from aarewrite.model.types import Array
from aarewrite.rewriting.pieces import drawn
from aarewrite.sites.reading import InputShapes

Feeds = dict[str, Array]
Run = tuple[Feeds, dict[str, Array]]  # inputs, and the outputs they give
Shapes = dict[str, tuple[int, ...]]
Shape = Sequence[int | str | None]  # of an input: sizes, names of open axes, None or -1

VOLUME_SIZE = 40  # of symbolic axes of inputs with three spatial axes
IMAGE_SIZES = (160, 224, 256, 320, 640, 512, 128, 64, 32)
ODD_IMAGE_SIZES = (161, 225)
LARGEST_CHOSEN = 2**24  # elements of an input whose sizes are open: an open number of channels is tried as a size, too
SEQUENCE_LENGTHS = (1024, 512, 576, 256, 288, 16000, 128, 64, 1)


def accepted(
    session: Session,
    model: Model,
    given: InputShapes,
    odd_too: bool,
    seed: int,
    image_sizes: Sequence[int] = IMAGE_SIZES,
) -> list[Run]:
    """Random inputs the model runs on, with its outputs: of the first size that runs, then of an odd one where
    sizes are open, each with every value that a scalar integer input is compared with in the graph.

    Args:
        session, model: What runs, and the graph for what it compares.
        given: Input name -> shape, where the user gave one.
        odd_too: Whether an odd size is wanted besides.
        seed: Of the values.
        image_sizes: For open axes of images, in order of preference.

    Raises:
        CannotHandle: It runs on none of them.
    """
    inputs = session.get_inputs()
    is_open = not given and any(_is_open(dim) for port in inputs for dim in port.shape[1:])
    likely, names = _ties(inputs)
    first = functools.partial(_first_that_runs, session, given, _switches(model, inputs), seed)
    sizes = image_sizes if is_open else image_sizes[:1]
    runs, problem = first(sizes, likely)
    if not runs:
        runs, _ = first(sizes, [names])
    if not runs:
        raise CannotHandle(
            f"ONNX Runtime cannot run the original on random input: {problem}",
            "give its sizes with --input NAME:SHAPE, or write without proof with --no-verify",
        )
    if is_open and odd_too and any(len(port.shape) >= 4 for port in inputs):
        runs += first(ODD_IMAGE_SIZES, likely)[0]
    return runs


def run(session: Session, feeds: Feeds) -> dict[str, Array]:
    """One inference: the outputs by name."""
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def _is_open(dim: int | str | None) -> bool:
    return not isinstance(dim, int) or dim <= 0


def _first_that_runs(
    session: Session, given: InputShapes, switches: list[Feeds], seed: int, sizes: Iterable[int], ties: list[set[str]]
) -> tuple[list[Run], str]:
    """A run of the first shapes that the model accepts for each of the `switches`, and why others were refused."""
    inputs = session.get_inputs()
    open_shapes = [port.shape for port in inputs if port.name not in given]
    sequences = any(1 < len(shape) <= 3 and _is_open(shape[-1]) for shape in open_shapes)
    lengths = SEQUENCE_LENGTHS if sequences else SEQUENCE_LENGTHS[:1]
    shapes = [_concrete(inputs, given, *choice) for choice in itertools.product(sizes, lengths, ties)]
    problem, found = "no input size was tried", list[Run]()
    for values in switches:
        for tried in {tuple(shape.items()): shape for shape in shapes}.values():
            most = {port.name: LARGEST_CHOSEN if any(map(_is_open, port.shape)) else LARGEST_INPUT for port in inputs}
            most |= dict.fromkeys(given, LARGEST_INPUT)
            if large := next((name for name, shape in tried.items() if prod(shape) > most[name]), None):
                problem = f"its input {large!r} of {'x'.join(map(str, tried[large]))} is too large to make up"
                continue
            rng = np.random.default_rng(seed)
            feeds = {port.name: _random_array(port, tried[port.name], rng) for port in inputs} | values
            try:
                found.append((feeds, run(session, feeds)))
                break
            except Exception as error:  # ONNX Runtime raises a dozen private types
                problem = first_line(error)
    return found, problem


def _ties(inputs: list[Port]) -> tuple[list[set[str]], set[str]]:
    """The names of axes that stand for one size each, in two ways to try at every size, and all names there are.

    Exporters write one name, `?`, `None` or `unk`, on axes that have nothing to do with each other. So a name that
    the batch shares with its input's other axes, or with any image's, is no tie unless nothing else runs.
    """
    shapes = [port.shape for port in inputs if port.shape]
    names = {dim for shape in shapes for dim in shape if isinstance(dim, str)}
    images = {dim for shape in shapes if len(shape) >= 4 for dim in shape[1:]}
    loose = {shape[0] for shape in shapes if shape[0] in images or shape[0] in shape[1:]}
    return [names - loose, set()], names


def _concrete(inputs: list[Port], given: InputShapes, size: int, length: int, ties: set[str]) -> Shapes:
    """Shapes with sizes for open axes: 1 for the batch, `size` for images, `length` for the last axis of sequences;
    what `ties` names has the size of where it comes first."""
    known: dict[str, int] = {}
    return {port.name: tuple(given.get(port.name) or _sized(port.shape, ties, size, length, known)) for port in inputs}


def _sized(shape: Shape, ties: set[str], size: int, length: int, known: dict[str, int]) -> Iterator[int]:
    for axis, dim in enumerate(shape):
        wanted = 1
        if len(shape) >= 4 and axis > 0:
            wanted = size if len(shape) == 4 else VOLUME_SIZE + size % 2
        elif axis > 0 and axis == len(shape) - 1:
            wanted = length
        if isinstance(dim, int) and dim > 0:
            yield dim
        else:
            yield known.setdefault(dim, wanted) if isinstance(dim, str) and dim in ties else wanted


def _random_array(port: Port, shape: Sequence[int], rng: np.random.Generator) -> Array:
    kind = dtype_of(port)
    if kind is None:
        raise CannotHandle(
            f"input {port.name!r} of type {port.type}: no random values for it", "use --no-verify and check by hand"
        )
    if kind.kind == "f":
        return drawn(rng.standard_normal, shape, kind)
    if kind in (np.int8, np.uint8):
        return rng.integers(np.iinfo(kind).min, np.iinfo(kind).max + 1, shape).astype(kind)
    return rng.integers(0, 2, shape).astype(kind)


def _switches(model: Model, inputs: list[Port]) -> list[Feeds]:
    """Values of scalar integer inputs that the graph compares them with: each may take another branch."""
    kinds = {port.name: dtype_of(port) for port in inputs if not port.shape}
    scalars = {name: kind for name, kind in kinds.items() if kind in (np.int64, np.int32)}
    constants = Constants(model.proto)
    found: list[Feeds] = [{}]
    for node in model.proto.graph.node if scalars else ():
        name = next((n for n in node.input if n in scalars), "")
        source = next(filter(None, map(constants.source, node.input)), None)
        if node.op_type == "Equal" and name and source and not constants.tensor(source).dims:
            found.append({name: model.array(constants.tensor(source)).astype(scalars[name])})
    return found
