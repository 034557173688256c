"""Maps that hold NaN or infinity in the original already: 0 times either is NaN, so a single tap spreads them as a blur
does, and no proof holds there. That is the model's, or its input's, and no fault of the rewrite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import onnx

from aarewrite.errors import CannotHandle
from aarewrite.model.external import graphs, nodes
from aarewrite.model.model_file import Model
from aarewrite.model.precision import in_float32
from aarewrite.model.runtime import open_session
from aarewrite.model.types import DEFAULT_DOMAIN
from aarewrite.rewriting.random_inputs import accepted
from aarewrite.rewriting.stretches import with_outputs

if TYPE_CHECKING:
    from aarewrite.rewriting.proof import Claim

MOST_NAMED = 3
KINDS = onnx.TensorProto
FLOATING = frozenset((KINDS.FLOAT, KINDS.DOUBLE, KINDS.FLOAT16, KINDS.BFLOAT16))


def in_original(model: Model, claim: Claim, name: str) -> bool:
    """Whether a tensor that the proof compares holds NaN or infinity where the original runs on random input."""
    try:
        session = open_session(with_outputs(model, claim.watched))
    except CannotHandle:  # as the proof does where the model's type has no kernels
        model = in_float32(model)
        session = open_session(with_outputs(model, claim.watched))
    runs = accepted(session, model, claim.input_shapes, not claim.unproven, seed=0)
    found = (outputs.get(name) for _, outputs in runs)
    return not all(map(_finite, found))


def weights_to_check(model: Model) -> str:
    """The weights that hold NaN or infinity, as a next step; "" where all are finite."""
    names = list(dict.fromkeys(_not_finite(model)))
    if not names:
        return ""
    listed = ", ".join(map(repr, names[:MOST_NAMED]))
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"check the weights {listed}{more}: they hold NaN or infinity"


def _not_finite(model: Model) -> Iterator[str]:
    for name, tensor in _named(model.proto):
        if tensor.data_type in FLOATING and not _finite(model.array(tensor)):
            yield name


def _named(proto: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Initializers by their names, constants by those of the nodes' outputs."""
    for graph in graphs(proto):
        yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for node in nodes(proto):
        if node.op_type == "Constant" and node.domain in DEFAULT_DOMAIN:
            yield from ((node.output[0], attribute.t) for attribute in node.attribute if attribute.HasField("t"))


def _finite(value: object) -> bool:
    return not isinstance(value, np.ndarray) or value.dtype.kind not in "fV" or bool(np.isfinite(value).all())
