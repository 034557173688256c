"""ONNX operators as functions of PyTorch: one translation for each operator or family, and what has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import TypeAlias

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor

from aarewrite.errors import CannotHandle
from aarewrite.model.external import is_external
from aarewrite.model.index import Attributes, attributes
from aarewrite.model.types import DEFAULT_DOMAIN
from aarewrite.windows import Window, explicit

Result: TypeAlias = Tensor | Sequence[Tensor]
DTYPES = {
    onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.DOUBLE: torch.float64, onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64, onnx.TensorProto.BOOL: torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A node, read once."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: Attributes
    opset: int
    in_place: bool  # whether its first input's memory may be its output's
    done: tuple[str, ...]  # tensors that no later node reads


def constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """What a Constant node holds, None where it is text or sparse."""
    kind, value = next(iter(attributes(node).items()))
    if kind in ("value_float", "value_floats"):
        return numpy_helper.from_array(np.asarray(value, np.float32))
    if kind in ("value_int", "value_ints"):
        return numpy_helper.from_array(np.asarray(value, np.int64))
    tensor: onnx.TensorProto | None = value if kind == "value" else None
    return tensor


def tensor_of(proto: onnx.TensorProto, device: str) -> Tensor:
    """A constant; sizes and single numbers, which are read as Python's, stay in the main memory."""
    if is_external(proto):
        raise CannotHandle(f"initializer {proto.name!r}: its data is in another file", "read it in first")
    try:
        tensor = torch.from_numpy(numpy_helper.to_array(proto).copy())
    except TypeError as error:
        raise CannotHandle(f"constant {proto.name!r}: {error}", "give the float32 model") from None
    if not tensor.is_floating_point() or tensor.dim() == 0:
        return tensor
    return tensor.to(device, memory_format=torch.channels_last if tensor.dim() == 4 else torch.preserve_format)


def refusal(node: onnx.NodeProto) -> str:
    """What of a node has no translation; empty where it has one."""
    op, values = node.op_type, attributes(node)
    if node.domain not in DEFAULT_DOMAIN:
        return f"{node.domain}.{op}"
    if op == "Constant":
        return "Constant of text or sparse values" if constant(node) is None else ""
    if op not in TRANSLATIONS:
        return op
    return next((f"{op} {what}" for of, what, found in UNSUITED if of == op and found(values)), "")


# ---- windows -----------------------------------------------------------------------------------------------


def _window(step: Step, x: Tensor, kernel: Sequence[int], ceil: bool = False) -> Window:
    """The node's window with explicit pads, those for ceil_mode included where asked for."""
    rank, values = len(kernel), step.values
    pads = values.get("pads", [0] * 2 * rank)
    ones = [1] * rank
    sides = tuple(pads[:rank]), tuple(pads[rank:])
    steps = tuple(values.get("strides", ones)), tuple(values.get("dilations", ones))
    auto = values.get("auto_pad", b"NOTSET").decode()
    found = explicit(Window(tuple(kernel), *steps, *sides, auto, ceil), tuple(x.shape[2:]))
    if isinstance(found, str):
        raise CannotHandle(f"node {step.name!r}: {found}")
    return found


def _flat(begin: Sequence[int], end: Sequence[int]) -> list[int]:
    """Pads in torch's order: the last axis first."""
    return [pad for sides in zip(reversed(begin), reversed(end), strict=True) for pad in sides]


def _padded(x: Tensor, window: Window, value: float, most: Sequence[float]) -> tuple[Tensor, tuple[int, ...]]:
    """The input and the pads for torch's function: unequal ones, and more than it takes, are put on before."""
    if window.begin == window.end and all(b <= m for b, m in zip(window.begin, most, strict=True)):
        return x, window.begin
    return F.pad(x, _flat(window.begin, window.end), value=value), (0,) * len(window.begin)


