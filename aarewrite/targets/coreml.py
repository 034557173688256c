"""What ONNX Runtime's CoreML provider takes as an ML Program: its table, its notes and what its builders check."""

from __future__ import annotations

from aarewrite.targets.conditions import POOLS, first_not_constant, pool_lacks
from aarewrite.targets.seen import Lack, Seen
from aarewrite.targets.table import read_table

RESHAPE = "reshape around it"
OLDEST = {"Pad": 11, "Slice": 10}  # versions of operators before these have attributes in place of inputs
CONSTANT = {  # inputs that must be constants: where they begin, and their names
    "BatchNormalization": (1, ("scale", "B", "mean", "var")),
    "Conv": (2, ("bias",)),
    "ConvTranspose": (1, ("weight", "bias")),
    "Gemm": (1, ("B",)),
    "Pad": (1, ("pads", "constant_value", "axes")),
    "Slice": (1, ("starts", "ends", "axes", "steps")),
    "Split": (1, ("split",)),
}


def lacks(node: Seen) -> Lack | None:
    """Why the CoreML provider leaves a node to the CPU; None where it takes it."""
    table = read_table("coreml")
    return table.lacks(node) or _lacks(node, table.runtime)


def _lacks(node: Seen, runtime: str) -> Lack | None:
    dims = node.dims(0)
    if node.version < OLDEST.get(node.op, 1):
        oldest = OLDEST[node.op]
        return Lack(f"{runtime} takes {node.op} from opset {oldest}", f"export with opset {oldest} or newer")
    first, names = CONSTANT.get(node.op, (1, ()))
    if name := first_not_constant(node, range(first, first + len(names)), names):
        return Lack(f"{runtime} needs a constant {name}", "fold the model's constants first")
    if node.op in POOLS:
        return pool_lacks(node, runtime, (2,))
    if node.op in ("BatchNormalization", "GlobalAveragePool", "GlobalMaxPool", "GridSample") and dims is not None:
        return None if len(dims) == 4 else Lack(f"{runtime} takes {node.op} of rank 4, not {len(dims)}", RESHAPE)
    if node.op == "Conv" and dims is not None and len(dims) > 4:
        return Lack(f"{runtime} takes no convolution in {len(dims) - 2} dimensions", "use another --target")
    if node.op == "ConvTranspose" and node.text("auto_pad").startswith("SAME"):
        return Lack(f"{runtime} takes no ConvTranspose with auto_pad", "write its pads out")
    if node.op == "Slice" and (dims is None or not all(isinstance(d, int) for d in dims)):
        return Lack(f"{runtime} slices maps of known sizes alone", "export with all sizes fixed, the batch too")
    if node.op == "Pow" and "float16" in (node.type(0), node.type(1)):
        return Lack(f"{runtime} takes Pow of float alone", "write the power as a product")
    return _pad_lacks(node, runtime) if node.op == "Pad" else None


def _pad_lacks(node: Seen, runtime: str) -> Lack | None:
    """A Pad in a mode other than constant was left to the CPU until
    https://github.com/microsoft/onnxruntime/pull/28073 (April 2026) gave ML Programs reflect."""
    mode, pads = node.text("mode", "constant"), node.value(1)
    if mode != "constant":
        return Lack(
            f"{runtime} has no Pad in mode {mode} before May 2026",
            "--target coreml writes blurs without one where it can, --pad zero everywhere",
        )
    if pads is not None and (pads < 0).any():
        return Lack(f"{runtime} takes no negative pads", "slice instead")
    return None
