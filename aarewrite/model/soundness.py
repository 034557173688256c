"""What makes a file no model at all, whatever it computes: found before anything is calculated from it.

ONNX Runtime refuses all of it, but for names given twice among initializers, where it takes one and drops the other.
Nodes out of order are no such thing: ONNX Runtime sorts them.

1. A function calls itself, or others that call others until nobody can write them out.
2. A name is made twice, or read and never made; or nodes wait for each other.
3. A tensor's size and its data contradict each other.
4. A node's inputs, outputs or attributes are not those of its operator; or a window, a stride or a group is nothing.

Source: onnx.proto (TensorProto's fields), and the operators' schemas that onnx ships.
"""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter

import onnx

from aarewrite.errors import CannotHandle
from aarewrite.model import external
from aarewrite.model.types import DEFAULT_DOMAIN

KIND = onnx.AttributeProto.AttributeType
TENSOR = onnx.TensorProto
WINDOWS = ("kernel_shape", "strides", "dilations", "group")
LARGEST_WINDOW = 2**31 - 1
MOST_WRITTEN = 2**20  # nodes of a function; inference and ONNX Runtime write it out wherever it is called
BITS = {"FLOAT": 32, "DOUBLE": 64, "BOOL": 8, "STRING": 8}  # of types whose name does not say it
DATA = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
FIX = "export the model again, or see what onnx.checker says of it"


def check_sound(proto: onnx.ModelProto, name: str) -> None:
    """Refuse what is no model; see the module. The data of external files is not looked at.

    Args:
        proto: The model, or its skeleton.
        name: What messages call it.

    Raises:
        CannotHandle: The message names the function, tensor or node, and what is wrong with it.
    """
    problem = next(_problems(proto), "")
    if problem:
        raise CannotHandle(f"{name}: {problem}", FIX)


def _problems(proto: onnx.ModelProto) -> Iterator[str]:
    yield from unwritable(proto.functions)
    versions = _versions(proto.opset_import)
    if not proto.graph.output:
        yield "its graph has no output"
    yield from _wrong_names(proto.graph, ())
    for tensor in external.tensors(proto):
        yield from _wrong_size(tensor)
    yield from _wrong_windows(proto)
    yield from _wrong_nodes(proto.graph.node, versions)
    for function in proto.functions:
        inputs = [onnx.ValueInfoProto(name=name) for name in function.input]
        outputs = [onnx.ValueInfoProto(name=name) for name in function.output]
        yield from _wrong_names(onnx.GraphProto(node=function.node, input=inputs, output=outputs), ())
        yield from _wrong_nodes(function.node, _versions(function.opset_import))


