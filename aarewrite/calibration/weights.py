"""A layer's weights as matrices, and back into the model in the layer's own layout and type."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from aarewrite.calibration.equations import F64
from aarewrite.calibration.layers import Layer
from aarewrite.model.index import Constants, attributes, consumed
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
    """Store new weights in place, and the bias, which equal layers often share, in a constant of its own."""
    tensor = Constants(model).tensor(layer.weight)
    dtype = numpy_helper.to_array(tensor).dtype
    values = attributes(model.graph.node[layer.index])
    if layer.kind == "Conv":
        weight = weight.transpose(0, 2, 1)
    elif layer.kind == "Gemm":
        weight = weight[0] / values.get("alpha", 1.0)
        weight = weight.T if values.get("transB", 0) else weight
        bias = bias / values.get("beta", 1.0)
    _store(tensor, weight.reshape(tuple(tensor.dims)), dtype)
    if layer.bias_nodes:
        _write_bias(model, layer, bias, dtype)


def _write_bias(model: onnx.ModelProto, layer: Layer, bias: F64, dtype: DType) -> None:
    graph, constants = model.graph, Constants(model)
    slots = [(graph.node[place], 2) for place in layer.bias_nodes]
    shape = [bias.size]
    if layer.bias:
        shape = list(constants.tensor(layer.bias).dims)
        sources = [(node, [constants.source(name) for name in node.input]) for node, _ in slots]
        slots = [(node, names.index(layer.bias)) for node, names in sources]
    names = {node.input[slot] for node, slot in slots if slot < len(node.input)}
    readers = [node for node in graph.node if names & consumed(node)]
    kept = [tensor for tensor in graph.initializer if tensor.name in names]
    shared = len(readers) > len(slots) or names & {value.name for value in graph.output}
    if len(names) == len(kept) == 1 and not shared:
        tensor = kept[0]
    else:
        taken = {tensor.name for tensor in graph.initializer} | {name for one in graph.node for name in one.output}
        tensor = graph.initializer.add(name=f"{layer.weight}/bias")
        while tensor.name in taken:
            tensor.name += "_"
    _store(tensor, bias.reshape(shape), dtype)
    for node, slot in slots:
        node.input[slot:] = [tensor.name, *node.input[slot + 1 :]]


def _store(tensor: onnx.TensorProto, value: Array, dtype: DType) -> None:
    limit = np.finfo(dtype).max
    stored = numpy_helper.from_array(np.clip(value, -limit, limit).astype(dtype), tensor.name)
    if tensor.doc_string:
        stored.doc_string = tensor.doc_string
    tensor.CopyFrom(stored)
