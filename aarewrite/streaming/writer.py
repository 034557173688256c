"""The streaming graph, written anew: the one place of this floor that makes a graph.

The source is left as it is. A node is written once for each of its pieces; what is read of a tensor is cut out of its
pieces and its state and joined. Tensors that are whole keep their names, and so do inputs and outputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy

import numpy as np
import onnx

from aarewrite.model.external import bodies, graphs, nodes
from aarewrite.model.graph import OLDEST_IR_WITH_FREE_INITIALIZERS
from aarewrite.model.index import consumed
from aarewrite.model.model_file import Model
from aarewrite.model.types import Array
from aarewrite.options import Json
from aarewrite.streaming.flow import Flow, Part, sizes
from aarewrite.streaming.layout import Layout
from aarewrite.streaming.sliding import END, SLICE_INPUTS_SINCE
from aarewrite.streaming.tracks import Range

METADATA_KEY = "aarewrite.stream"


class Writer:
    """Writes the graph of one step."""

    def __init__(self, flow: Flow, layout: Layout, step: int) -> None:
        self.flow, self.layout, self.step = flow, layout, step
        self.opset = flow.source.opset
        proto = flow.source.proto
        self._names = {tensor.name for graph in graphs(proto) for tensor in graph.initializer}
        self._names |= {value.name for graph in graphs(proto) for value in graph.input}
        for node in nodes(proto):
            self._names.update((node.name, *node.output))
        self._taken = set(flow.inputs)  # names of the source's tensors that stand for something
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[tuple[int, ...], bytes], str] = {}
        self._new: list[onnx.TensorProto] = []
        self._pieces: dict[str, list[tuple[Range, str]]] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self.states: dict[str, str] = {}

    def write(self, more: Json) -> Model:
        """The streaming model; `more` goes into its metadata beside window, step and states."""
        flow, source = self.flow, self.flow.source
        for name in flow.inputs:
            self._pieces[name] = [((flow.window - self.step, flow.window), name)]
            self._begin_state(name)
        parts = {id(part.node): k for k, part in enumerate(flow.parts)}
        for node in source.nodes:
            k = parts.get(id(node))
            if k is None:
                self._nodes.append(deepcopy(node))  # makes a constant; dropped below where nobody reads it
            elif k in self.layout.pieces:
                self._part(flow.parts[k], self.layout.pieces[k])
        for name in source.outputs:
            if name in flow.tracks and (found := self.read(name, (0, flow.tracks[name].length))) != name:
                self._nodes.append(onnx.helper.make_node("Identity", [found], [name], name=self._fresh(f"{name}/out")))
        for name in self.layout.states:
            self._end_state(name)
        return self._model(more)

    def constant(self, name: str, value: Array) -> str:
        """The name of a constant with this value, one for all that are equal."""
        key = value.shape, value.tobytes()
        if key not in self._constants:
            self._constants[key] = fresh = self._fresh(name)
            self._new.append(onnx.numpy_helper.from_array(value, fresh))
        return self._constants[key]

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
            joined.append(self._cut(name, tensor, axis, (position - low, end - low), high - low))
            position = end
        if len(joined) == 1:
            made = joined[0]
        else:
            whole = part == (0, self.flow.tracks[name].length) and name not in self._taken
            made = self._own(name) if whole else self._fresh(f"{name}/{part[0]}:{part[1]}")
            self._nodes.append(onnx.helper.make_node("Concat", joined, [made], name=self._fresh(made), axis=axis))
        pieces.append((part, made))
        return made

    def _cut(self, name: str, tensor: str, axis: int, part: Range, length: int) -> str:
        """A range of a piece; the piece itself where it is all of it."""
        if part == (0, length):
            return tensor
        cut = self._fresh(f"{tensor}/{part[0]}:{part[1]}")
        low, high = [part[0]], [END if part[1] == length else part[1]]
        if self.opset < SLICE_INPUTS_SINCE:
            node = onnx.helper.make_node("Slice", [tensor], [cut], name=cut, starts=low, ends=high, axes=[axis])
        else:
            numbers = [self.constant(f"{name}/{k}", np.array(k, np.int64)) for k in (low, high, [axis])]
            node = onnx.helper.make_node("Slice", [tensor, *numbers], [cut], name=cut)
        self._nodes.append(node)
        return cut

    def _part(self, part: Part, pieces: Iterable[Range]) -> None:
        """A node, once for each of its pieces."""
        for made in pieces:
            rule = part.rule
            node = deepcopy(part.node)
            if rule is None:
                wholes = {n: self.read(n, (0, self.flow.tracks[n].length)) for n in part.reads if n in self.flow.tracks}
                _rename(node, wholes)
                self._nodes.append(node)
                self._taken.update(part.outputs)
                continue
            part_read = rule.reads(made)
            for k in rule.inputs:
                node.input[k] = self.read(part.node.input[k], part_read)
            whole = rule.ends or made == (0, rule.track.length)
            if not whole or part_read != (0, self.flow.tracks[part.node.input[rule.inputs[0]]].length):
                rule.fit(node, made, self)
            read = self.flow.source.readers.keys() | set(self.flow.source.outputs)
            for k, name in enumerate(node.output):
                if whole:
                    self._taken.add(name)
                elif name in read:
                    node.output[k] = self._fresh(f"{name}/{'left' if made[0] == 0 else 'right'}")
                else:
                    node.output[k] = ""
                if not rule.ends and name:
                    self._pieces.setdefault(name, []).append((made, node.output[k]))
                    if (made[1], whole) == (rule.track.length, False):
                        self._begin_state(name)
            if not whole:
                node.name = self._fresh(f"{part.name}/{'left' if made[0] == 0 else 'right'}")
            while node.output and not node.output[-1]:
                del node.output[-1]
            self._nodes.append(node)

    def _begin_state(self, name: str) -> None:
        """The state as an input, where the tensor has one."""
        if name in self.layout.states:
            low, high = self.layout.states[name]
            state = self._fresh(f"{name}/state")
            self._pieces[name].insert(0, ((low, high), state))
            kind = self.flow.source.types[name].dtype
            shape = sizes(self.flow, name, high - low)
            self._inputs.append(onnx.helper.make_tensor_value_info(state, kind, shape))
            self.states[state] = after = self._fresh(f"{state}/next")
            self._outputs.append(onnx.helper.make_tensor_value_info(after, kind, shape))

    def _end_state(self, name: str) -> None:
        """The state's next value: what it holds in the window that has moved on."""
        low, high = self.layout.states[name]
        moved = int(self.flow.tracks[name].moved(self.step))
        state = next(tensor for part, tensor in self._pieces[name] if part == (low, high))
        after = self.states[state]
        found = self.read(name, (low + moved, high + moved))
        self._nodes.append(onnx.helper.make_node("Identity", [found], [after], name=after))

    def _model(self, more: Json) -> Model:
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
        graph.node.extend(_needed(self._nodes, {value.name for value in graph.output}))
        read = {name for node in graph.node for name in consumed(node)} | {value.name for value in graph.output}
        unread = {tensor.name for tensor in graph.initializer} - read
        for tensor in [tensor for tensor in graph.initializer if tensor.name in unread]:
            graph.initializer.remove(tensor)
        for value in [value for value in graph.input if value.name in unread]:
            graph.input.remove(value)
        record = {
            "input": self.flow.input, "axis": self.flow.inputs[self.flow.input], "window": self.flow.window,
            "step": self.step, **more, "states": self.states,
        }  # fmt: skip
        present = {entry.key: entry for entry in proto.metadata_props}
        (present.get(METADATA_KEY) or proto.metadata_props.add(key=METADATA_KEY)).value = json.dumps(record)
        return source.model.with_proto(proto)

    def _own(self, name: str) -> str:
        self._taken.add(name)
        return name

    def _fresh(self, wanted: str) -> str:
        name, k = wanted, 0
        while name in self._names:
            k += 1
            name = f"{wanted}_{k}"
        self._names.add(name)
        return name


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
