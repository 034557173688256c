"""What ONNX Runtime's CUDA provider takes: its kernels, and where they are wrong."""

from __future__ import annotations

from aarewrite.targets.seen import Lack, Seen, expands
from aarewrite.targets.table import read_table

# cuDNN's pools have one pad for both ends and no dilation, and the provider dropped the rest without a word:
# https://github.com/microsoft/onnxruntime/pull/29631 (July 2026).
WRONG_POOL = "ONNX Runtime before August 2026 averages wrongly on CUDA"


def lacks(node: Seen) -> Lack | None:
    """Why the CUDA provider does not take a node, or gives wrong values; None where it is right."""
    table = read_table("ort_cuda")
    missing = table.lacks(node)
    if missing:
        return None if node.op == "Constant" or expands(node) else missing
    if node.op in ("ArgMax", "ArgMin") and node.integer("select_last_index"):
        return Lack(f"{table.runtime} has no {node.op} with select_last_index", "set it to 0")
    if node.op == "AveragePool":
        return _wrong_average(node)
    return None


def _wrong_average(node: Seen) -> Lack | None:
    pads = node.ints("pads")
    begin, end = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    if begin != end or node.text("auto_pad").startswith("SAME"):
        return Lack(f"{WRONG_POOL} where the pads of the ends differ", "pad both ends alike, or in a Conv")
    if node.integer("ceil_mode") or any(d != 1 for d in node.ints("dilations")):
        return Lack(f"{WRONG_POOL} with ceil_mode or dilations", "use a Conv instead")
    return None
