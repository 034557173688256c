"""What TensorRT's ONNX parser takes: its table and the table's restrictions."""

from __future__ import annotations

from aarewrite.targets.conditions import POOLS, pool_lacks
from aarewrite.targets.seen import Lack, Seen
from aarewrite.targets.table import read_table

RESIZED = {  # attributes of Resize and the values that are taken
    "coordinate_transformation_mode": (
        "half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners",
    ),
    "mode": ("nearest", "linear"),
    "nearest_mode": ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
    "keep_aspect_ratio_policy": ("stretch",),
}  # fmt: skip


def lacks(node: Seen) -> Lack | None:
    """Why TensorRT does not take a node; None where it does."""
    table = read_table("tensorrt")
    return table.lacks(node) or _lacks(node, table.runtime)


def _lacks(node: Seen, runtime: str) -> Lack | None:
    if node.op in POOLS:
        return pool_lacks(node, runtime, (2, 3))
    if node.op in ("QuantizeLinear", "DequantizeLinear"):
        zero = node.value(2)
        if zero is not None and zero.any():
            return Lack(f"{runtime} quantises symmetrically: the zero point must be 0", "quantise with symmetric int8")
        if node.op == "QuantizeLinear" and node.type(2) == "uint8":
            return Lack(f"{runtime} has no uint8 but in inputs and outputs", "quantise with symmetric int8")
    if node.op == "Resize":
        for name, taken in RESIZED.items():
            if node.text(name, taken[0]) not in taken:
                return Lack(f"{runtime} takes no Resize of {name} {node.text(name)}", f"use one of {', '.join(taken)}")
        if node.integer("antialias"):
            return Lack(f"{runtime} takes no Resize with antialias", "blur before the Resize instead")
    if node.op.startswith("Reduce") and node.has(1) and not node.is_constant(1):
        return Lack(f"{runtime} needs constant axes", "fold the model's constants first")
    if node.op == "ScatterND" and node.text("reduction", "none") != "none":
        return Lack(f"{runtime} takes no ScatterND with a reduction", "use another --target")
    if node.op == "TopK" and not node.integer("sorted", 1):
        return Lack(f"{runtime} takes no TopK that is not sorted", "set sorted to 1")
    if node.op == "LSTM" and (node.integer("input_forget") or node.integer("layout")):
        return Lack(f"{runtime} takes no LSTM with input_forget or layout", "set both to 0")
    if node.op in ("LayerNormalization", "BatchNormalization") and any(node.node.output[1:]):
        return Lack(f"{runtime} gives only the first output of {node.op}", "export the model for inference")
    return None
