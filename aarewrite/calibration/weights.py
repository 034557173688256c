"""A layer's weights as matrices, and back into the model in the layer's own layout and type."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from aarewrite.calibration.equations import F64
from aarewrite.calibration.layers import Layer
from aarewrite.model.index import Constants, attributes
from aarewrite.model.types import Array, DType


def read_weights(model: onnx.ModelProto, layer: Layer) -> tuple[F64, F64]:
    """The layer as y = x W + b: W (groups, inputs, outputs) and b (groups, outputs), zero where there is none."""
    constants = Constants(model)
    values = attributes(model.graph.node[layer.index])
    stored = constants.array(layer.weight).astype(np.float64)
    if layer.kind == "Conv":
        weight = stored.reshape(layer.group, stored.shape[0] // layer.group, -1).transpose(0, 2, 1)
    elif layer.kind == "Gemm":
        weight = (stored.T if values.get("transB", 0) else stored)[None] * values.get("alpha", 1.0)
    else:
        weight = stored[None]
    groups, _, outputs = weight.shape
    bias = np.zeros((groups, outputs))
    if layer.bias:
        bias = constants.array(layer.bias).astype(np.float64).reshape(groups, outputs)
        bias = bias * (values.get("beta", 1.0) if layer.kind == "Gemm" else 1.0)
    return np.ascontiguousarray(weight), bias


def write_weights(model: onnx.ModelProto, layer: Layer, weight: F64, bias: F64) -> None:
    """Store new weights in place; the bias gets a constant of its own, since equal biases are often shared."""
    constants = Constants(model)
    tensor = constants.tensor(layer.weight)
    shape, dtype = tuple(tensor.dims), numpy_helper.to_array(tensor).dtype
    node = model.graph.node[layer.index]
    values = attributes(node)
    if layer.kind == "Conv":
        weight = weight.transpose(0, 2, 1)
    elif layer.kind == "Gemm":
        weight = weight[0] / values.get("alpha", 1.0)
        weight = weight.T if values.get("transB", 0) else weight
        bias = bias / values.get("beta", 1.0)
    _store(tensor, weight.reshape(shape), dtype)
    if layer.bias_node >= 0:
        _write_bias(model, constants, layer, bias, dtype)


def _write_bias(model: onnx.ModelProto, constants: Constants, layer: Layer, bias: F64, dtype: DType) -> None:
    nodes = [model.graph.node[place] for place in (layer.bias_node, *layer.bias_copies)]
    taken = {tensor.name for tensor in model.graph.initializer} | {n for one in model.graph.node for n in one.output}
    name = f"{layer.weight}/bias"
    while name in taken:
        name += "_"
    tensor = onnx.TensorProto(name=name)
    _store(tensor, bias.reshape(tuple(constants.tensor(layer.bias).dims) if layer.bias else (bias.size,)), dtype)
    old = ""
    for node in nodes:
        if layer.bias:
            place = next(i for i, read in enumerate(node.input) if constants.source(read) == layer.bias)
            old, node.input[place] = node.input[place], name
        elif len(node.input) > 2:
            node.input[2] = name
        else:
            node.input.append(name)
    if (
        old
        and not any(old in one.input for one in model.graph.node)
        and old not in {v.name for v in model.graph.output}
    ):
        for place, initializer in enumerate(model.graph.initializer):
            if initializer.name == old:  # nothing reads it any more: the new one takes its place and name
                model.graph.initializer[place].CopyFrom(tensor)
                model.graph.initializer[place].name = old
                for node in nodes:
                    node.input[list(node.input).index(name)] = old
                return
    model.graph.initializer.append(tensor)


def _store(tensor: onnx.TensorProto, value: Array, dtype: DType) -> None:
    name, doc = tensor.name, tensor.doc_string
    limit = np.finfo(dtype).max
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(np.clip(value, -limit, limit), dtype=dtype), name))
    if doc:
        tensor.doc_string = doc
