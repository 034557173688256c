"""What the code reads of a graph: protocols for onnx-graphsurgeon's untyped nodes and tensors, and typed attributes.

An attribute is read by the type that the ONNX operator gives it. One that is absent, is a parameter of the function
around the node, or has another type (a custom operator's, say) reads as the default.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

import numpy as np
import onnx_graphsurgeon as gs

DType = np.dtype
Array = np.ndarray
ALIAS = "ai.onnx"  # another name of ONNX's own domain, ""
DEFAULT_DOMAIN = (None, "", ALIAS)
MICROSOFT = "com.microsoft"  # ONNX Runtime's own
Number = TypeVar("Number", int, float)


class Tensor(Protocol):
    """A named value. `inputs` holds its producer, if it has one, and `outputs` its readers; both lists are live."""

    name: str
    inputs: list[Node]
    outputs: list[Node]


class Node(Protocol):
    """An operator with its wiring; the lists are live: whoever changes one changes the tensors' lists, too."""

    op: str
    name: str
    domain: str | None
    attrs: dict[str, object]
    inputs: list[Tensor]
    outputs: list[Tensor]

    def subgraphs(self) -> Iterable[Graph]:
        """The bodies of an If, Loop or Scan."""


class Graph(Protocol):
    """A main graph, the body of a control-flow node or that of a function."""

    nodes: list[Node]
    inputs: list[Tensor]
    outputs: list[Tensor]


def ints(node: Node, name: str, default: Iterable[int] = ()) -> list[int]:
    """The attribute as integers, a new list; the default where it is empty, too."""
    return _numbers(node, name, int) or list(default)


def floats(node: Node, name: str) -> list[float]:
    """The attribute as floats, a new list; [] where it is empty or absent."""
    return _numbers(node, name, float)


def integer(node: Node, name: str, default: int = 0) -> int:
    """The attribute as an integer."""
    value = node.attrs.get(name)
    return int(value) if isinstance(value, int | np.integer) else default


def text(node: Node, name: str, default: str = "") -> str:
    """The attribute as text; the default where it is empty, too."""
    value = node.attrs.get(name)
    return value if isinstance(value, str) and value else default


def is_parameter(node: Node, name: str) -> bool:
    """Whether the attribute's value is handed in by the calls of the function around the node."""
    return isinstance(node.attrs.get(name), gs.Node.AttributeRef)


def in_default_domain(node: Node) -> bool:
    """Whether the node is an operator of ONNX itself."""
    return node.domain in DEFAULT_DOMAIN


def _numbers(node: Node, name: str, kind: type[Number]) -> list[Number]:
    value = node.attrs.get(name)
    if not isinstance(value, list | tuple | np.ndarray):
        return []
    return [kind(one) for one in value] if all(isinstance(one, kind | np.number) for one in value) else []
