"""A float32 copy of a model in bfloat16 or float64, where ONNX Runtime's CPU provider cannot run it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx

from aarewrite.model.external import is_external, is_stub, read_in
from aarewrite.model.model_file import Model

FLOAT = onnx.TensorProto.FLOAT
REPLACED = (onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)


def in_float32(model: Model) -> Model:
    """The model with every bfloat16 and float64 tensor in float32; the model itself if it has none."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.readable)
    weights = dict(model.weights)
    changed = False
    for tensor in proto.graph.initializer:
        if is_external(tensor) and tensor.data_type in REPLACED:
            read_in(tensor, model.folder)
        if is_stub(tensor) and tensor.data_type in REPLACED:
            array = np.frombuffer(weights[tensor.name], onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
            weights[tensor.name] = array.astype(np.float32).tobytes()
            tensor.data_type = FLOAT
            for entry in tensor.external_data:
                if entry.key == "length":
                    entry.value = str(len(weights[tensor.name]))
            changed = True
    changed |= _convert_graph(proto.graph)
    for function in proto.functions:
        changed |= _convert_nodes(function.node)
    if not changed:
        return model
    return Model(proto, weights, model.folder, model.path)


def _convert_graph(graph: onnx.GraphProto) -> bool:
    changed = False
    for tensor in graph.initializer:
        changed |= not is_stub(tensor) and _convert_tensor(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in REPLACED:
            value.type.tensor_type.elem_type = FLOAT
            changed = True
    return _convert_nodes(graph.node) or changed


def _convert_nodes(nodes: Iterable[onnx.NodeProto]) -> bool:
    changed = False
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                changed |= _convert_tensor(attribute.t)
            elif attribute.type == onnx.AttributeProto.GRAPH:
                changed |= _convert_graph(attribute.g)
            elif attribute.name in ("to", "dtype", "output_dtype") and attribute.i in REPLACED:
                attribute.i = FLOAT
                changed = True
    return changed


def _convert_tensor(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type not in REPLACED:
        return False
    array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return True
