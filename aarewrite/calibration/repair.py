"""Repairing the weights behind inserted blurs, in closed form, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from aarewrite.calibration.equations import ALPHAS, Equations, F64, Fit, fit, ridge, Moments
from aarewrite.calibration.layers import Constants, Layer, Left, ancestors, attributes, find_layers
from aarewrite.calibration.samples import choose_positions, conv_rows, value_rows
from aarewrite.calibration.stream import Array, Batches, Stream
from aarewrite.errors import CannotHandle, UsageError


START = [0.1]


@dataclass(frozen=True)
class RepairOptions:
    """How weights are repaired.

    Attributes:
        positions: Output positions looked at per sample.
        depthwise_positions: The same for layers with few unknowns per group.
        folds: Parts of the data for choosing the regularisation.
        crops: Consecutive samples that show the same image (or signal): they are never split over folds, and the
            head is fitted to their mean.
        head: Weight of that mean in the head's target, 0..1.
        residual: Fit the last layer of a residual block to the block's sum.
        impute: Rounds of filling in targets where the activation clips.
        alphas: Candidates for the regularisation.
        seed: Of the choice of positions.
        memory: Bytes for remembered tensors.
        threads: Threads of ONNX Runtime; 0: all.
    """

    positions: int = 64
    depthwise_positions: int = 64
    folds: int = 3
    crops: int = 1
    head: float = 1.0
    residual: bool = True
    impute: int = 0
    alphas: tuple[float, ...] = ALPHAS
    seed: int = 0
    memory: int = 1 << 30
    threads: int = 0


@dataclass(frozen=True)
class LayerRepair:
    """What was done to one layer.

    Attributes:
        name: The layer.
        kind: Conv, Gemm or MatMul.
        before, after: Error on samples not fitted to, relative to the variance of the target.
        own_before, own_after: The same on the calibration samples themselves.
        alpha: Regularisation; infinity when left alone.
        reason: Why the layer was left alone; empty when it was repaired.
    """

    name: str
    kind: str
    before: float
    after: float
    own_before: float
    own_after: float
    alpha: float
    reason: str = ""


def repair(
    original: onnx.ModelProto,
    rewritten: onnx.ModelProto,
    batches: Batches,
    options: RepairOptions | None = None,
    *,
    teacher: Batches | None = None,
    progress: Callable[[LayerRepair, int, int], None] | None = None,
) -> tuple[onnx.ModelProto, list[LayerRepair]]:
    """Repair."""
    options = options or RepairOptions()
    model = onnx.ModelProto()
    model.CopyFrom(rewritten)
    layers, left = find_layers(original, model)
    if not options.residual:
        from dataclasses import replace
        layers = [replace(one, addend="", total="") for one in layers]
    done = [LayerRepair(one.name, "", 0, 0, 0, 0, float("inf"), one.reason) for one in left]
    source = Stream(original, teacher or batches, memory=options.memory // 2, threads=options.threads)
    target = Stream(model, batches, memory=options.memory // 2, threads=options.threads)
    for group in _groups(model, layers):
        for layer, fitted in zip(group, _fit_group(original, model, source, target, group, options), strict=True):
            if fitted.alpha != float("inf"):
                START[0] = fitted.alpha
                _write(model, layer, fitted)
            scale = max(fitted.variance, 1e-30)
            done.append(
                LayerRepair(
                    layer.name, layer.kind, fitted.before / scale, fitted.after / scale, fitted.own_before / scale,
                    fitted.own_after / scale, fitted.alpha,
                    "" if fitted.alpha != float("inf") else "nothing beats its weights on held-out data",
                )  # fmt: skip
            )
            if progress:
                progress(done[-1], len(done), len(layers) + len(left))
    return model, done


def _groups(model: onnx.ModelProto, layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    """Runs of layers that do not depend on each other: they share one pass over the data."""
    group: list[Layer] = []
    for layer in layers:
        behind = ancestors(model, [name for name in (layer.input, layer.addend) if name]) if group else set()
        if group and any(one.index in behind for one in group):
            yield group
            group = []
        group.append(layer)
    if group:
        yield group


def _fit_group(original, model, source, target, group, options) -> list[Fit]:
    weights = [_weights(model, layer) for layer in group]
    constants = Constants(model)
    data = []
    for layer, (w, b) in zip(group, weights, strict=True):
        data.append(_Data(original, model, layer, w, b, options, START[0]))
    wanted_x = [name for layer in group for name in (layer.input, layer.addend) if name]
    wanted_y = [name for layer in group for name in (layer.target, layer.total) if name]
    cut_y = min(layer.original_index for layer in group)
    seen = 0
    xs = target.run(list(dict.fromkeys(wanted_x)), min(layer.index for layer in group))
    ys = source.run(list(dict.fromkeys(wanted_y)), cut_y)
    for number, (x, y) in enumerate(zip(xs, ys, strict=True)):
        for one in data:
            one.add(x, y, seen, number)
        seen += len(next(iter(x.values())))
    return [one.solve() for one in data]


class _Data:
    def __init__(self, original, model, layer, w, b, options, start=0.1):
        self.layer, self.w, self.b, self.o = layer, w, b, options
        g, d, o = w.shape
        self.node = model.graph.node[layer.index]
        self.values = attributes(self.node)
        self.eq = Equations(g, d, o, options.folds)
        self.start = start
        self.rows = []
        self.bounds = _bounds(original, layer) if options.impute else None
        self._kernel = tuple(Constants(model).tensor(layer.weight).dims)[2:]

    def add(self, x, y, seen, number):
        l, o = self.layer, self.o
        xin = x[l.input]
        n = len(xin)
        rng = np.random.default_rng([o.seed, l.index, number])
        offs = None
        if l.kind == "Conv":
            t = y[l.total] if l.total else y[l.target]
            if len(t) != n:
                t = t.reshape(n, len(t) // n, *t.shape[1:]).mean(1)
            size = t.shape[2:]
            count = o.depthwise_positions if self.w.shape[1] <= 64 else o.positions
            image, pos = choose_positions(size, n, count, rng)
            kernel = self.kernel
            xr = conv_rows(xin, kernel, self.values, image, pos, size)
            yr = value_rows(t, image, pos, l.group)
            if l.total:
                s = x[l.addend]
                step = [-(-a // b) for a, b in zip(s.shape[2:], size)]
                offs = value_rows(s, image, tuple(p * q for p, q in zip(pos, step)), l.group)
                yr = yr - offs
            single = int(np.prod(size)) == 1
        else:
            t = y[l.target]
            if len(t) != n:
                t = t.reshape(n, len(t) // n, *t.shape[1:]).mean(1)
            flat = xin.reshape(-1, xin.shape[-1]).astype(np.float32)
            yr = t.reshape(-1, t.shape[-1]).astype(np.float32)
            single = len(flat) == n
            image = np.repeat(np.arange(n), len(flat) // n)
            xr, yr = flat[None], yr[None]
        if single and o.crops > 1 and o.head > 0:
            assert n % o.crops == 0
            m = yr.reshape(yr.shape[0], n // o.crops, o.crops, -1).mean(2, keepdims=True)
            yr = ((1 - o.head) * yr.reshape(yr.shape[0], n // o.crops, o.crops, -1) + o.head * m).reshape(yr.shape)
        folds = (seen + image) // o.crops % o.folds
        for f in range(o.folds):
            sel = folds == f
            if sel.any():
                self.eq.add(xr[:, sel], yr[:, sel], f)
                if self.bounds is not None:
                    self.rows.append((f, xr[:, sel], yr[:, sel], None if offs is None else offs[:, sel]))

    @property
    def kernel(self):
        return self._kernel

    def solve(self):
        folds = self.eq.moments()
        f = fit(folds, self.w, self.b, intercept=self.layer.bias_node >= 0, alphas=self.o.alphas, start=self.start)
        if self.bounds is None or f.alpha == float("inf"):
            return f
        lo, hi = self.bounds  # (g, o)
        W, b, alpha = f.weight, f.bias, f.alpha
        for it in range(self.o.impute):
            new = []
            xy = [np.zeros_like(m.xy) for m in folds]; ysum = [np.zeros_like(m.y) for m in folds]; yy = [np.zeros_like(m.yy) for m in folds]
            for fold, x, y, s in self.rows:
                pred = x @ W.astype(np.float32) + b[:, None, :].astype(np.float32)
                L = lo[:, None, :] - (0 if s is None else s); H = hi[:, None, :] - (0 if s is None else s)
                yi = np.where(y <= L, np.minimum(pred, L), np.where(y >= H, np.maximum(pred, H), y))
                yi=yi.astype(np.float64)
                xy[fold] += x.transpose(0, 2, 1).astype(np.float64) @ yi; ysum[fold] += yi.sum(1); yy[fold] += (yi**2).sum(1)
            nm = [Moments(m.n, m.x, ysum[i], m.xx, xy[i], yy[i]) for i, m in enumerate(folds)]
            total = nm[0]
            for m in nm[1:]: total = total + m
            if it == 0 or it == self.o.impute - 1:
                ff = fit(nm, self.w, self.b, intercept=self.layer.bias_node >= 0, alphas=self.o.alphas)
                if ff.alpha != float("inf"): alpha = ff.alpha
            W, b = ridge(total, self.w, self.b, alpha, intercept=self.layer.bias_node >= 0)
        self.rows = []
        from dataclasses import replace
        return replace(f, weight=W, bias=b, alpha=alpha)


def _bounds(original, layer):
    """interval (lo, hi) per channel in which the activation is injective"""
    name = layer.total or layer.target
    users = [n for n in original.graph.node if name in n.input]
    if len(users) != 1:
        return None
    a = users[0]
    c = Constants(original)
    if a.op_type == "Relu":
        lo, hi = 0.0, np.inf
    elif a.op_type == "Clip":
        v = attributes(a)
        if len(a.input) > 1:
            lo = float(c.array(c.source(a.input[1]))) if a.input[1] else -np.inf
            hi = float(c.array(c.source(a.input[2]))) if len(a.input) > 2 and a.input[2] else np.inf
        else:
            lo, hi = v.get("min", -np.inf), v.get("max", np.inf)
    else:
        return None
    return np.full((layer.group, 1), lo, np.float32), np.full((layer.group, 1), hi, np.float32)


def _weights(model: onnx.ModelProto, layer: Layer) -> tuple[F64, F64]:
    """Weights (g, d, o) and bias (g, o) as float64."""
    constants = Constants(model)
    w = constants.array(layer.weight).astype(np.float64)
    v = attributes(model.graph.node[layer.index])
    if layer.kind == "Conv":
        g = layer.group
        w = w.reshape(g, w.shape[0] // g, -1).transpose(0, 2, 1)
    elif layer.kind == "Gemm":
        w = (w.T if v.get("transB", 0) else w)[None] * v.get("alpha", 1.0)
    else:
        w = w[None]
    g, d, o = w.shape
    if layer.bias:
        b = constants.array(layer.bias).astype(np.float64).reshape(g, o)
        if layer.kind == "Gemm":
            b = b * v.get("beta", 1.0)
    else:
        b = np.zeros((g, o))
    return np.ascontiguousarray(w), b


def _write(model: onnx.ModelProto, layer: Layer, fitted: Fit) -> None:
    constants = Constants(model)
    tensor = constants.tensor(layer.weight)
    shape, dtype = tuple(tensor.dims), numpy_helper.to_array(tensor).dtype
    v = attributes(model.graph.node[layer.index])
    w, b = fitted.weight, fitted.bias
    if layer.kind == "Conv":
        w = w.transpose(0, 2, 1)
    elif layer.kind == "Gemm":
        w = w[0] / v.get("alpha", 1.0)
        w = w.T if v.get("transB", 0) else w
        b = b / v.get("beta", 1.0)
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(w.reshape(shape), dtype=dtype), name))
    if layer.bias_node < 0:
        return
    node = model.graph.node[layer.bias_node]
    fresh = f"{layer.weight}/bias"
    shape = tuple(constants.tensor(layer.bias).dims) if layer.bias else (b.size,)
    names = {t.name for t in model.graph.initializer}
    while fresh in names:
        fresh += "_"
    model.graph.initializer.append(numpy_helper.from_array(b.reshape(shape).astype(dtype), fresh))
    if layer.bias:
        for i, n in enumerate(node.input):
            if constants.source(n) == layer.bias:
                node.input[i] = fresh
    elif len(node.input) == 3:
        node.input[2] = fresh
    else:
        node.input.append(fresh)
