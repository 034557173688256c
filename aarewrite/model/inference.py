"""onnx's shape inference, told what it does not know and put right where ONNX Runtime's arithmetic is another.

1. Domain "ai.onnx" is another name of "": inference stops at a node that is written with it.
2. It stops at ONNX Runtime's own operators (com.microsoft) too: those of `STAND_INS` are shown to it as operators of
   ONNX that give the same sizes and element type.
3. Below opset 22 it counts a last window of a `ceil_mode` pool that begins in the padding, which ONNX Runtime drops:
   such a pool is shown to it with the pads that give ONNX Runtime's size, and what the file states behind it is not
   heard.
4. A window larger than its map (or a Pad that takes more than there is) gives it a size below zero, and at a Slice
   of that it ends the process. So Slices are shown to it once all in front of them has sizes that can be; where one
   cannot, nothing is inferred.
5. To propagate data it takes every 1-D tensor for a shape, also a signal of floats, with some 70 bytes an element and
   node. So it is asked to only where it leaves sizes open without, and those tensors are not too long.
6. What a file states of its tensors may be stale, of the input that it was exported with: it is heard where nothing is
   known without; but of spatial sizes the names alone where an input leaves more open than its batch.

All of this happens in a copy: what is returned has the model's own nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from copy import deepcopy

import onnx

from aarewrite.model.external import bodies, graphs, nodes, with_bodies
from aarewrite.model.types import ALIAS, DEFAULT_DOMAIN, MICROSOFT
from aarewrite.windows import Window, explicit

Sizes = dict[str, list[int]]  # spatial, by name of the tensor
Stated = dict[str, onnx.ValueInfoProto]
# operator of com.microsoft -> the operator of ONNX shown in its place, and which inputs that takes
STAND_INS = {
    "BiasGelu": ("Identity", slice(1)),
    "DequantizeLinear": ("DequantizeLinear", slice(3)),
    "FastGelu": ("Identity", slice(1)),
    "FusedConv": ("Conv", slice(3)),
    "Gelu": ("Identity", slice(1)),
    "QLinearAdd": ("Add", slice(0, 4, 3)),
    "QLinearAveragePool": ("AveragePool", slice(1)),
    "QLinearConcat": ("Concat", slice(2, None, 3)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", slice(1)),
    "QLinearLeakyRelu": ("Identity", slice(1)),
    "QLinearMul": ("Mul", slice(0, 4, 3)),
    "QLinearSigmoid": ("Identity", slice(1)),
    "QLinearSoftmax": ("Identity", slice(1)),
    "QuantizeLinear": ("QuantizeLinear", slice(3)),
    "QuickGelu": ("Identity", slice(1)),
}
POOLS = frozenset(("AveragePool", "LpPool", "MaxPool"))
INVENTED = "unk__"  # how names begin that inference gives to open sizes
HIDDEN = "aarewrite.hidden"  # the domain of what is not shown
MOST_ELEMENTS = 1 << 20  # of all 1-D tensors together, where data are propagated
MOST_SHOWN = 50_000  # nodes in all, while Slices are held back: seconds; models with longer chains of them go unchecked


def infer(proto: onnx.ModelProto, strict: bool = False) -> onnx.ModelProto:
    """The model with the types that shape inference gives, with data propagation as the module says; as it is where
    that fails, unless `strict`, which raises what onnx raises."""
    return _inferred(proto, strict)[0]


def unheard(proto: onnx.ModelProto) -> set[str]:
    """The tensors of which a file may state a size that ONNX Runtime does not give: those behind such pools."""
    return _inferred(proto, strict=False)[1] if any(map(_rounds_up, nodes(proto))) else set()


def _inferred(proto: onnx.ModelProto, strict: bool) -> tuple[onnx.ModelProto, set[str]]:
    shown, behind = _as_onnx_knows_it(proto, stand_ins=not strict), set[str]()
    pooled, own_nodes = any(map(_rounds_up, nodes(shown))), shown is proto
    try:
        shown, stated = (shown, []) if strict else _unstated(shown)
        while True:
            inferred = _propagated(shown, strict)
            if stated and _restate(inferred, stated, behind):
                inferred = _propagated(inferred, strict)
            found = [_too_large(graph, sizes) for graph, sizes in _scopes(inferred.graph, {})] if pooled else []
            if not any(found):
                return inferred if own_nodes else _with_types(proto, inferred), behind
            shown, own_nodes = deepcopy(shown), False
            for (graph, _), pools in zip(list(_scopes(shown.graph, {})), found, strict=True):
                behind |= _as_in_runtime(graph, pools)
    except Exception:  # the C++ side raises InferenceError, RuntimeError and others
        if strict:
            raise
        return proto, behind


def _unstated(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, list[Stated]]:
    """A copy that states nothing of what its nodes make, and for each of its graphs what it did and may be true."""
    bare, stated = deepcopy(proto), []
    behind_batch = [dim for info in proto.graph.input for dim in info.type.tensor_type.shape.dim[1:]]
    fixed = all(map(_has_size, behind_batch))
    for graph in graphs(bare):
        made = {name for node in graph.node for name in node.output}
        infos = [deepcopy(info) for info in (*graph.value_info, *graph.output) if info.name in made]
        for dim in (dim for info in infos for dim in info.type.tensor_type.shape.dim[2:] if not fixed):
            dim.ClearField("dim_value")
        stated.append({info.name: info for info in infos})
        forget(graph, made)
    return bare, stated


def _restate(inferred: onnx.ModelProto, stated: Sequence[Stated], unheard: Collection[str]) -> bool:
    """Put what was stated in where inference left a type or size open; whether there was any."""
    found = False
    for graph, infos in zip(graphs(inferred), stated, strict=True):
        known = {info.name: info for info in (*graph.value_info, *graph.output)}
        for name, info in infos.items():
            if name in unheard:
                continue
            if name not in known:
                graph.value_info.append(info)
                found = True
            elif known[name].type.WhichOneof("value") == "tensor_type":
                found |= _fill(known[name].type.tensor_type, info.type.tensor_type)
    for info in _infos(inferred) if found else ():
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param.startswith(INVENTED):  # which would be kept
                dim.Clear()
    return found


def _fill(own: onnx.TypeProto.Tensor, given: onnx.TypeProto.Tensor) -> bool:
    """Give a type the sizes and names that it leaves open; whether there was any."""
    if not given.HasField("shape"):
        return False
    if not own.HasField("shape"):
        own.shape.CopyFrom(given.shape)
        return True
    if len(own.shape.dim) != len(given.shape.dim):
        return False
    found = False
    for dim, other in zip(own.shape.dim, given.shape.dim, strict=True):
        named = bool(dim.dim_param) and not dim.dim_param.startswith(INVENTED)
        if not named and not _has_size(dim) and other.WhichOneof("value") is not None:
            dim.CopyFrom(other)
            found = True
    return found


def _propagated(proto: onnx.ModelProto, strict: bool = False) -> onnx.ModelProto:
    """What onnx infers, where no Slice of a map below zero is in its way."""
    if _below_zero(proto):
        raise ValueError("a size is below zero: a window is larger than its map")
    return _with_propagation(proto, strict)


def _with_propagation(proto: onnx.ModelProto, strict: bool = False) -> onnx.ModelProto:
    """onnx's inference, with data propagation where that is of use and not too large."""
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=strict)
    infos = list(_infos(inferred))
    stated = {info.name for info in infos}
    if all(map(_whole, infos)) and all(name in stated for node in nodes(inferred) for name in node.output if name):
        return inferred
    shapes = [info.type.tensor_type.shape.dim for info in infos]
    if sum(shape[0].dim_value for shape in shapes if len(shape) == 1) > MOST_ELEMENTS:
        return inferred
    return onnx.shape_inference.infer_shapes(proto, strict_mode=strict, data_prop=True)


