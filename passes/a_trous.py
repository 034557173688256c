"""The last stage a trous: weights untouched, invariance one octave finer.

The strides of a stage are removed, every conv behind them is dilated by them, and the global pooling at the end sees
all phases instead of one. At the positions that the original computed, every value is the same; the others are what
the original computes for shifted inputs. It costs stride^2 times the stage.
Source: Holschneider et al. 1989 (algorithme a trous); as in dilated ResNets, but with the weights as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

from aarewrite.errors import CannotHandle
from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.shapes import Shapes
from aarewrite.model.types import Node, in_default_domain, ints, text
from aarewrite.options import option
from aarewrite.passes.contract import Record, StagePass
from aarewrite.sites.pooling import GLOBAL, SIZED_POOLS, covers_map
from aarewrite.sites.reading import Reading
from aarewrite.sites.regions import POINTWISE
from aarewrite.sites.site import Site

KEEPS_POSITIONS = POINTWISE | {"Concat", "Split"}  # of channels


class Grid(NamedTuple):
    """A map that is finer than the original's, per spatial axis: how much, and its size where that is known."""

    factors: tuple[int, ...]
    size: tuple[int | None, ...]


@dataclass(frozen=True)
class Asked:
    """What a recipe may say of it.

    Attributes:
        last_stage: "blur" as any other, or "a trous": a classifier's last stage keeps its weights, loses its stride
            and is dilated instead, where it ends in global pooling.
    """

    last_stage: str = option("blur", choices=("blur", "a trous"))


class ATrous(StagePass):
    """The strides of `sites`, all strided convs of one stage, gone, and all behind them dilated."""

    name = "a trous"
    key = "aarewrite.a_trous"
    Options = Asked
    takes_sites = True
    entry = ("action", "a trous")

    refusal = "the last stage keeps its stride"
    nowhere = "no strided conv is the last to downsample"
    again = "an earlier run left a stage a trous"

    @classmethod
    def wanted(cls, reading: Reading, asked: Asked) -> Self | None:
        """The last stage, where it is asked for."""
        return None if asked.last_stage == "blur" else cls(last_stage(reading))

    def check(self, reading: Reading) -> None:
        """Nothing behind these convs may depend on the size of the map."""
        _finer(reading, self.sites)

    def apply(self, reading: Reading, twin: bool) -> tuple[Reading, Record]:
        """Dilate; the record holds the strides that are gone."""
        strides = {name: list(reading.places["", name].site.strides) for name in self.sites}
        return _finer(reading, self.sites, twin), strides

    def says(self, site: Site) -> str:
        """Its stride is gone."""
        return f"{site.op} stride 1, what follows dilated"


def last_stage(reading: Reading) -> tuple[str, ...]:
    """The strided convs of the main graph that no other downsampling follows: the ones to run a trous together."""
    names, main = reading.names, reading.main
    above: dict[str, frozenset[str]] = {}  # per tensor: the strided convs right above it
    for node in main.nodes:
        found = frozenset[str]().union(*(above.get(tensor.name, frozenset()) for tensor in node.inputs))
        if node.op in ("Conv", "MaxPool", "LpPool") and max(ints(node, "strides", [1])) > 1:
            found = frozenset((names[id(node)],)) if node.op == "Conv" else frozenset()
        for tensor in node.outputs:
            above[tensor.name] = found
    last = frozenset[str]().union(*(above.get(tensor.name, frozenset()) for tensor in main.graph.outputs))
    return tuple(names[id(node)] for node in main.nodes if names[id(node)] in last)