def _versions(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {("" if entry.domain in DEFAULT_DOMAIN else entry.domain): int(entry.version) for entry in imports}


def unwritable(functions: Sequence[onnx.FunctionProto]) -> Iterator[str]:
    """Why functions cannot be written out in the place of their calls: onnx's inliner may crash at these."""
    bodies = {
        (f.domain, f.name, f.overload): [(n.domain, n.op_type, n.overload) for n in external.with_bodies(f.node)]
        for f in functions
    }
    names = (f"{f.domain}::{f.name}{f'::{f.overload}' if f.overload else ''}" for f in functions)
    yield from (f"there are two functions {name!r}" for name in _repeated(names))
    calls = {key: bodies.keys() & called for key, called in bodies.items()}
    try:
        order = list(TopologicalSorter(calls).static_order())
    except CycleError as error:
        yield f"function {error.args[1][0][1]!r} calls itself"
        return
    written: dict[tuple[str, str, str], int] = {}  # nodes of a function when all that it calls is written out
    for key in order:
        written[key] = sum(written.get(called, 1) for called in bodies[key])
        if written[key] > MOST_WRITTEN:
            yield f"function {key[1]!r}, written out, has more than {MOST_WRITTEN} nodes"


def _wrong_names(graph: onnx.GraphProto, outside: Collection[str]) -> Iterator[str]:
    """Names that are no text, made twice or never, in a graph and its bodies, which see those `outside`."""
    made = {value.name for value in graph.input}
    if len(made) < len(graph.input):
        yield f"two inputs of graph {graph.name!r} have the same name"
    stored = [*(tensor.name for tensor in graph.initializer), *(one.values.name for one in graph.sparse_initializer)]
    named = [*stored, *(value.name for values in (graph.input, graph.output) for value in values)]
    named += [name for node in graph.node for names in (node.input, node.output) for name in names]
    if (unread := next((name for name in named if not isinstance(name, str)), None)) is not None:
        yield f"tensor {unread[:40]!r}: its name is no UTF-8 text"
        return
    yield from (f"there are two initializers {name!r}" for name in _repeated(stored))
    made.update(stored)
    makers: dict[str, int] = {}
    waits = False
    for index, node in enumerate(graph.node):
        waits = waits or any(name and name not in made and name not in outside for name in node.input)
        for name in filter(None, node.output):
            if name in made:
                yield f"{_label(node)}: its output {name!r} is there already"
            made.add(name)
            makers[name] = index
    for value in graph.output:
        if value.name not in made and value.name not in outside:
            yield f"nothing makes the output {value.name!r}"
    seen = _Names(made, outside)
    for node in graph.node:
        for body in external.bodies(node):
            yield from _wrong_names(body, seen)
    if not waits:  # all is made before it is read
        return
    for node in graph.node:
        for name in filter(None, node.input):
            if name not in seen:
                yield f"{_label(node)}: nothing makes its input {name!r}"
    order = {index: {makers[name] for name in node.input if name in makers} for index, node in enumerate(graph.node)}
    try:
        TopologicalSorter(order).prepare()
    except CycleError as error:
        yield f"{_label(graph.node[error.args[1][0]])}: it waits for its own output"


class _Names(Collection[str]):
    """The names of a graph and of those around it, without a copy."""

    def __init__(self, own: set[str], outside: Collection[str]) -> None:
        self.own, self.outside = own, outside

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self.outside

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from self.outside

    def __len__(self) -> int:
        return len(self.own) + len(self.outside)


def _repeated(names: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)


def _wrong_size(tensor: onnx.TensorProto) -> Iterator[str]:
    what = f"tensor {tensor.name!r} of {'x'.join(map(str, tensor.dims))}"
    if any(size < 0 for size in tensor.dims):
        yield f"{what}: a size is negative"
        return
    kind = TENSOR.DataType.Name(tensor.data_type) if tensor.data_type in TENSOR.DataType.values() else "UNDEFINED"
    count = math.prod(tensor.dims)
    if kind == "UNDEFINED":
        if tensor.ByteSize() and count and tensor.dims:
            yield f"{what}: element type {tensor.data_type} does not exist"
        return
    bits = stored_bits(kind)
    needed = -(-count * bits // 8)
    if tensor.data_location == TENSOR.EXTERNAL:
        yield from _wrong_entries(tensor, what, needed)
    elif tensor.HasField("raw_data"):
        if len(tensor.raw_data) != needed:
            yield f"{what}: it holds {len(tensor.raw_data)} bytes instead of {needed}"
    else:
        held = sum(len(getattr(tensor, field)) for field in DATA)
        wanted = count * (2 if kind.startswith("COMPLEX") else 1)
        if held not in (wanted, needed if bits < 8 else wanted):
            yield f"{what}: it holds {held} numbers instead of {wanted}"


def stored_bits(kind: str) -> int:
    """Bits of one element in `raw_data`, by the name of its type."""
    said = re.search(r"\d+", kind)
    return BITS[kind] if said is None else int(said[0])


def _wrong_entries(tensor: onnx.TensorProto, what: str, needed: int) -> Iterator[str]:
    """What is wrong with where a tensor's data is said to lie."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    for key in ("offset", "length"):
        value = entries.get(key, "0")
        if not (value.isascii() and value.isdecimal() and len(value) < 20):
            yield f"{what}: the {key} of its data is {value[:40]!r}"
            return
    if "length" in entries and int(entries["length"]) != needed:
        yield f"{what}: its data has {entries['length']} bytes instead of {needed}"


def _wrong_nodes(nodes: Iterable[onnx.NodeProto], versions: dict[str, int]) -> Iterator[str]:
    for node in external.with_bodies(nodes):
        if not all(isinstance(text, str) for text in (node.name, node.op_type, node.domain)):
            yield f"node {node.name!r}: its name, operator or domain is no UTF-8 text"
            return
        domain = "" if node.domain in DEFAULT_DOMAIN else node.domain
        operator = _operator(node.op_type, versions.get(domain, 0), domain)
        if operator is not None:
            yield from _not_of_its_operator(node, operator)


def _wrong_windows(proto: onnx.ModelProto) -> Iterator[str]:
    """Windows, strides and groups that are nothing, be they handed to a function: onnx before 1.22 divides by them."""
    called = {(function.domain, function.name) for function in proto.functions}
    parameters = {*WINDOWS}  # attributes that become one of them
    inside = [a for f in proto.functions for node in external.with_bodies(f.node) for a in node.attribute]
    while more := {a.ref_attr_name for a in inside if a.name in parameters and a.ref_attr_name} - parameters:
        parameters |= more
    given = [
        (f"function {function.name!r}", attribute)
        for function in proto.functions
        for attribute in function.attribute_proto
    ]
    for node in external.nodes(proto):
        is_call = (node.domain, node.op_type) in called
        if is_call or node.domain in (*DEFAULT_DOMAIN, "com.microsoft"):
            known = parameters if is_call else WINDOWS
            given += [(_label(node), attribute) for attribute in node.attribute if attribute.name in known]
    for label, attribute in given:
        values = attribute.ints if attribute.type == KIND.INTS else [attribute.i]
        if attribute.type in (KIND.INT, KIND.INTS) and attribute.name in parameters and not attribute.ref_attr_name:
            wrong = next((value for value in values if not 0 < value <= LARGEST_WINDOW), None)
            if wrong is not None:
                yield f"{label}: {attribute.name} of {wrong}"


@dataclass(frozen=True)
class Operator:
    """What an operator takes."""

    name: str
    counts: tuple[tuple[str, int, int], ...]  # of inputs and of outputs, at least and at most
    types: dict[str, int]  # attribute -> its type
    required: tuple[str, ...]  # attributes


@lru_cache(maxsize=4096)
def _operator(name: str, version: int, domain: str) -> Operator | None:
    try:
        schema = onnx.defs.get_schema(name, version, domain)
    except (onnx.defs.SchemaError, TypeError):  # a version beyond 32 bits is none, either
        return None  # not one of ONNX's
    counts = ("inputs", schema.min_input, schema.max_input), ("outputs", schema.min_output, schema.max_output)
    types = {key: int(typing.cast(int, attribute.type)) for key, attribute in schema.attributes.items()}
    return Operator(name, counts, types, tuple(key for key, found in schema.attributes.items() if found.required))


def _not_of_its_operator(node: onnx.NodeProto, operator: Operator) -> Iterator[str]:
    for found, (what, least, most) in zip((len(node.input), len(node.output)), operator.counts, strict=True):
        if not least <= found <= most:
            takes = f"{least} or more" if most >= LARGEST_WINDOW else " to ".join(map(str, sorted({least, most})))
            yield f"{_label(node)}: {found} {what}, {operator.name} takes {takes}"
    given = {attribute.name: attribute.type for attribute in node.attribute}
    for name in operator.required:
        if name not in given:
            yield f"{_label(node)}: no {name!r}, which {operator.name} needs"
    for name, kind in given.items():
        wanted = operator.types.get(name, kind)
        if kind not in (wanted, KIND.UNDEFINED):
            yield f"{_label(node)}: {name!r} is {KIND.Name(kind)}, {operator.name} takes {KIND.Name(wanted)}"


def _label(node: onnx.NodeProto) -> str:
    """The node's name, its first output's, or its operator."""
    return f"node {next(filter(None, (node.name, *node.output)), node.op_type)!r}"
