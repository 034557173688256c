"""Other operators that downsample: they are reported with what is possible, never rewritten."""

from __future__ import annotations

import numpy as np

from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.shapes import Shapes
from aarewrite.model.types import Array, Node, Tensor, floats, in_default_domain, integer, ints, text
from aarewrite.sites.existing_blurs import is_recorded, produced_by_blur
from aarewrite.sites.rearranged import rearranges
from aarewrite.windows import Sizes

PHASES = "keeps every sample but splits the phases into channels: exact only for shifts by its block size"
BLOCKS = "pools blocks of a map with the reduction behind it: use AveragePool or MaxPool in the training code"
INDEXING = frozenset(("Add", "Cast", "Expand", "Identity", "Mul", "Reshape", "Sub", "Transpose", "Unsqueeze"))
MOST_STEPS = 32
MOST_TAPS = 7  # of a kernel that is gathered
FEWEST_PLACES = 4  # that a step is read from


def other_source(editor: GraphEditor, shapes: Shapes, scope: Scope, node: Node) -> str:
    """What other downsampling a node does, "" if none."""
    if not in_default_domain(node):
        return _strided(node, node.domain or "") if "Pool" in node.op or "Conv" in node.op else ""
    if node.op == "Slice" and not is_recorded(editor, node):
        steps = _slice_steps(editor, node, len(shapes.of(scope, node.inputs[0]).dims or ()))
        if any(abs(step) > 1 for step in steps):
            if produced_by_blur(editor, node.inputs[0], sliced=True):
                return "keeps every n-th sample of what is blurred already: left as it is"
            listed = ",".join(map(str, steps))
            return f"a strided Slice (steps {listed}) keeps every n-th sample: blur its input in the training code"
    if node.op == "SpaceToDepth":
        return PHASES
    if node.op == "Reshape" and (does := rearranges(editor, shapes, scope, node)):
        return f"SpaceToDepth with the Transpose behind it: {PHASES}" if does == "SpaceToDepth" else BLOCKS
    if node.op in ("Resize", "Upsample"):
        before, after = (shapes.spatial(scope, t) for t in (node.inputs[0], node.outputs[0]))
        scales = _resize_scales(editor, node, before, after)
        if scales and min(scales) < 1 and not integer(node, "antialias"):
            mode = text(node, "mode", "nearest")
            if mode == "nearest" or min(scales) < 0.5:
                return f"Resize down by {min(scales):.3g} ({mode}) without antialias: set antialias=1 (opset 18)"
    if node.op == "Gather" and (gathered := _gathered(editor, node)):
        return f"gathers {gathered}: blur its input in the training code"
    if node.op == "STFT" and (hop := _number(editor, node, 1)) > 1:
        return f"STFT takes a frame every {hop} samples: lower its frame_step and blur along time behind"
    if node.op == "DeformConv" and any(s > 1 for s in ints(node, "strides")):
        return "strided DeformConv: it samples where its offsets say; run it at stride 1 and blur in the training code"
    return _strided(node, "integer") if node.op in ("ConvInteger", "NhwcMaxPool", "FusedConv") else ""


def _strided(node: Node, kind: str) -> str:
    if "Transpose" in node.op or "Global" in node.op or not any(s > 1 for s in ints(node, "strides")):
        return ""
    return f"strided {kind} operator: rewrite the model before it is quantised or fused"


def _number(editor: GraphEditor, node: Node, place: int) -> int:
    """A constant input's first number, 0 where there is none: an opset without the operator asks for no inputs."""
    value = editor.constant_value(node.inputs[place]) if len(node.inputs) > place else None
    return int(value.reshape(-1)[0]) if value is not None and value.size else 0


def _slice_steps(editor: GraphEditor, node: Node, rank: int) -> list[int]:
    """Steps along all axes but the batch, [] where they are not constant. `rank` is 0 where it is not known."""
    if len(node.inputs) < 5:
        return []
    axes, steps = (editor.constant_value(tensor) for tensor in node.inputs[3:5])
    if steps is None:
        return []
    places = range(steps.size) if axes is None else axes.reshape(-1).tolist()
    return [int(s) for s, axis in zip(steps.reshape(-1), places, strict=False) if axis not in (0, -rank)]


def _resize_scales(editor: GraphEditor, node: Node, before: Sizes, after: Sizes) -> list[float]:
    if before and len(before) == len(after) and all(before) and all(after):
        return [b / a for a, b in zip(before, after, strict=True) if a and b]
    candidates = [editor.constant_value(t) for t in node.inputs[1:3] if t.name]
    scales = next((c for c in candidates if c is not None and c.dtype.kind == "f" and c.size >= 3), None)
    return floats(node, "scales")[2:] if scales is None else [float(s) for s in scales.reshape(-1)[2:]]


def _gathered(editor: GraphEditor, node: Node) -> str:
    """What of a map a Gather takes where it is every n-th part, "" where it is not."""
    if len(node.inputs) < 2 or integer(node, "axis") == 0:
        return ""
    indices = editor.constant_value(node.inputs[1])
    if indices is None:
        step = _range_step(editor, node.inputs[1])
        return f"positions {step} apart (unfold)" if abs(step) > 1 else ""
    step = abs(_step(indices, -1)) if indices.ndim else 0
    if step == 1 and indices.ndim == 2 and len(indices) > MOST_TAPS:  # rows are windows, not the taps of dilated ones
        step = abs(_step(indices, 0))
    elif step <= 1 or indices.shape[-1] < FEWEST_PLACES:
        return ""
    what = "every n-th position (patch merging)" if indices.ndim == 1 else f"positions {step} apart (unfold)"
    return what if step > 1 else ""


def _step(indices: Array, axis: int) -> int:
    """By how much indices grow along an axis, 0 where that differs."""
    steps = np.unique(np.diff(indices.astype(np.int64), axis=axis))
    return int(steps[0]) if steps.size == 1 else 0


def _range_step(editor: GraphEditor, tensor: Tensor) -> int:
    """The constant step of the Range that indices are calculated from, 0 where there is none."""
    waiting, left = [tensor], MOST_STEPS
    while waiting and left:
        producers, left = waiting.pop().inputs, left - 1
        for node in producers:
            if node.op == "Range" and (step := _number(editor, node, 2)):
                return step
            if node.op in INDEXING:
                waiting += node.inputs
    return 0
