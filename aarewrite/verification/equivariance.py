"""Inside the network: how far each downsampling layer's map is from moving with the input.

The input is rolled by d px, the layer's map should then roll by d / stride. The map of the unshifted input is
moved by that amount (band-limited, so fractions are defined) and compared: ||moved - seen|| / ||moved||.
Zero means the layer keeps every phase. After R. Zhang, ICML 2019, Fig. 5, with the Fourier shift in place of
bilinear upsampling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import onnx

from aarewrite.data.arrays import Array
from aarewrite.data.geometry import Geometry
from aarewrite.data.views import DIRECTIONS, Views, fourier_shift
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model.graph import GraphEditor
from aarewrite.model.index import OpenGraph, label, open_graph
from aarewrite.model.model_file import load
from aarewrite.model.runner import Model
from aarewrite.model.types import Tensor
from aarewrite.sites.existing_blurs import is_border, samplers
from aarewrite.sites.regions import pointwise_region
from aarewrite.verification.statistics import Mean, Tally
from aarewrite.verification.strides import path_ratios

DOWNSAMPLING = {"Conv", "MaxPool", "AveragePool", "LpPool", "QLinearConv", "ConvInteger", "Resize"}
LARGEST_MAP = 12  # shifts per axis of a heat map


@dataclass(frozen=True)
class Layer:
    """One downsampling layer and where its map is read."""

    node: str  # the node that makes the map smaller
    op: str  # its operator
    tensor: str  # the tensor compared: the end of the pointwise region behind the node (`sites/regions.py`)
    stride: tuple[int, ...]  # input pixels per map pixel, one a spatial axis


@dataclass(frozen=True)
class FoundLayer(Layer):
    """A layer of a graph; `parent` is the index of the downsampling layer in front of it, None for the first."""

    parent: int | None


@dataclass(frozen=True)
class LayerError(Layer):
    """A layer's equivariance error: mean over images of the mean over shifts below its stride; 0 is exact.

    `added` is the error minus that of the layer in front: the damage done between the two.
    """

    error: Mean
    added: float


@dataclass(frozen=True)
class HeatMap:
    """Error of one layer for every shift: `errors[i][j]` at `shifts[0][i]` px down, `shifts[1][j]` px right."""

    model: str
    node: str
    stride: tuple[int, ...]
    shifts: tuple[tuple[int, ...], ...]
    errors: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class LayerResult:
    """The layers of one model over depth, and which do the damage."""

    model: str
    description: str
    n: int
    layers: tuple[LayerError, ...]
    heat_map: HeatMap | None

    @property
    def ranking(self) -> tuple[LayerError, ...]:
        """The layers, the one that adds most error first."""
        return tuple(sorted(self.layers, key=lambda layer: -layer.added))


def find_layers(graph: OpenGraph) -> tuple[FoundLayer, ...]:
    """Return the downsampling layers in graph order: nodes whose output is smaller, not down to one pixel.

    Strides are those along the path, where they are known; else products of each node's own ratio: odd sizes lose a
    pixel here and there, so 224 / 13 is stride 16.
    """
    found: list[FoundLayer] = []
    editor = GraphEditor(load(graph.proto))
    filters, ratios = samplers(editor.model), path_ratios(graph)
    made = {tensor.name: tensor for node in editor.scopes[0].nodes for tensor in node.outputs}
    reached: dict[str, int | None] = {}  # tensor -> the last downsampling layer in front of it
    for node in graph.proto.graph.node:
        if is_border(editor.model, node.name):
            continue
        behind = (reached.get(name) for name in node.input)
        parent = max((index for index in behind if index is not None), default=None)
        before, after = (graph.spatial(names[0]) if names else None for names in (node.input, node.output))
        if after and (steps := filters.get(node.name)):  # a filter of several nodes, of which this one is the last
            before = tuple(n * step for n, step in zip(after, steps, strict=True))
        smaller = before and after and any(b / a >= 1.5 for b, a in zip(before, after, strict=True))
        if (node.name in filters or _downsamples(node, graph)) and smaller and before and after and max(after) > 1:
            so_far = (1,) * len(after) if parent is None else found[parent].stride
            factors = (max(1, round(b / a)) for b, a in zip(before, after, strict=True))
            stride = tuple(s * factor for s, factor in zip(so_far, factors, strict=True))
            along = [ratio for ratio in ratios.get(node.output[0], ()) if ratio]
            if len(along) == len(stride):
                stride = tuple(max(1, round(1 / ratio)) for ratio in along)
            tensor = _behind_activation(editor, made[node.output[0]], len(after))
            found.append(FoundLayer(label(node), node.op_type, tensor, stride, parent))
            parent = len(found) - 1
        for name in node.output:
            reached[name] = parent
    return tuple(found)


def _behind_activation(editor: GraphEditor, start: Tensor, spatial: int) -> str:
    """The tensor where a blur behind this layer would go: how it moves with the input is what a blur mends."""
    end = pointwise_region(editor, editor.scopes[0], start, spatial).end
    if end.inputs and end.inputs[0].op == "QuantizeLinear":  # its codes have an offset: compare what they stand for
        values = (reader.outputs[0] for reader in end.outputs if reader.op == "DequantizeLinear")
        return next(values, end).name
    return end.name


def _downsamples(node: onnx.NodeProto, graph: OpenGraph) -> bool:
    """A strided window, a Resize, or a Slice with steps; a Slice without steps only crops."""
    if node.op_type != "Slice":
        return node.op_type in DOWNSAMPLING
    steps = graph.constant(node.input[4]) if len(node.input) > 4 else None
    return steps is not None and bool((np.abs(steps) > 1).any())


def measure_layers(
    models: Sequence[Model],
    canvases: Sequence[Array],
    geometry: Geometry,
    chosen: str | None,
    advance: Callable[[int], None],
) -> tuple[LayerResult, ...]:
    """Measure every downsampling layer of every model on a few canvases; `advance` is called with the views done.

    The heat map is drawn of the node `chosen`; by default of the one where two models differ most, for a single model
    of the one that adds most error.

    Raises:
        UsageError: `chosen` is no downsampling layer; the message lists those there are.
        CannotHandle: A model's graph cannot be read or opened.
    """
    views = Views("circular", geometry, tuple(axis - 1 for axis in models[0].image_inputs[0].axes))
    probes = [_Probe(model, views, advance) for model in models]
    states = [views.prepare(canvas) for canvas in canvases]
    curves = [probe.curve(states) for probe in probes]
    places = _places(curves, chosen)
    description = f"{len(states)} samples, centre crop rolled by up to one stride, relative L2 error"
    return tuple(
        LayerResult(probe.model.label, description, len(states), curve, probe.heat_map(states[:2], place))
        for probe, curve, place in zip(probes, curves, places, strict=True)
    )


def _places(curves: Sequence[tuple[LayerError, ...]], chosen: str | None) -> Sequence[int | None]:
    """The layer of the heat map in every model: same place where the counts agree, else the first of its stride."""
    m, last = len(curves) - 1, curves[-1]
    if chosen is not None:
        layers = [(m, k, layer) for m, curve in enumerate(curves) for k, layer in enumerate(curve)]
        named = [(m, k) for m, k, layer in layers if chosen in (layer.node, layer.tensor)]
        if not named:
            known = ", ".join(layer.node for _, _, layer in layers)
            raise UsageError(f"--heat-map {chosen}: no such downsampling layer", f"there are: {known or 'none'}")
        m, index = named[0]
    elif not last:
        return [None] * len(curves)
    elif len(curves) == 2 and len(curves[0]) == len(last):  # where the two models differ most
        index = int(np.argmax([b.error.value - a.error.value for a, b in zip(*curves, strict=True)]))
    else:
        index = int(np.argmax([layer.added for layer in last]))
    strides = [[layer.stride for layer in curve] for curve in curves]
    wanted = strides[m][index]
    return [index if len(own) == len(strides[m]) else own.index(wanted) if wanted in own else None for own in strides]


class _Probe:
    """A model with its downsampling layers' tensors as outputs."""

    def __init__(self, model: Model, views: Views, advance: Callable[[int], None]) -> None:
        self.views, self.advance = views, advance
        self.rank = len(views.geometry.size)
        self.axes = tuple(range(2, 2 + self.rank))  # `find_layers` looks at channels-first maps
        graph = open_graph(model, views.geometry.size)
        self.layers = find_layers(graph)
        outputs = graph.proto.graph.output
        present = {value.name for value in outputs}
        for tensor in dict.fromkeys(layer.tensor for layer in self.layers):
            if tensor not in present:
                outputs.append(onnx.ValueInfoProto(name=tensor))
        self.model = model.twin(graph.proto, model.provider)

    def curve(self, states: Sequence[Array]) -> tuple[LayerError, ...]:
        """Measure every layer at a few shifts below its stride, along every direction."""
        tally = Tally()
        wanted = [_shifts(max(layer.stride)) for layer in self.layers]
        for state in states:
            spectra = self._spectra(state)
            errors: list[list[float]] = [[] for _ in self.layers]
            for unit, d in product(DIRECTIONS[self.rank].values(), sorted(set().union(*wanted))):
                offset = tuple(axis * d for axis in unit)
                seen = self._run(self.views.at(state, offset))
                self.advance(1)
                for layer, spectrum, shifts, found in zip(self.layers, spectra, wanted, errors, strict=True):
                    if d in shifts:
                        found.append(self._error(spectrum, seen[layer.tensor], layer, offset))
            for index, found in enumerate(errors):
                tally.add(index, found)
        means = [tally.mean(index) for index in range(len(self.layers))]
        fronts = [0.0 if layer.parent is None else means[layer.parent].value for layer in self.layers]
        return tuple(
            LayerError(layer.node, layer.op, layer.tensor, layer.stride, mean, mean.value - front)
            for layer, mean, front in zip(self.layers, means, fronts, strict=True)
        )

    def heat_map(self, states: Sequence[Array], index: int | None) -> HeatMap | None:
        """Measure one layer for shifts over two strides on both axes (one axis for 1-D models)."""
        if index is None or self.rank > 2:
            return None
        layer = self.layers[index]
        shifts = tuple(_grid(stride) for stride in layer.stride)
        errors = np.zeros([len(span) for span in shifts])
        for state in states:
            spectrum = self._spectra(state)[index]
            for place, offset in zip(np.ndindex(errors.shape), product(*shifts), strict=True):
                seen = self._run(self.views.at(state, offset))[layer.tensor]
                errors[place] += self._error(spectrum, seen, layer, offset) / len(states)
                self.advance(1)
        rows = tuple(map(tuple, np.atleast_2d(errors).tolist()))
        return HeatMap(self.model.label, layer.node, layer.stride, shifts, rows)

    def _run(self, view: Array) -> dict[str, Array]:
        return self.model.run(self.model.feed([view[None]]))

    def _spectra(self, state: Array) -> list[Array]:
        centre = self._run(state)
        for layer in self.layers:
            if centre[layer.tensor].ndim != self.rank + 2:
                reason = f"{self.model.label}: tensor {layer.tensor!r} is no feature map"
                raise CannotHandle(reason, "leave --layers out")
        return [np.fft.fftn(centre[layer.tensor].astype(np.float64), axes=self.axes) for layer in self.layers]

    def _error(self, spectrum: Array, seen: Array, layer: Layer, offset: Sequence[int]) -> float:
        expected = fourier_shift(spectrum, tuple(np.divide(offset, layer.stride).tolist()), self.axes)
        # A map of zeros that does not stay so has an error of 1.
        scale = float(np.linalg.norm(expected)) or float(np.linalg.norm(seen)) or 1.0
        return float(np.linalg.norm(expected - seen)) / scale


def _shifts(stride: int) -> set[int]:
    """Shifts that stand for 1..stride-1: a quarter, half and three quarters of the stride."""
    return {max(1, round(stride * k / 4)) for k in (1, 2, 3)} if stride > 1 else {1}


def _grid(stride: int) -> tuple[int, ...]:
    """Shifts of a heat map: two strides, at most `LARGEST_MAP` of them, hitting the stride itself."""
    parts = max(n for n in range(1, LARGEST_MAP // 2 + 1) if stride % n == 0)
    return tuple(range(0, 2 * stride + 1, stride // parts))
