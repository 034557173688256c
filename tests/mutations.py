"""Models changed at random, seeded: what a careless exporter, a broken disk or an adversary might hand over.

A mutant is mostly a model of which one to three things are wrong; some are broken as bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx

from aarewrite.model.external import graphs, nodes

Random = np.random.Generator
NUMBERS = (0, 1, 2, 3, 5, 7, 64, 1000, -1, -2, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
NAMES = ("", "x", "y", "\x1b[2J", "a/b", "\u202e", "n" * 3000)
OPERATORS = (
    "Conv", "MaxPool", "AveragePool", "LpPool", "ConvTranspose", "Relu", "Add", "Concat", "Reshape", "Transpose",
    "Slice", "Resize", "Pad", "Gather", "Identity", "Cast", "Constant", "Expand", "Tile", "QuantizeLinear",
    "DequantizeLinear",
    "QLinearConv", "BatchNormalization", "GlobalAveragePool", "Split", "If", "Loop", "Scan", "DepthToSpace", "STFT",
    "NonMaxSuppression", "RandomNormal", "MatMul", "Gemm", "Softmax", "Shape", "ConstantOfShape", "Upsample", "Mine",
)  # fmt: skip


def mutant(data: bytes, seed: Sequence[int] | int, most: int = 3, torn: float = 0.15) -> bytes:
    """The file of a model with something wrong, the same for the same seed: at `most` so many changes, or, of a share,
    `torn` bytes."""
    rng = np.random.default_rng(seed)
    if rng.random() < torn:
        return _torn(data, rng)
    model = onnx.ModelProto.FromString(data)
    for _ in range(rng.integers(1, most + 1)):
        _pick(rng, CHANGES)(model, rng)
    return bytes(model.SerializeToString())


def _pick(rng: Random, values: Sequence[Callable[[onnx.ModelProto, Random], None]]) -> Callable[..., None]:
    return values[rng.integers(len(values))]


def _one(rng: Random, values: object) -> object:
    listed = list(values)  # type: ignore[call-overload]
    return listed[rng.integers(len(listed))] if listed else None


def _torn(data: bytes, rng: Random) -> bytes:
    content = bytearray(data)
    kind = rng.integers(4)
    if kind == 0:
        return bytes(content[: rng.integers(len(content) + 1)])
    if kind == 1:
        for place in rng.integers(0, len(content), rng.integers(1, 9)):
            content[place] ^= 1 << rng.integers(8)
        return bytes(content)
    start, stop = sorted(rng.integers(0, len(content) + 1, 2))
    if kind == 2:
        del content[start : min(stop, start + 40)]
        return bytes(content)
    return bytes(content[:stop] + content[start : start + 200] + content[stop:])


def _attribute(model: onnx.ModelProto, rng: Random) -> None:
    node = _one(rng, [node for node in nodes(model) if node.attribute])
    if node is None:
        return
    attribute = _one(rng, node.attribute)
    kind = rng.integers(7)
    if kind == 0:
        node.attribute.remove(attribute)
    elif kind == 1:
        attribute.type = int(rng.integers(0, 15))
    elif kind == 2:
        attribute.name = str(_one(rng, ("pads", "strides", "auto_pad", "axis", "to", "kernel_shape", "group", "mode")))
    elif kind == 3:
        node.attribute.add().CopyFrom(attribute)
    elif kind == 4:
        attribute.i = int(_one(rng, NUMBERS))
        attribute.s, attribute.f = _one(rng, (b"", b"SAME_UPPER", b"VALID", b"\xff\xfe", b"reflect")), float("nan")
    elif attribute.ints and kind == 5:
        attribute.ints[rng.integers(len(attribute.ints))] = int(_one(rng, NUMBERS))
    else:
        attribute.ints[:] = [int(_one(rng, NUMBERS)) for _ in range(rng.integers(0, 6))]


def _operator(model: onnx.ModelProto, rng: Random) -> None:
    node = _one(rng, nodes(model))
    if node is not None and rng.random() < 0.7:
        node.op_type = str(_one(rng, OPERATORS))
    elif node is not None:
        node.domain = str(_one(rng, ("", "ai.onnx", "com.microsoft", "ai.onnx.ml", "f", "\x1b")))


def _wiring(model: onnx.ModelProto, rng: Random) -> None:
    graph = _one(rng, graphs(model))
    node = _one(rng, graph.node)
    if node is None:
        return
    names = [name for other in graph.node for name in (*other.input, *other.output)]
    ends = node.input if rng.random() < 0.7 else node.output
    kind = rng.integers(4)
    if kind == 0 and ends:
        ends[rng.integers(len(ends))] = str(_one(rng, names))
    elif kind == 1 and ends:
        del ends[rng.integers(len(ends))]
    elif kind == 2:
        ends.append(str(_one(rng, names)))
    elif ends:
        ends[rng.integers(len(ends))] = str(_one(rng, NAMES))


def _order(model: onnx.ModelProto, rng: Random) -> None:
    graph = _one(rng, graphs(model))
    if not graph.node:
        return
    kind, place = rng.integers(3), int(rng.integers(len(graph.node)))
    if kind == 0:
        del graph.node[place]
    elif kind == 1:
        graph.node.add().CopyFrom(graph.node[place])
    else:
        shuffled = [
            onnx.NodeProto.FromString(graph.node[k].SerializeToString()) for k in rng.permutation(len(graph.node))
        ]
        del graph.node[:]
        graph.node.extend(shuffled)


def _sizes(model: onnx.ModelProto, rng: Random) -> None:
    graph = _one(rng, graphs(model))
    value = _one(rng, [*graph.input, *graph.output, *graph.value_info])
    if value is None:
        return
    kind, dims = rng.integers(6), value.type.tensor_type.shape.dim
    if kind == 0:
        value.type.tensor_type.elem_type = int(rng.integers(0, 30))
    elif kind == 1:
        value.type.tensor_type.ClearField("shape")
    elif kind == 2:
        value.ClearField("type")
    elif kind == 3:
        value.name = str(_one(rng, NAMES))
    elif dims:
        dim = _one(rng, dims)
        if rng.random() < 0.7:
            dim.dim_value = int(_one(rng, NUMBERS))
        else:
            dim.dim_param = str(_one(rng, NAMES))


def _tensor(model: onnx.ModelProto, rng: Random) -> None:
    graph = _one(rng, graphs(model))
    tensor = _one(rng, graph.initializer)
    if tensor is None:
        return
    kind = rng.integers(8)
    if kind == 0 and tensor.dims:
        tensor.dims[rng.integers(len(tensor.dims))] = int(_one(rng, NUMBERS))
    elif kind == 1:
        tensor.data_type = int(rng.integers(0, 30))
    elif kind == 2:
        tensor.raw_data = tensor.raw_data[: rng.integers(len(tensor.raw_data) + 1)]
    elif kind == 3:
        graph.initializer.add().CopyFrom(tensor)
    elif kind == 4:
        graph.initializer.remove(tensor)
    elif kind == 5:
        tensor.name = str(_one(rng, NAMES))
    elif kind == 6:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key in ("location", "offset", "length"):
            tensor.external_data.add(
                key=key, value=str(_one(rng, ("w.bin", "../w.bin", "/dev/zero", "0", "-1", "9" * 25)))
            )
    else:
        values = np.frombuffer(tensor.raw_data[: len(tensor.raw_data) // 4 * 4], np.float32).copy()
        if values.size:
            values[rng.integers(values.size)] = float(_one(rng, (np.nan, np.inf, -np.inf, 1e38, 0)))
            tensor.raw_data = values.tobytes()


def _header(model: onnx.ModelProto, rng: Random) -> None:
    kind = rng.integers(5)
    if kind == 0 and model.opset_import:
        model.opset_import[0].version = int(_one(rng, (0, 1, 6, 7, 9, 10, 11, 13, 17, 18, 19, 21, 22, 23, 99, -1)))
    elif kind == 1:
        model.ir_version = int(_one(rng, (0, 1, 3, 4, 8, 10, 99, -1)))
    elif kind == 2:
        del model.opset_import[:]
    elif kind == 3:
        model.metadata_props.add(key="aarewrite.blurs", value=str(_one(rng, ("{", "[]", '{"a": 1}', "[" * 9999))))
    else:
        function = model.functions.add(name="F", domain="f", input=["x"], output=["y"])
        function.node.add(op_type=str(_one(rng, ("F", *OPERATORS))), domain="f", input=["x"], output=["y"])
        function.opset_import.add(domain="", version=13)
        model.opset_import.add(domain="f", version=1)
        _operator(model, rng)


def _twice(model: onnx.ModelProto, rng: Random) -> None:
    values = _one(rng, (model.graph.input, model.graph.output))
    if values and rng.random() < 0.5:
        values.add().CopyFrom(_one(rng, values))
    elif values:
        values.remove(_one(rng, values))


CHANGES = (
    _attribute,
    _attribute,
    _attribute,
    _operator,
    _wiring,
    _wiring,
    _order,
    _sizes,
    _sizes,
    _tensor,
    _header,
    _twice,
)
