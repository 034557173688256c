"""Running the last stage of a classifier a trous: weights untouched, invariance one octave finer.

The stride of the stage's first convs is removed, every conv behind them is dilated by it, and the global pooling at
the end sees all phases instead of one. At the positions that the original computed, every value is the same; the
others are what the original computes for shifted inputs. It costs stride^2 times the stage.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import onnx
from onnx import helper

from aarewrite.calibration.layers import Constants, attributes, label
from aarewrite.calibration.stream import consumed
from aarewrite.errors import CannotHandle

ACTIVATIONS = frozenset(
    [
        "Celu",
        "Clip",
        "Elu",
        "Erf",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Mish",
        "PRelu",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Tanh",
    ]
)
ARITHMETIC = frozenset(("Abs", "Add", "Div", "Exp", "Max", "Min", "Mul", "Neg", "Pow", "Sqrt", "Sub", "Sum"))
POINTWISE = ACTIVATIONS | ARITHMETIC | {"BatchNormalization", "Cast", "Concat", "Dropout", "Identity", "Split"}
GLOBAL = frozenset(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"))


@dataclass(frozen=True)
class _Grid:
    """How much finer than the original's a tensor's grid is, per spatial axis."""

    factor: tuple[int, ...]

    @property
    def finer(self) -> bool:
        return max(self.factor) > 1


def last_stage(model: onnx.ModelProto) -> tuple[str, ...]:
    """The strided convs that no other downsampling follows: the ones to run a trous together."""
    strided: dict[str, frozenset[str]] = {}  # per tensor: the strided convs right above it
    for node in model.graph.node:
        above = frozenset[str]().union(*(strided.get(name, frozenset()) for name in consumed(node)))
        if node.op_type == "Conv" and max(attributes(node).get("strides", [1])) > 1:
            above = frozenset((label(node),))
        elif node.op_type in ("MaxPool", "LpPool") and max(attributes(node).get("strides", [1])) > 1:
            above = frozenset()
        for name in node.output:
            strided[name] = above
    last = [strided.get(value.name, frozenset()) for value in model.graph.output]
    found = frozenset[str]().union(*last)
    return tuple(label(node) for node in model.graph.node if label(node) in found)


def a_trous(model: onnx.ModelProto, convs: Collection[str]) -> onnx.ModelProto:
    """The model with the strides of `convs` removed and everything behind them dilated, up to global pooling.

    Args:
        model: Any model whose convs behind `convs` have stride 1 and explicit pads.
        convs: Names of strided convs (or of their outputs where they have none), all of one stage.

    Returns:
        A new model; its inputs and outputs have the same shapes.

    Raises:
        CannotHandle: Something behind the convs depends on the size of the map; the message names it.

    Source: Holschneider et al. 1989 (algorithme a trous); as in dilated ResNets, but with the weights as they are.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    wanted = set(convs)
    grids: dict[str, _Grid] = {}
    pools: list[onnx.NodeProto] = []
    for node in result.graph.node:
        finer = [grids[name] for name in consumed(node) if name in grids]
        grid = finer[0] if finer else None
        if any(other != grid for other in finer):
            raise CannotHandle(
                f"{label(node)}: its inputs have grids of different fineness", "name all convs of the stage"
            )
        if node.op_type == "Conv":
            grid = _conv(node, grid, label(node) in wanted)
            wanted.discard(label(node))
        elif grid is None or node.op_type in GLOBAL:
            grid = None
        elif node.op_type in ("ReduceMean", "ReduceMax", "AveragePool", "MaxPool"):
            pools.append(node)  # whether they cover the whole map is checked below
            grid = None
        elif node.op_type not in POINTWISE:
            raise CannotHandle(f"{label(node)}: {node.op_type} behind a stage a trous", "leave this stage's stride")
        elif node.op_type == "Add" and not _same_grid(node, grids, result):
            raise CannotHandle(f"{label(node)}: it adds a map with the original's grid", "name all convs of the stage")
        if grid is not None and grid.finer:
            grids.update(dict.fromkeys(node.output, grid))
    if wanted:
        raise CannotHandle(f"{sorted(wanted)[0]}: no strided conv of this name", "see `aarewrite inspect`")
    reached = {value.name for value in result.graph.output} & set(grids)
    if reached:
        raise CannotHandle(f"{sorted(reached)[0]}: the stage ends in a map, not in global pooling", "leave its stride")
    for place in reversed(range(len(result.graph.value_info))):
        if result.graph.value_info[place].name in grids:
            del result.graph.value_info[place]  # the sizes written there were the original's
    _widen_pools(model, result, pools)
    return result


def _conv(node: onnx.NodeProto, grid: _Grid | None, chosen: bool) -> _Grid | None:
    """Dilate by the grid that comes in; drop the stride of a chosen conv. Returns the grid that goes out."""
    values = attributes(node)
    rank = len(values.get("kernel_shape", ())) or (len(grid.factor) if grid else len(values.get("strides", ())))
    strides = list(values.get("strides", [1] * rank))
    factor = grid.factor if grid else (1,) * rank
    if not grid and not chosen:
        return None
    if values.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise CannotHandle(f"{label(node)}: auto_pad behind a stage a trous", "make the pads explicit first")
    if not chosen and max(strides) > 1:
        raise CannotHandle(f"{label(node)}: it is strided again", "name all strided convs of the stage")
    dilations = [d * f for d, f in zip(values.get("dilations", [1] * rank), factor, strict=True)]
    pads = [p * f for p, f in zip(values.get("pads", [0] * (2 * rank)), factor * 2, strict=True)]
    _set(node, dilations=dilations, pads=pads, strides=[1] * rank)
    if values.get("auto_pad") == b"VALID":
        _set(node, auto_pad="NOTSET")
    return _Grid(tuple(f * s for f, s in zip(factor, strides, strict=True)))


def _same_grid(node: onnx.NodeProto, grids: dict[str, _Grid], model: onnx.ModelProto) -> bool:
    known = Constants(model)
    return all(name in grids or known.source(name) is not None for name in node.input)


def _widen_pools(original: onnx.ModelProto, result: onnx.ModelProto, pools: Sequence[onnx.NodeProto]) -> None:
    """Poolings over the whole of the original's map get the size of the finer map."""
    if not pools:
        return
    before, after = _shapes(original), _shapes(result)
    for node in pools:
        old, new = before.get(node.input[0], []), after.get(node.input[0], [])
        if node.op_type.startswith("Reduce"):
            continue  # over axes, whatever their size
        kernel = list(attributes(node)["kernel_shape"])
        if not new or 0 in new[2:] or kernel != old[2:] or any(attributes(node).get("pads", [0])):
            raise CannotHandle(f"{label(node)}: it does not cover the whole map", "leave this stage's stride")
        _set(node, kernel_shape=new[2:])


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(bare)
    return {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*inferred.graph.value_info, *inferred.graph.input]
    }


def _set(node: onnx.NodeProto, **values: object) -> None:
    for name, value in values.items():
        for place, attribute in enumerate(node.attribute):
            if attribute.name == name:
                del node.attribute[place]
                break
        node.attribute.append(helper.make_attribute(name, value))
