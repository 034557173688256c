"""A float32 copy of a model in bfloat16 or float64, where ONNX Runtime's CPU provider cannot run it."""

from __future__ import annotations

import numpy as np
import onnx

from aarewrite.model.external import graphs, is_external, is_stub, nested_tensors, nodes, read_in
from aarewrite.model.model_file import Model

FLOAT = onnx.TensorProto.FLOAT
REPLACED = (onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)


def in_float32(model: Model) -> Model:
    """The model with every bfloat16 and float64 tensor in float32; the model itself if it has none."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.readable)
    weights = dict(model.weights)
    changed = False
    for tensor in (*proto.graph.initializer, *nested_tensors(proto)):
        if tensor.data_type in REPLACED:
            changed = True
            if is_stub(tensor):
                array = np.frombuffer(weights[tensor.name], onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
                weights[tensor.name] = array.astype(np.float32).tobytes()
                tensor.data_type = FLOAT
                next(e for e in tensor.external_data if e.key == "length").value = str(len(weights[tensor.name]))
                continue
            if is_external(tensor):
                read_in(tensor, model.folder)
            array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for graph in graphs(proto):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type in REPLACED:
                value.type.tensor_type.elem_type = FLOAT
                changed = True
    for node in nodes(proto):
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype", "output_dtype") and attribute.i in REPLACED:
                attribute.i = FLOAT
                changed = True
    return Model(proto, weights, model.folder, model.path) if changed else model
