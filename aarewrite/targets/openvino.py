"""What OpenVINO's ONNX frontend takes: its table, and the modes of Pad that it has."""

from __future__ import annotations

from aarewrite.targets.seen import Lack, Seen
from aarewrite.targets.table import read_table


def lacks(node: Seen) -> Lack | None:
    """Why OpenVINO does not take a node; None where it does."""
    table = read_table("openvino")
    if missing := table.lacks(node):
        return missing
    if node.op == "Pad" and node.text("mode") == "wrap":
        return Lack(f"{table.runtime} has no Pad in mode wrap", "concatenate slices instead")
    return None
