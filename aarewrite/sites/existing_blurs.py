"""Recognising blurs that are in a model already, so that nothing is ever blurred twice, and wavelets.

A blur is a convolution that filters every channel alone with one low-pass kernel, whatever form it takes: depthwise;
of one channel behind a Reshape that makes every channel an image of its own (the FIR of StyleGAN2); dense with a
diagonal kernel. Its kernel and its pads may be computed, as long as they are from constants.
"""

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
MOVING = frozenset(("Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"))  # change a map's shape, no sample
FEWEST_INPUTS = {"Conv": 2, "QLinearConv": 8}
LARGEST_KERNEL = 4096  # taps
LARGEST_DENSE = 2**20  # elements of a dense weight that is looked at
FARTHEST = 32  # nodes between a blur and the operator it belongs to
BORDER = "border_"  # how the names of nodes begin, inside a recorded blur, that work on its border alone


def weight_of(node: Node) -> Tensor:
    """The weight of a Conv or QLinearConv."""
    return node.inputs[3 if node.op == "QLinearConv" else 1]


def is_blur(editor: GraphEditor, node: Node) -> bool:
    """Whether a convolution is a low-pass filter of every channel alone, at any stride."""
    return blur_weight(editor, node) is not None


def is_recorded(editor: GraphEditor, node: Node) -> bool:
    """Whether a node is part of a blur that an earlier run wrote: of what is no convolution, only its record tells."""
    return _in_recorded(editor.model, node.name)


def is_border(model: Model, node: str) -> bool:
    """Whether a node, by name, works on the border of a recorded blur alone: the map does not pass through it."""
    return node.rpartition("/")[2].startswith(BORDER) and _in_recorded(model, node)


def _in_recorded(model: Model, node: str) -> bool:
    return any(node.startswith(f"{name.rpartition('/')[0]}/") for name in recorded(model, BLURS))


def samplers(model: Model) -> dict[str, tuple[int, ...]]:
    """The last nodes of the filters of an earlier run that are no convolutions, and what these filters sample by."""
    made = recorded(model, BLURS)
    steps = {name: one.get("samples_by") for name, one in made.items() if isinstance(one, dict)}
    written = {name: by for name, by in steps.items() if isinstance(by, list) and by}  # whatever a file may hold
    return {name: tuple(by) for name, by in written.items() if all(type(step) is int for step in by)}


def produced_by_blur(editor: GraphEditor, tensor: Tensor, sliced: bool = False) -> bool:
    """Whether a tensor is the output of a stride-1 blur that does filter (more than one tap), in any shape; with
    `sliced` or a part of it."""
    passed = QUANTISATION | MOVING | ({"Slice"} if sliced else frozenset())
    for _ in range(FARTHEST):
        producer = tensor.inputs[0] if tensor.inputs else None
        if producer is None:
            return False
        if strides := samplers(editor.model).get(producer.name):
            return max(strides) == 1
        if producer.op == "AveragePool" and is_recorded(editor, producer):
            return max(ints(producer, "strides")) == 1
        if producer.op not in passed:
            break
        tensor = producer.inputs[0]
    else:
        return False
    kernel = blur_weight(editor, producer)
    strided = any(s > 1 for s in ints(producer, "strides"))  # it belongs to the sampling in front of it
    return not strided and kernel is not None and kernel[0].size > 1


def read_by_blurs(editor: GraphEditor, tensor: Tensor) -> bool:
    """Whether every reader of a tensor's values is a blur, directly or behind a Pad, another shape or a Dequantize
    step."""
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


def blur_weight(editor: GraphEditor, node: Node) -> Array | None:
    """The depthwise weight (C, 1, *k) of a convolution that filters every channel alone, a low-pass filter; None for
    others."""
    if len(node.inputs) < FEWEST_INPUTS.get(node.op, len(node.inputs) + 1):
        return None
    shape, groups = editor.constant_shape(weight_of(node)), integer(node, "group", 1)
    if shape is None or len(shape) < 3 or prod(shape[2:]) > LARGEST_KERNEL:
        return None
    if shape[:2] == (groups, 1):
        kernel = _real(editor, node)
    elif groups == 1 and shape[0] == shape[1] and prod(shape[2:]) > 1 and prod(shape) <= LARGEST_DENSE:
        kernel = _diagonal(_real(editor, node))
    else:
        return None
    return kernel if kernel is not None and is_blur_kernel(kernel) else None


def _diagonal(weight: Array | None) -> Array | None:
    """The depthwise weight (C, 1, *k) that a dense one (C, C, *k) amounts to, None where it mixes channels."""
    if weight is None or weight[0, 1:].any():
        return None
    channels = range(len(weight))
    alone = weight[channels, channels]
    return alone[:, None] if np.count_nonzero(weight) == np.count_nonzero(alone) else None


def _real(editor: GraphEditor, node: Node) -> Array | None:
    """A convolution's constant weight as real numbers, None where it is computed."""
    if node.op == "Conv":
        return editor.constant_value(node.inputs[1])
    weight, scale, zero = (editor.constant_value(tensor) for tensor in node.inputs[3:6])
    if weight is None or scale is None or zero is None or scale.size != 1:
        return None
    return np.asarray((weight.astype("float64") - zero) * scale)


def value_readers(tensor: Tensor) -> list[Node]:
    """Those that read a tensor's values, not only its shape or type."""
    readers = [node for node in tensor.outputs if node.op != "Shape"]
    return [node for node in readers if node.op != "CastLike" or node.inputs[0] is tensor]


def _through(tensor: Tensor) -> Iterator[Node]:
    waiting = [tensor]
    while waiting:
        for node in value_readers(waiting.pop()):
            if node.op in MOVING | {"Pad", "DequantizeLinear"}:
                waiting.append(node.outputs[0])
            else:
                yield node
