"""Pad with computed pads -> Pad with constant pads, where the arithmetic rests on constants and static shapes.

PyTorch's TorchScript exporter computes even static pads at run time (Constant, ConstantOfShape, Concat, Reshape,
Slice, Transpose, Cast); shapes behind such a Pad stay unknown, and runtimes refuse it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.model_file import Model
from aarewrite.model.runtime import open_session
from aarewrite.model.shapes import Shapes
from aarewrite.model.types import Array, Node, Tensor
from aarewrite.passes.contract import GraphPass, Rewritten
from aarewrite.sites.reading import Reading

LARGEST_CHAIN = 64  # nodes; an exporter's pad arithmetic has about ten


class FoldPadding(GraphPass):
    """Computed pads -> constant pads."""

    def apply(self, reading: Reading, rewritten: Sequence[Rewritten]) -> int:
        """Fold every Pad of the main graph whose pads are computed and can be known now."""
        editor, main = reading.editor, reading.main
        folded = 0
        for node in [node for node in main.nodes if node.op == "Pad" and len(node.inputs) > 1]:
            if _written_down(node.inputs[1]):
                continue
            chain = _constant_chain(editor, reading.shapes, main, node.inputs[1])
            value = _evaluate(editor, reading.shapes, main, chain, node.inputs[1]) if chain else None
            if value is None:
                continue
            editor.set_input(node, 1, editor.constant(main, f"{node.name}/pads", value, onnx.TensorProto.INT64))
            for dead in reversed(chain):
                if not any(output.outputs or main.is_output(output) for output in dead.outputs):
                    editor.remove(main, dead)
            folded += 1
        return folded


def _written_down(tensor: Tensor) -> bool:
    """Whether a tensor is an initializer or a Constant node as it is."""
    return not tensor.inputs or tensor.inputs[0].op == "Constant"


def _constant_chain(editor: GraphEditor, shapes: Shapes, scope: Scope, tensor: Tensor) -> list[Node]:
    """The nodes that compute `tensor` from constants and static shapes, in graph order; [] if others are needed."""
    wanted, pending = {id(tensor): tensor}, [tensor]
    members: set[int] = set()
    while pending:
        current = pending.pop()
        if editor.is_constant(current) and not current.inputs:
            continue
        if not current.inputs or len(members) > LARGEST_CHAIN:
            return []
        node = current.inputs[0]
        members.add(id(node))
        if _static_shape(shapes, scope, node) is not None:
            continue
        if any(True for _ in node.subgraphs()) or editor.source_proto(scope, node) is None:
            return []
        for source in node.inputs:
            if source.name and id(source) not in wanted:
                wanted[id(source)] = source
                pending.append(source)
    return [node for node in scope.nodes if id(node) in members]


def _static_shape(shapes: Shapes, scope: Scope, node: Node) -> list[int] | None:
    if node.op != "Shape" or node.attrs:
        return None
    dims = shapes.of(scope, node.inputs[0]).dims
    if dims is None or not all(isinstance(d, int) for d in dims):
        return None
    return [int(d) for d in dims if d is not None]


def _evaluate(editor: GraphEditor, shapes: Shapes, scope: Scope, chain: list[Node], result: Tensor) -> Array | None:
    proto = onnx.ModelProto(ir_version=editor.model.proto.ir_version)
    proto.opset_import.extend(editor.model.proto.opset_import)
    proto.graph.name = "pads"
    for node in chain:
        static = _static_shape(shapes, scope, node)
        source = editor.source_proto(scope, node)
        if static is not None:
            value = onnx.numpy_helper.from_array(np.array(static, dtype=np.int64))
            proto.graph.node.append(onnx.helper.make_node("Constant", [], [node.outputs[0].name], value=value))
        elif source is not None:
            proto.graph.node.append(source)
    produced = {name for node in proto.graph.node for name in node.output}
    needed = {name for node in proto.graph.node for name in node.input} - produced
    initializers = editor.model.proto.graph.initializer
    proto.graph.initializer.extend(tensor for tensor in initializers if tensor.name in needed)
    proto.graph.output.append(onnx.ValueInfoProto(name=result.name))
    try:
        session = open_session(Model(proto, editor.model.weights, editor.model.folder))
        return np.asarray(session.run(None, {})[0])
    except Exception:  # arithmetic that ONNX Runtime cannot do stays in the graph
        return None
