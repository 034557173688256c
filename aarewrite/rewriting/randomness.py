"""Random operators: with a seed and sessions that begin anew, two models draw the same values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import onnx

from aarewrite.model.external import bodies, nodes
from aarewrite.model.index import Constants, consumed
from aarewrite.model.model_file import Model
from aarewrite.model.runtime import Port, Session
from aarewrite.model.types import Array

DRAWING = frozenset((
    "Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
))  # fmt: skip
SEED = 1  # one for all, so that a copy of an operator draws what the operator does


def draws(node: onnx.NodeProto) -> bool:
    """Whether a node draws random values: a Dropout does where it may be told that this is training."""
    return node.op_type in DRAWING and (node.op_type != "Dropout" or (len(node.input) > 2 and node.input[2] != ""))


def random_outputs(model: Model) -> list[str]:
    """The model's outputs that depend on random operators without a seed, which are others at each run."""
    proto, found = model.proto, set[str]()
    constants = Constants(proto)
    functions = {(one.domain, one.name, one.overload): one for one in proto.functions}

    def unseeded(node: onnx.NodeProto) -> bool:
        if draws(node) and not any(attribute.name == "seed" for attribute in node.attribute):
            told = constants.source(node.input[2]) if node.op_type == "Dropout" else None
            return told is None or bool(constants.array(told))
        function = functions.get((node.domain, node.op_type, node.overload))
        inner = [inner for body in bodies(node) for inner in body.node] + list(function.node if function else ())
        return any(map(unseeded, inner))

    for node in proto.graph.node:
        if consumed(node) & found or unseeded(node):
            found.update(node.output)
    return [output.name for output in proto.graph.output if output.name in found]


def seeded(model: Model) -> Model:
    """The model with a seed on every random operator that has none; the model itself where there is none."""
    if not any(map(draws, nodes(model.proto))):
        return model
    proto = deepcopy(model.proto)
    for node in filter(draws, nodes(proto)):
        if not any(attribute.name == "seed" for attribute in node.attribute):
            node.attribute.append(
                onnx.helper.make_attribute("seed", SEED if node.op_type == "Dropout" else float(SEED))
            )
    return model.with_proto(proto)


class Anew:
    """A session that begins anew at each run: a random operator goes on in its sequence from run to run.

    Args:
        opened: Opens the session.
    """

    def __init__(self, opened: Callable[[], Session]) -> None:
        self._opened, self._first = opened, opened()

    def get_inputs(self) -> list[Port]:
        """Its inputs, without initializers."""
        return self._first.get_inputs()

    def get_outputs(self) -> list[Port]:
        """Its outputs, in the graph's order."""
        return self._first.get_outputs()

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs of these names, or every one, in order."""
        return self._opened().run(names, feeds)

    def get_providers(self) -> list[str]:
        """The execution providers that it really has, the first choice first."""
        return self._first.get_providers()

    def end_profiling(self) -> str:
        """Write the profile of no run and return its file."""
        return self._first.end_profiling()