def _whole(info: onnx.ValueInfoProto) -> bool:
    """Whether a tensor's shape is known to the last size."""
    tensor = info.type.tensor_type
    return tensor.HasField("shape") and all(map(_has_size, tensor.shape.dim))


def _has_size(dim: onnx.TensorShapeProto.Dimension) -> bool:
    return bool(dim.HasField("dim_value"))


def _infos(proto: onnx.ModelProto) -> Iterator[onnx.ValueInfoProto]:
    """What is stated of the tensors of all graphs."""
    for graph in graphs(proto):
        yield from (*graph.value_info, *graph.input, *graph.output)


def _below_zero(proto: onnx.ModelProto) -> bool:
    """Whether a size is below zero, found without showing a Slice of that."""
    if not any(map(_slices, nodes(proto))):
        return False
    held = deepcopy(proto)
    for imports in (held.opset_import, *(function.opset_import for function in held.functions)):
        imports.add(domain=HIDDEN, version=1)
    hidden = [node for node in nodes(held) if _slices(node)]
    for node in hidden:
        node.domain = HIDDEN
    budget = MOST_SHOWN
    while hidden and budget > 0:
        inferred = _with_propagation(held)
        infos = list(_infos(inferred))
        if any(dim.dim_value < 0 for info in infos for dim in info.type.tensor_type.shape.dim):
            return True
        known = {info.name for info in infos if info.type.tensor_type.HasField("shape")}
        known |= {tensor.name for graph in graphs(inferred) for tensor in graph.initializer}
        seen = [node for node in hidden if node.input and node.input[0] in known]
        for node in seen:
            node.domain = ""
        hidden = [node for node in hidden if node.domain] if seen else []  # of what is unknown no Slice has a size
        budget -= len(inferred.graph.node)
    return False


def _slices(node: onnx.NodeProto) -> bool:
    return node.op_type == "Slice" and node.domain in DEFAULT_DOMAIN


