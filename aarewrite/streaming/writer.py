"""Streaming graphs, written anew: the one place of this floor that makes a graph. Here is what both forms share, names,
constants, cuts and joins along the stream, states and metadata, and the exact form.

The source is left as it is. A node is written once for each of its pieces; what is read of a tensor is cut out of its
pieces and its state and joined. Tensors that are whole keep their names, and so do inputs and outputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from math import prod
from typing import Any

import numpy as np
import onnx

from aarewrite.errors import UsageError
from aarewrite.model.external import bodies, graphs, nodes
from aarewrite.model.graph import OLDEST_IR_WITH_FREE_INITIALIZERS
from aarewrite.model.index import consumed
from aarewrite.model.model_file import Model
from aarewrite.model.shapes import Dim
from aarewrite.model.types import Array
from aarewrite.options import Json
from aarewrite.streaming.flow import Flow, Part, sizes
from aarewrite.streaming.layout import Layout
from aarewrite.streaming.sliding import END, SLICE_INPUTS_SINCE
from aarewrite.streaming.tracks import Range

METADATA_KEY = "aarewrite.stream"


class GraphWriter:
    """What both forms share.

    Attributes:
        states: State input -> the output that feeds it.
    """

    def __init__(self, flow: Flow, step: int) -> None:
        self.flow, self.step = flow, step
        self.opset = flow.source.opset
        self.states: dict[str, str] = {}
        proto = flow.source.proto
        self._names = {tensor.name for graph in graphs(proto) for tensor in graph.initializer}
        self._names |= {value.name for graph in graphs(proto) for value in graph.input}
        for node in nodes(proto):
            self._names.update((node.name, *node.output))
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[tuple[int, ...], bytes], str] = {}
        self._new: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def constant(self, name: str, value: Array) -> str:
        """The name of a constant with this value, one for all that are equal."""
        key = value.shape, value.dtype.str.encode() + value.tobytes()
        if key not in self._constants:
            self._constants[key] = fresh = self.fresh(name)
            self._new.append(onnx.numpy_helper.from_array(value, fresh))
        return self._constants[key]

    def fresh(self, wanted: str) -> str:
        """A name that nothing has."""
        name, k = wanted, 0
        while name in self._names:
            k += 1
            name = f"{wanted}_{k}"
        self._names.add(name)
        return name

    def cut(self, tensor: str, axis: int, part: Range, length: int) -> str:
        """A range of a tensor; the tensor itself where it is all of it."""
        if part == (0, length):
            return tensor
        made = self.fresh(f"{tensor}/{part[0]}:{part[1]}")
        low, high = [part[0]], [END if part[1] == length else part[1]]
        if self.opset < SLICE_INPUTS_SINCE:
            self._add("Slice", [tensor], made, starts=low, ends=high, axes=[axis])
        else:
            numbers = [self.constant(f"{tensor}/{k[0]}", np.array(k, np.int64)) for k in (low, high, [axis])]
            self._add("Slice", [tensor, *numbers], made)
        return made

    def join(self, tensors: Sequence[str], made: str, axis: int) -> str:
        """Tensors one behind the other; the tensor itself where it is one."""
        if len(tensors) == 1:
            return tensors[0]
        self._add("Concat", tensors, made, axis=axis)
        return made

    def begin_state(self, tensor: str, length: int) -> str:
        """A state that holds so many indices of a streamed tensor, as an input."""
        kind, shape = self.flow.source.types[tensor].dtype, sizes(self.flow, tensor, length)
        state = self.fresh(f"{tensor}/state")
        self.states[state] = after = self.fresh(f"{state}/next")
        self._inputs.append(onnx.helper.make_tensor_value_info(state, kind, shape))
        self._outputs.append(onnx.helper.make_tensor_value_info(after, kind, shape))
        return state

    def end_state(self, state: str, tensor: str) -> None:
        """What the state is in the next step."""
        self._add("Identity", [tensor], self.states[state])

    def copy(self, node: onnx.NodeProto, names: Mapping[str, str] | None = None) -> None:
        """A node as it is, reading tensors of other names."""
        node = deepcopy(node)
        _rename(node, names or {})
        self._nodes.append(node)

    def _add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        self._nodes.append(onnx.helper.make_node(op, inputs, [output], name=self.fresh(f"{output}/{op}"), **attributes))

    def pack(self) -> None:
        """One state for each element type, its values flat behind the batch, or altogether flat.

        Raises:
            UsageError: The states have open sizes that are no common batch.
        """
        pairs = list(zip(self._inputs, self._outputs, strict=True))
        self._inputs, self._outputs, self.states, packed = [], [], {}, list[onnx.NodeProto]()
        behind, self._nodes = self._nodes, packed
        ends = []
        for kind in dict.fromkeys(given.type.tensor_type.elem_type for given, _ in pairs):
            group = [pair for pair in pairs if pair[0].type.tensor_type.elem_type == kind]
            shapes: list[list[Dim]] = [
                [dim.dim_param or dim.dim_value for dim in given.type.tensor_type.shape.dim] for given, _ in group
            ]
            first = {shape[0] for shape in shapes}
            batch = [*first] if len(first) == 1 and all(len(shape) > 1 for shape in shapes) else []
            rest = [[size for size in shape[len(batch) :] if isinstance(size, int)] for shape in shapes]
            if [len(batch) + len(sizes) for sizes in rest] != [len(shape) for shape in shapes]:
                raise UsageError("--pack-states: the states have open sizes", "settle them with --input NAME:SHAPE")
            name = self.fresh(f"states/{onnx.helper.tensor_dtype_to_np_dtype(kind).name}")
            self.states[name] = after = self.fresh(f"{name}/next")
            total, flat = [*batch, sum(map(prod, rest))], [0] * len(batch) + [-1]
            self._inputs.append(onnx.helper.make_tensor_value_info(name, kind, total))
            self._outputs.append(onnx.helper.make_tensor_value_info(after, kind, total))
            position, parts = 0, []
            for (given, next_one), sizes_behind in zip(group, rest, strict=True):
                part = self.cut(name, len(batch), (position, position + prod(sizes_behind)), -1)
                position += prod(sizes_behind)
                shape = self.constant(f"{given.name}/shape", np.array([0] * len(batch) + sizes_behind, np.int64))
                self._add("Reshape", [part, shape], given.name)
                parts.append((next_one.name, self.fresh(f"{next_one.name}/flat")))
            ends.append((parts, after, len(batch), self.constant("states/flat", np.array(flat, np.int64))))
        self._nodes = [*packed, *behind]
        for parts, after, axis, flat_shape in ends:
            for value, made in parts:
                self._add("Reshape", [value, flat_shape], made)
            self._add("Concat", [made for _, made in parts], after, axis=axis)

    def finish(self, more: Json) -> Model:
        """The streaming model; `more` goes into its metadata beside window, step and states."""
        source = self.flow.source
        proto = onnx.ModelProto()
        proto.CopyFrom(source.proto)
        graph = proto.graph
        del graph.node[:], graph.value_info[:], proto.functions[:]
        if proto.ir_version < OLDEST_IR_WITH_FREE_INITIALIZERS:  # an initializer would have to be an input as well
            made = [onnx.helper.make_node("Constant", [], [t.name], name=t.name, value=t) for t in self._new]
            self._nodes[:0] = made
        else:
            graph.initializer.extend(self._new)
        for value in graph.input:
            if value.name in self.flow.inputs:
                value.type.tensor_type.shape.dim[self.flow.inputs[value.name]].dim_value = self.step
        for value in graph.output:
            dims = source.dims(value.name)
            if dims is not None:
                kind = source.types[value.name].dtype
                value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, dims))
        graph.input.extend(self._inputs)
        graph.output.extend(self._outputs)
        self._nodes = _needed(self._nodes, {value.name for value in graph.output})
        graph.node.extend(self._nodes)
        read = {name for node in graph.node for name in consumed(node)} | {value.name for value in graph.output}
        unread = {tensor.name for tensor in graph.initializer} - read
        for tensor in [tensor for tensor in graph.initializer if tensor.name in unread]:
            graph.initializer.remove(tensor)
        for value in [value for value in graph.input if value.name in unread]:
            graph.input.remove(value)
        record = {
            "input": self.flow.input, "axis": self.flow.inputs[self.flow.input], "window": self.flow.window,
            "step": self.step, "inputs": self.flow.inputs, **more, "states": self.states,
        }  # fmt: skip
        present = {entry.key: entry for entry in proto.metadata_props}
        (present.get(METADATA_KEY) or proto.metadata_props.add(key=METADATA_KEY)).value = json.dumps(record)
        return source.model.with_proto(proto)


class Writer(GraphWriter):
    """Writes the exact form."""

    def __init__(self, flow: Flow, layout: Layout, step: int) -> None:
        super().__init__(flow, step)
        self.layout = layout
        self._taken = set(flow.inputs)  # names of the source's tensors that stand for something
        self._pieces: dict[str, list[tuple[Range, str]]] = {}
        self._held: dict[str, str] = {}  # tensor -> its state

    def write(self, more: Json, pack: bool = False) -> Model:
        """The streaming model; `more` goes into its metadata. Errors as of `pack`, which is done where it is asked."""
        flow, source = self.flow, self.flow.source
        for name in flow.inputs:
            self._pieces[name] = [((flow.window - self.step, flow.window), name)]
            self._begin_state(name)
        parts = {id(part.node): k for k, part in enumerate(flow.parts)}
        for node in source.nodes:
            k = parts.get(id(node))
            if k is None:
                self.copy(node)  # makes a constant; dropped at the end where nobody reads it
            elif k in self.layout.pieces:
                self._part(flow.parts[k], self.layout.pieces[k])
        for name in source.outputs:
            if name in flow.tracks and (found := self.read(name, (0, flow.tracks[name].length))) != name:
                self._add("Identity", [found], name)
        for name, state in self._held.items():
            low, high = self.layout.states[name]
            moved = int(flow.tracks[name].moved(self.step))
            self.end_state(state, self.read(name, (low + moved, high + moved)))
        if pack:
            self.pack()
        return self.finish(more)

    def read(self, name: str, part: Range) -> str:
        """The tensor that holds a range of a streamed tensor, made of its pieces where none is it."""
        axis = self.flow.tracks[name].axis
        pieces = self._pieces[name]
        if exact := next((tensor for found, tensor in pieces if found == part), None):
            return exact
        joined, position = list[str](), part[0]
        while position < part[1]:
            (low, high), tensor = max(
                (piece for piece in pieces if piece[0][0] <= position < piece[0][1]), key=lambda piece: piece[0][1]
            )
            end = min(high, part[1])
            joined.append(self.cut(tensor, axis, (position - low, end - low), high - low))
            position = end
        whole = part == (0, self.flow.tracks[name].length) and name not in self._taken
        if len(joined) > 1 and whole:
            self._taken.add(name)
        wanted = name if whole else self.fresh(f"{name}/{part[0]}:{part[1]}")
        made = self.join(joined, wanted, axis)
        pieces.append((part, made))
        return made

    def _part(self, part: Part, pieces: Iterable[Range]) -> None:
        """A node, once for each of its pieces."""
        for made in pieces:
            rule = part.rule
            if rule is None:
                tracks = self.flow.tracks
                self.copy(part.node, {n: self.read(n, (0, tracks[n].length)) for n in part.reads if n in tracks})
                self._taken.update(part.outputs)
                continue
            node = deepcopy(part.node)
            part_read = rule.reads(made)
            for k in rule.inputs:
                node.input[k] = self.read(part.node.input[k], part_read)
            whole = rule.ends or made == (0, rule.track.length)
            if not whole or part_read != (0, self.flow.tracks[part.node.input[rule.inputs[0]]].length):
                rule.fit(node, made, self)
            side = "left" if made[0] == 0 else "right"
            for k, name in enumerate(node.output):
                if whole:
                    self._taken.add(name)
                elif name:  # unread ones too: ONNX Runtime crashes where a Split lacks one
                    node.output[k] = self.fresh(f"{name}/{side}")
                if not rule.ends and name:
                    self._pieces.setdefault(name, []).append((made, node.output[k]))
                    if not whole and made[1] == rule.track.length:
                        self._begin_state(name)
            if not whole:
                node.name = self.fresh(f"{part.name}/{side}")
            self._nodes.append(node)

    def _begin_state(self, name: str) -> None:
        """The state as an input, where the tensor has one."""
        if name in self.layout.states:
            low, high = self.layout.states[name]
            self._held[name] = self.begin_state(name, high - low)
            self._pieces[name].insert(0, ((low, high), self._held[name]))


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Let a node, and what its bodies capture, read tensors of other names."""
    node.input[:] = [names.get(name, name) for name in node.input]
    for body in bodies(node):
        made = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
        made |= {name for inner in body.node for name in inner.output}
        seen = {old: new for old, new in names.items() if old not in made}
        for inner in body.node:
            _rename(inner, seen)
        for value in body.output:
            value.name = seen.get(value.name, value.name)


def _needed(nodes: list[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """The nodes that something wanted depends on, in order."""
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= consumed(node)
    return kept[::-1]
