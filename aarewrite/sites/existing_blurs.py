"""Recognising blurs that are in a model already, so that nothing is ever blurred twice, and wavelets."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from aarewrite.filters import is_blur_kernel
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import Model, recorded
from aarewrite.model.types import Array, Node, Tensor, integer, ints
from aarewrite.sites.regions import QUANTISATION
from aarewrite.windows import Window

BLURS = "aarewrite.blurs"  # key of the metadata: name of each blur's node -> where it comes from


def weight_of(node: Node) -> Tensor:
    """The weight of a Conv or QLinearConv."""
    return node.inputs[3 if node.op == "QLinearConv" else 1]


def is_blur(editor: GraphEditor, node: Node) -> bool:
    """Whether a convolution is a depthwise low-pass filter, at any stride."""
    if node.op not in ("Conv", "QLinearConv"):
        return False
    shape = editor.constant_shape(weight_of(node))
    if shape is None or len(shape) < 3 or shape[:2] != (integer(node, "group", 1), 1) or prod(shape[2:]) > 4096:
        return False
    kernel = _kernel(editor, node)
    return kernel is not None and is_blur_kernel(kernel)


def is_recorded(editor: GraphEditor, node: Node) -> bool:
    """Whether a node is part of a blur that an earlier run wrote: of what is no convolution, only its record tells."""
    return any(node.name.startswith(f"{name.rpartition('/')[0]}/") for name in recorded(editor.model, BLURS))


def samplers(model: Model) -> dict[str, tuple[int, ...]]:
    """The last nodes of the filters of an earlier run that are no convolutions, and what these filters sample by."""
    made = recorded(model, BLURS)
    steps = {name: one.get("samples_by") for name, one in made.items() if isinstance(one, dict)}
    written = {name: by for name, by in steps.items() if isinstance(by, list) and by}  # whatever a file may hold
    return {name: tuple(by) for name, by in written.items() if all(type(step) is int for step in by)}


def produced_by_blur(editor: GraphEditor, tensor: Tensor) -> bool:
    """Whether a tensor is the output of a stride-1 blur that does filter (more than one tap)."""
    producer = tensor.inputs[0] if tensor.inputs else None
    if producer is not None and (strides := samplers(editor.model).get(producer.name)):
        return max(strides) == 1
    if producer is not None and producer.op in QUANTISATION:
        return produced_by_blur(editor, producer.inputs[0])
    if producer is None or not is_blur(editor, producer):
        return False
    strided = any(s > 1 for s in ints(producer, "strides"))  # it belongs to the sampling in front of it
    return not strided and prod((editor.constant_shape(weight_of(producer)) or ())[2:]) > 1


def read_by_blurs(editor: GraphEditor, tensor: Tensor) -> bool:
    """Whether every reader of a tensor is a blur, directly or behind a Pad or a Dequantize step."""
    readers = list(_through(tensor))
    return bool(readers) and all(is_blur(editor, node) or is_recorded(editor, node) for node in readers)


def is_wavelet(editor: GraphEditor, node: Node, window: Window) -> bool:
    """Haar analysis: kernel and stride 2, every tap of the same magnitude, orthonormal."""
    if node.op != "Conv" or window.kernel != window.strides or set(window.kernel) != {2}:
        return False
    kernel = editor.constant_value(node.inputs[1])
    if kernel is None or kernel.shape[1] != 1:
        return False
    return bool((abs(abs(kernel.astype("float64")) - prod(window.kernel) ** -0.5) < 1e-3).all())


def _kernel(editor: GraphEditor, node: Node) -> Array | None:
    """A convolution's constant weight as real numbers, None where it is computed."""
    if node.op == "Conv":
        return editor.constant_value(node.inputs[1])
    weight, scale, zero = (editor.constant_value(tensor) for tensor in node.inputs[3:6])
    if weight is None or scale is None or zero is None or scale.size != 1:
        return None
    return np.asarray((weight.astype("float64") - zero) * scale)


def _through(tensor: Tensor) -> Iterator[Node]:
    for node in tensor.outputs:
        if node.op in ("Pad", "DequantizeLinear"):
            yield from _through(node.outputs[0])
        else:
            yield node