def _finer(reading: Reading, convs: tuple[str, ...], as_twin: bool = False) -> Reading:
    """The graph as it was read without the strides of `convs`, all strided convs of one stage, and with everything
    behind them dilated up to global pooling.

    In the twin the poolings see the original's positions only, so that every value behind them is the original's.

    Raises:
        CannotHandle: Something behind the convs depends on the size of the map; the message names it.
    """
    reading = Reading(GraphEditor(reading.model), reading.input_shapes)
    editor, shapes, main, names = reading.editor, reading.shapes, reading.main, reading.names
    wanted = set(convs)
    grids: dict[str, Grid] = {}
    for node in list(main.nodes):
        name = names[id(node)]
        finer = [grids[tensor.name] for tensor in node.inputs if tensor.name in grids]
        grid = finer[0] if finer else None
        if any(other != grid for other in finer):
            raise CannotHandle(f"{name}: the finer maps that meet here differ in size", "leave this stage's stride")
        if name in wanted or (node.op == "Conv" and grid):
            grid = _dilate(editor, shapes, main, node, name, grid, name in wanted)
            wanted.discard(name)
        elif grid is None:
            continue
        elif node.op in GLOBAL or node.op in SIZED_POOLS:
            _pool(editor, shapes, main, node, name, grid, as_twin)
            continue
        elif node.op not in KEEPS_POSITIONS or not in_default_domain(node):
            raise CannotHandle(f"{name}: {node.op} behind a stage a trous", "leave this stage's stride")
        elif node.op == "Add" and any(t.name not in grids and not editor.is_constant(t) for t in node.inputs):
            raise CannotHandle(f"{name}: it adds a map with the original's grid", "name all convs of the stage")
        for tensor in node.outputs:
            grids[tensor.name] = grid
            editor.mark_stale(main, tensor)
    if wanted:
        raise CannotHandle(f"{sorted(wanted)[0]}: no strided conv of this name", "see `aarewrite inspect`")
    inner = {t.name for s in editor.scopes if s.root is main and s is not main for n in s.nodes for t in n.inputs}
    for tensor in (*main.graph.outputs, *(tensor for node in main.nodes for tensor in node.outputs)):
        if tensor.name in grids and (main.is_output(tensor) or tensor.name in inner):
            raise CannotHandle(f"{tensor.name}: the stage ends in a map, not in global pooling", "leave its stride")
    return reading.again()


def _dilate(
    editor: GraphEditor, shapes: Shapes, scope: Scope, node: Node, name: str, grid: Grid | None, chosen: bool
) -> Grid:
    """Dilate a conv by the grid that comes in and drop the stride of a chosen one. Returns the grid that goes out."""
    kernel = list((editor.constant_shape(node.inputs[1]) or ())[2:] if node.op == "Conv" else ())
    rank = len(kernel)
    strides = ints(node, "strides", [1] * rank)
    if not rank or (chosen and max(strides) == 1):
        raise CannotHandle(f"{name}: no strided conv", "see `aarewrite inspect`")
    if text(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise CannotHandle(f"{name}: auto_pad behind a stage a trous", "make the pads explicit first")
    if not chosen and max(strides) > 1:
        raise CannotHandle(f"{name}: it is strided again", "name all strided convs of the stage")
    grid = grid or Grid((1,) * rank, shapes.spatial(scope, node.inputs[0], rank))
    dilations = [d * f for d, f in zip(ints(node, "dilations", [1] * rank), grid.factors, strict=True)]
    pads = [p * f for p, f in zip(ints(node, "pads", [0] * (2 * rank)), grid.factors * 2, strict=True)]
    editor.set_attributes(node, dilations=dilations, pads=pads, strides=[1] * rank, auto_pad=None)
    around = [b + e - (k - 1) * d for b, e, k, d in zip(pads[:rank], pads[rank:], kernel, dilations, strict=True)]
    return Grid(
        tuple(f * s for f, s in zip(grid.factors, strides, strict=True)),
        tuple(None if n is None else n + more for n, more in zip(grid.size, around, strict=True)),
    )


def _pool(editor: GraphEditor, shapes: Shapes, scope: Scope, node: Node, name: str, grid: Grid, as_twin: bool) -> None:
    """Let a pooling over the whole of the original's map cover the finer one."""
    rank = len(grid.factors)
    if not covers_map(editor, shapes, scope, node, rank):
        raise CannotHandle(f"{name}: it does not cover the whole map", "leave this stage's stride")
    if node.op in SIZED_POOLS and not as_twin:
        op = {"AveragePool": "GlobalAveragePool", "MaxPool": "GlobalMaxPool"}[node.op]
        editor.insert_after(scope, node, [new := editor.node(op, f"{name}/global", [node.inputs[0]], [])])
        output = node.outputs[0]
        editor.remove(scope, node)
        new.outputs.append(output)
    if as_twin:
        kept = editor.variable(f"{node.inputs[0].name}/original_positions")
        window = {"kernel_shape": [1] * rank, "strides": list(grid.factors)}
        taken = editor.node("MaxPool", f"{name}/positions", [node.inputs[0]], [kept], **window)
        editor.insert_before(scope, node, [taken])
        editor.set_input(node, 0, kept)
