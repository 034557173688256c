"""A float32 copy of a model in bfloat16 or float64, where ONNX Runtime's CPU provider cannot run it."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import onnx

from aarewrite.model.external import graphs, is_stub, nested_tensors, nodes
from aarewrite.model.model_file import Model

FLOAT = onnx.TensorProto.FLOAT
REPLACED = (onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)


def in_float32(model: Model) -> Model:
    """The model with every bfloat16 and float64 tensor in float32; the model itself if it has none."""
    proto, weights = deepcopy(model.readable), dict(model.weights)
    replaced = [t for t in (*proto.graph.initializer, *nested_tensors(proto)) if t.data_type in REPLACED]
    for tensor in replaced:
        array = model.array(tensor).astype(np.float32)
        if is_stub(tensor):
            weights[tensor.name], tensor.data_type = array.tobytes(), FLOAT
            next(e for e in tensor.external_data if e.key == "length").value = str(array.nbytes)
        else:
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    values = [value for graph in graphs(proto) for value in (*graph.input, *graph.output, *graph.value_info)]
    types = [v.type.tensor_type for v in values if v.type.tensor_type.elem_type in REPLACED]
    for kind in types:
        kind.elem_type = FLOAT
    attributes = [a for node in nodes(proto) for a in node.attribute if a.name in ("to", "dtype", "output_dtype")]
    casts = [attribute for attribute in attributes if attribute.i in REPLACED]
    for cast in casts:
        cast.i = FLOAT
    return Model(proto, weights, model.folder, model.path) if replaced or types or casts else model
