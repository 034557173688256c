"""A float32 copy of a model in bfloat16 or float64, where ONNX Runtime's CPU provider cannot run it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import numpy as np
import onnx

from aarewrite.model.external import graphs, is_stub, nested_tensors, nodes
from aarewrite.model.inference import infer
from aarewrite.model.model_file import Model, opset_of

Types = Mapping[str, int]  # element type by name of the tensor

FLOAT = onnx.TensorProto.FLOAT
REPLACED = (onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)


def in_float32(model: Model) -> Model:
    """The model with every bfloat16 and float64 tensor in float32; the model itself if it has none."""
    proto, weights = deepcopy(model.readable), dict(model.weights)
    replaced = [t for t in (*proto.graph.initializer, *nested_tensors(proto)) if t.data_type in REPLACED]
    for tensor in replaced:
        with np.errstate(over="ignore"):  # what is too large is infinite, which the proof then says
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


def types_agree(model: Model) -> bool:
    """Whether no operator of the main graph takes or gives tensors of two types where ONNX wants one. Where they agree,
    a runtime that has no kernel for a type is all that a float32 copy can mend."""
    graph, opset = infer(model.readable).graph, opset_of(model.proto.opset_import)
    infos = (*graph.input, *graph.output, *graph.value_info)
    types = {info.name: info.type.tensor_type.elem_type for info in infos}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return not any(_mixes(node, opset, types) for node in graph.node)


def _mixes(node: onnx.NodeProto, opset: int, types: Types) -> bool:
    """Whether a node's tensors have two types where its schema has one name for them."""
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return False
    found: dict[str, int] = {}
    for formal, names in ((schema.inputs, node.input), (schema.outputs, node.output)):
        for place, name in enumerate(names):
            parameter = formal[min(place, len(formal) - 1)]  # the last one of a variadic operator stands for the rest
            dtype = types.get(name, 0) if parameter.is_homogeneous else 0
            if dtype and found.setdefault(parameter.type_str, dtype) != dtype:
                return True
    return False
