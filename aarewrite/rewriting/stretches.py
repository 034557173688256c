"""A model cut into stretches at maps that are given, and inputs moved by one unit in the last place."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import numpy as np
import onnx

from aarewrite.model.external import with_bodies
from aarewrite.model.model_file import Model
from aarewrite.rewriting.random_inputs import Feeds


def with_outputs(model: Model, names: Iterable[str]) -> Model:
    """The model with tensors of its main graph as further outputs."""
    proto = deepcopy(model.proto)
    present = {output.name for output in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    return model.with_proto(proto)


def cut(model: Model, maps: Feeds) -> Model:
    """The model with `maps`, tensors of its main graph, as further outputs, and everything that reads one of them
    reading an input of its own instead: `given` feeds those."""
    lean = with_outputs(model, maps)
    graph = lean.proto.graph
    for node in with_bodies(graph.node):
        node.input[:] = [_given(name) if name in maps else name for name in node.input]
    for name, value in maps.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        graph.input.append(onnx.helper.make_tensor_value_info(_given(name), kind, None))
    return lean


def given(maps: Feeds) -> Feeds:
    """The values of maps as the inputs of a model that is cut there."""
    return {_given(name): value for name, value in maps.items()}


def nudged(feeds: Feeds) -> Feeds:
    """Inputs with one unit in the last place more on every floating-point value."""
    return {
        name: np.asarray(np.nextafter(value, np.array(np.inf, value.dtype))) if value.dtype.kind == "f" else value
        for name, value in feeds.items()
    }


def _given(name: str) -> str:
    return f"aarewrite/given/{name}"
