"""Other operators that downsample: they are reported with what is possible, never rewritten."""

from __future__ import annotations

from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.shapes import Shapes
from aarewrite.model.types import Node, floats, in_default_domain, integer, ints, text
from aarewrite.sites.existing_blurs import is_recorded, produced_by_blur
from aarewrite.windows import Sizes


def other_source(editor: GraphEditor, shapes: Shapes, scope: Scope, node: Node) -> str:
    """What other downsampling a node does, "" if none."""
    if node.op == "Slice" and not is_recorded(editor, node):
        steps = _slice_steps(editor, node, len(shapes.of(scope, node.inputs[0]).dims or ()))
        if any(abs(step) > 1 for step in steps):
            if produced_by_blur(editor, node.inputs[0], sliced=True):
                return "keeps every n-th sample of what is blurred already: left as it is"
            listed = ",".join(map(str, steps))
            return f"a strided Slice (steps {listed}) keeps every n-th sample: blur its input in the training code"
    if node.op == "SpaceToDepth":
        return "keeps every sample but splits the phases into channels: exact only for shifts by its block size"
    if node.op in ("Resize", "Upsample"):
        before, after = (shapes.spatial(scope, t) for t in (node.inputs[0], node.outputs[0]))
        scales = _resize_scales(editor, node, before, after)
        if scales and min(scales) < 1 and not integer(node, "antialias"):
            mode = text(node, "mode", "nearest")
            if mode == "nearest" or min(scales) < 0.5:
                return f"Resize down by {min(scales):.3g} ({mode}) without antialias: set antialias=1 (opset 18)"
    if node.op == "Gather" and _regular_gather(editor, node):
        return "gathers every n-th position (patch merging): blur its input in the training code"
    foreign = not in_default_domain(node) and ("Pool" in node.op or "Conv" in node.op)
    known = node.op in ("ConvInteger", "NhwcMaxPool", "FusedConv") or foreign
    if known and "Transpose" not in node.op and "Global" not in node.op and any(s > 1 for s in ints(node, "strides")):
        return f"strided {node.domain or 'integer'} operator: rewrite the model before it is quantised or fused"
    return ""


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


def _regular_gather(editor: GraphEditor, node: Node) -> bool:
    indices = editor.constant_value(node.inputs[1]) if len(node.inputs) > 1 else None
    if indices is None or indices.ndim != 1 or indices.size < 4:
        return False
    steps = set((indices[1:].astype(int) - indices[:-1].astype(int)).tolist())
    return len(steps) == 1 and abs(steps.pop()) > 1