def _conv(step: Step, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    window = _window(step, x, weight.shape[2:])
    x, padding = _padded(x, window, 0.0, [inf] * len(window.begin))
    run = (F.conv1d, F.conv2d, F.conv3d)[len(padding) - 1]
    return run(x, weight, bias, window.strides, padding, window.dilations, step.values.get("group", 1))


def _conv_transpose(step: Step, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    window = _window(step, x, weight.shape[2:])
    rank = len(window.kernel)
    run = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    full = run(x, weight, None, window.strides, 0, 0, step.values.get("group", 1), window.dilations)
    more = step.values.get("output_padding", [0] * rank)
    ends = [extra - pad for extra, pad in zip(more, window.end, strict=True)]
    y = F.pad(full, _flat([-pad for pad in window.begin], ends))
    return y if bias is None else y + bias.reshape(-1, *[1] * rank)


def _max_pool(step: Step, x: Tensor) -> Tensor:
    window = _window(step, x, step.values["kernel_shape"], bool(step.values.get("ceil_mode", 0)))
    x, padding = _padded(x, window, -inf, [k // 2 for k in window.kernel])
    run = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(padding) - 1]
    return run(x, window.kernel, window.strides, padding, window.dilations)


def _average_pool(step: Step, x: Tensor) -> Tensor:
    kernel, counts_pads = step.values["kernel_shape"], bool(step.values.get("count_include_pad", 0))
    plain, window = _window(step, x, kernel), _window(step, x, kernel, bool(step.values.get("ceil_mode", 0)))
    run = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    small = all(2 * pad <= size for pad, size in zip(window.begin, kernel, strict=True))
    if plain == window and window.begin == window.end and small:
        return run(x, window.kernel, window.strides, window.begin, False, counts_pads)
    pads, plain_pads = _flat(window.begin, window.end), _flat(plain.begin, plain.end)
    counted = F.pad(x.new_ones(1, 1, *x.shape[2:]), plain_pads, value=float(counts_pads))
    counted = F.pad(counted, [whole - part for whole, part in zip(pads, plain_pads, strict=True)])
    return run(F.pad(x, pads), window.kernel, window.strides) / run(counted, window.kernel, window.strides)


def _pad(step: Step, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, *rest: Tensor) -> Tensor:
    amounts, rank = _ints(step, "pads", pads) or [], x.dim()
    axes = [axis % rank for axis in rest[0].tolist()] if rest else list(range(rank))
    begin, end = [0] * rank, [0] * rank
    for place, axis in enumerate(axes):
        begin[axis], end[axis] = amounts[place], amounts[place + len(axes)]
    mode = {b"constant": "constant", b"reflect": "reflect", b"edge": "replicate", b"wrap": "circular"}[
        step.values.get("mode", b"constant")
    ]
    if mode == "constant":
        fill = step.values.get("value", 0.0) if value is None else value.item()
        return F.pad(x, _flat(begin, end), value=fill)
    if rank in (3, 4, 5) and not any(begin[:2] + end[:2]):
        return F.pad(x, _flat(begin[2:], end[2:]), mode)
    for axis in (axis for axis in range(rank) if begin[axis] or end[axis]):
        rows = x.movedim(axis, -1)
        padded = F.pad(rows.reshape(1, -1, rows.shape[-1]), [begin[axis], end[axis]], mode)
        x = padded.reshape(*rows.shape[:-1], -1).movedim(-1, axis)
    return x


# ---- products and normalisations ---------------------------------------------------------------------------


def _gemm(step: Step, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    alpha, beta = step.values.get("alpha", 1.0), step.values.get("beta", 1.0)
    a = a.t() if step.values.get("transA", 0) else a
    b = b.t() if step.values.get("transB", 0) else b
    return alpha * (a @ b) if c is None else torch.addmm(c, a, b, beta=beta, alpha=alpha)


def _batch_norm(step: Step, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return F.batch_norm(x, mean, variance, scale, bias, eps=step.values.get("epsilon", 1e-5))


def _lrn(step: Step, x: Tensor) -> Tensor:
    values = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0, **step.values}
    return F.local_response_norm(x, values["size"], values["alpha"], values["beta"], values["bias"])


# ---- point by point ----------------------------------------------------------------------------------------


def _relu(step: Step, x: Tensor) -> Tensor:
    return F.relu(x, inplace=step.in_place)


def _clip(step: Step, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    least = step.values.get("min", -inf) if low is None else low.item()
    most = step.values.get("max", inf) if high is None else high.item()
    if not x.is_floating_point():
        return x.clamp(None if least == -inf else least, None if most == inf else most)
    return F.hardtanh(x, least, most, inplace=step.in_place) if least <= most else x.clamp(least, most)


def _div(step: Step, a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc")


def _softmax(step: Step, x: Tensor) -> Tensor:
    run = torch.log_softmax if step.op == "LogSoftmax" else torch.softmax
    if step.opset >= 13:
        return run(x, step.values.get("axis", -1))
    return run(_flatten(step, x), 1).reshape(x.shape)


def _hard_sigmoid(step: Step, x: Tensor) -> Tensor:
    return torch.clamp(x * step.values.get("alpha", 0.2) + step.values.get("beta", 0.5), 0, 1)


# ---- shapes ------------------------------------------------------------------------------------------------


def _ints(step: Step, name: str, given: Tensor | None) -> list[int] | None:
    """Sizes or axes, an input in newer operator sets and an attribute in older ones."""
    found = step.values.get(name) if given is None else given.tolist()
    return None if found is None else [int(one) for one in found]


def _flatten(step: Step, x: Tensor) -> Tensor:
    axis = step.values.get("axis", 1)
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))


def _reshape(step: Step, x: Tensor, shape: Tensor) -> Tensor:
    copies = not step.values.get("allowzero", 0)
    return x.reshape([x.shape[axis] if size == 0 and copies else size for axis, size in enumerate(shape.tolist())])


def _transpose(step: Step, x: Tensor) -> Tensor:
    return x.permute(step.values.get("perm", list(range(x.dim()))[::-1]))


def _concat(step: Step, *parts: Tensor) -> Tensor:
    return torch.cat(parts, step.values["axis"])


def _split(step: Step, x: Tensor, split: Tensor | None = None) -> Sequence[Tensor]:
    axis, count = step.values.get("axis", 0), len(step.outputs)
    sizes = _ints(step, "split", split)
    parts: Sequence[Tensor] = torch.split(x, sizes or -(-x.shape[axis] // count), axis)
    return parts


def _slice(step: Step, x: Tensor, *given: Tensor | None) -> Tensor:
    names = ("starts", "ends", "axes", "steps")
    starts, ends, axes, steps = (_ints(step, *one) for one in zip(names, (*given, *[None] * 4), strict=False))
    starts, ends = starts or [], ends or []
    for axis, *bounds in zip(axes or range(len(starts)), starts, ends, steps or [1] * len(starts), strict=True):
        kept = range(x.shape[axis])[slice(*bounds)]
        if kept.step > 0:
            x = x[(slice(None),) * (axis % x.dim()) + (slice(kept.start, max(kept.stop, kept.start), kept.step),)]
        else:
            x = x.index_select(axis, torch.tensor(kept, device=x.device, dtype=torch.int64))
    return x


def _squeeze(step: Step, x: Tensor, axes: Tensor | None = None) -> Tensor:
    found = _ints(step, "axes", axes)
    return x.squeeze() if found is None else x.squeeze(tuple(found))


def _unsqueeze(step: Step, x: Tensor, axes: Tensor | None = None) -> Tensor:
    found = _ints(step, "axes", axes) or []
    for axis in sorted(axis % (x.dim() + len(found)) for axis in found):
        x = x.unsqueeze(axis)
    return x


def _reduce_mean(step: Step, x: Tensor, axes: Tensor | None = None) -> Tensor:
    found = _ints(step, "axes", axes)
    if not found and step.values.get("noop_with_empty_axes", 0):
        return x
    return x.mean(found or list(range(x.dim())), keepdim=bool(step.values.get("keepdims", 1)))


def _shape(step: Step, x: Tensor) -> Tensor:
    return torch.tensor(x.shape[step.values.get("start", 0) : step.values.get("end")], dtype=torch.int64)


def _gather(step: Step, x: Tensor, places: Tensor) -> Tensor:
    axis = step.values.get("axis", 0) % x.dim()
    rows = places.to(x.device).flatten().remainder(x.shape[axis])
    return x.index_select(axis, rows).reshape((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))


def _constant_of_shape(step: Step, shape: Tensor) -> Tensor:
    value = step.values.get("value")
    fill = torch.zeros(1) if value is None else tensor_of(value, "cpu")
    return fill.expand(shape.tolist())


# ---- the table ---------------------------------------------------------------------------------------------


def _plain(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An operator without attributes."""
    return lambda step, *inputs: function(*inputs)


def _first(step: Step, x: Tensor, *rest: Tensor | None) -> Tensor:
    return x


TRANSLATIONS: dict[str, Callable[..., Result]] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": lambda step, x: x.to(DTYPES[step.values["to"]]),
    "Clip": _clip,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": _div,
    "Dropout": _first,
    "Elu": lambda step, x: F.elu(x, step.values.get("alpha", 1.0)),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda step, x: x.mean(list(range(2, x.dim())), keepdim=True),
    "GlobalMaxPool": lambda step, x: x.amax(list(range(2, x.dim())), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(F.hardswish),
    "Identity": _first,
    "LRN": _lrn,
    "LeakyRelu": lambda step, x: F.leaky_relu(x, step.values.get("alpha", 0.01)),
    "LogSoftmax": _softmax,
    "MatMul": _plain(torch.matmul),
    "MaxPool": _max_pool,
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "PRelu": lambda step, x, slope: x.clamp_min(0) + slope * x.clamp_max(0),
    "Pad": _pad,
    "Pow": lambda step, x, power: torch.pow(x, power).to(x.dtype),
    "ReduceMean": _reduce_mean,
    "Relu": _relu,
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": _plain(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Tanh": _plain(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


def _is_dilated(values: Attributes) -> bool:
    return any(step > 1 for step in values.get("dilations", []))


def _is_same(values: Attributes) -> bool:
    return bool(values.get("auto_pad", b"").startswith(b"SAME"))


UNSUITED: list[tuple[str, str, Callable[[Attributes], bool]]] = [
    ("AveragePool", "with dilations", _is_dilated),
    ("BatchNormalization", "in training mode", lambda values: values.get("training_mode", 0) != 0),
    ("BatchNormalization", "per position", lambda values: values.get("spatial", 1) == 0),
    ("Cast", "to another type than float, double, int32, int64 and bool", lambda values: values["to"] not in DTYPES),
    ("Conv", "with auto_pad=SAME and dilations", lambda values: _is_same(values) and _is_dilated(values)),
    ("ConvTranspose", "with auto_pad=SAME", _is_same),
    ("ConvTranspose", "with output_shape", lambda values: "output_shape" in values),
    ("LRN", "of even size", lambda values: values["size"] % 2 == 0),
    ("MaxPool", "with auto_pad=SAME and dilations", lambda values: _is_same(values) and _is_dilated(values)),
]