def _with_types(proto: onnx.ModelProto, inferred: onnx.ModelProto) -> onnx.ModelProto:
    """The model with what was inferred of a copy of it."""
    typed = deepcopy(proto)
    for (graph, _), (found, _) in zip(list(_scopes(typed.graph, {})), _scopes(inferred.graph, {}), strict=True):
        for own, types in ((graph.value_info, found.value_info), (graph.output, found.output)):
            del own[:]
            own.extend(types)
    return typed


def _as_onnx_knows_it(proto: onnx.ModelProto, stand_ins: bool) -> onnx.ModelProto:
    """A copy without the alias and with stand-ins; the model itself where it needs neither."""

    def unknown(node: onnx.NodeProto) -> bool:
        return node.domain == ALIAS or (stand_ins and node.domain == MICROSOFT and node.op_type in STAND_INS)

    if not any(map(unknown, nodes(proto))) and not any(one.domain == ALIAS for one in proto.opset_import):
        return proto
    proto = deepcopy(proto)
    for node in filter(unknown, nodes(proto)):
        if node.domain == MICROSOFT and not any(a.name == "channels_last" and a.i for a in node.attribute):
            node.op_type, taken = STAND_INS[node.op_type]
            node.input[:] = list(node.input)[taken]
            node.domain = ""
        elif node.domain == ALIAS:
            node.domain = ""
    for imports in (proto.opset_import, *(function.opset_import for function in proto.functions)):
        stated = {one.domain for one in imports}
        for one in imports:
            one.domain = "" if one.domain == ALIAS and "" not in stated else one.domain
    return proto


def _scopes(graph: onnx.GraphProto, around: Sizes) -> Iterator[tuple[onnx.GraphProto, Sizes]]:
    """A graph and those in the bodies of its nodes, each with the spatial sizes that are stated of what it sees."""
    infos = (*graph.value_info, *graph.input, *graph.output)
    sizes = around | {info.name: [d.dim_value for d in info.type.tensor_type.shape.dim[2:]] for info in infos}
    yield graph, sizes
    for node in graph.node:
        for body in bodies(node):
            yield from _scopes(body, sizes)


def _rounds_up(node: onnx.NodeProto) -> bool:
    """Whether a node is a pool whose last window may reach beyond the padding."""
    return (
        node.op_type in POOLS
        and node.domain in DEFAULT_DOMAIN
        and any(attribute.name == "ceil_mode" and attribute.i for attribute in node.attribute)
    )


def _too_large(graph: onnx.GraphProto, sizes: Sizes) -> dict[int, list[int]]:
    """The pools whose inferred size is not ONNX Runtime's: their place in an inferred graph, and the pads with which
    they give that size without `ceil_mode`."""
    found = {}
    for position, node in enumerate(graph.node):
        if not _rounds_up(node):
            continue
        before, after = sizes.get(node.input[0], []), sizes.get(node.output[0], [])
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        kernel = given.get("kernel_shape", [])
        n = len(kernel)
        strides, dilations = (given.get(name, [1] * n) for name in ("strides", "dilations"))
        pads, auto_pad = given.get("pads", [0] * 2 * n), given.get("auto_pad", b"NOTSET").decode()
        known = n == len(before) == len(after) == len(strides) == len(dilations) == len(pads) // 2 and all(before)
        if not known or auto_pad.startswith("SAME"):
            continue
        kernel, strides, dilations, begin, end = map(tuple, (kernel, strides, dilations, pads[:n], pads[n:]))
        window = explicit(Window(kernel, strides, dilations, begin, end, auto_pad, ceil_mode=True), tuple(before))
        if isinstance(window, Window) and list(window.output(tuple(before))) != after:
            found[position] = [*window.begin, *window.end]
    return found


def _as_in_runtime(graph: onnx.GraphProto, pools: dict[int, list[int]]) -> set[str]:
    """Give pools these pads in place of `ceil_mode`, without those behind another of them, which follow once its size
    is known; and forget what is stated of the tensors behind them, which are returned."""
    behind: set[str] = set()
    for position, node in enumerate(graph.node):
        if any(name in behind for one in with_bodies([node]) for name in one.input):
            behind.update(node.output)
        elif position in pools:
            behind.update(node.output)
            kept = [a for a in node.attribute if a.name not in ("auto_pad", "ceil_mode", "pads")]
            kept = [*map(deepcopy, kept), onnx.helper.make_attribute("pads", pools[position])]
            del node.attribute[:]
            node.attribute.extend(kept)
    forget(graph, behind)
    return behind


def forget(graph: onnx.GraphProto, names: Collection[str]) -> None:
    """Remove what a graph states of tensors, and of its outputs among them the shapes."""
    kept = [info for info in graph.value_info if info.name not in names]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    for output in graph.output:
        if output.name in names:
            output.type.tensor_type.ClearField("shape")
