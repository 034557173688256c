"""Which nodes of a model a target's runtime does not take, and why: by its documentation, without running it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

from aarewrite.errors import UsageError
from aarewrite.targets import coreml, openvino, ort_cpu, ort_cuda, tensorrt
from aarewrite.targets.seen import Lack, Seen, seen_nodes

# What a rewrite is portable to is measured on ONNX Runtime's CPU provider.
TARGETS: Mapping[str, Callable[[Seen], Lack | None]] = {
    "portable": ort_cpu.lacks,
    "ort-cpu": ort_cpu.lacks,
    "ort-cuda": ort_cuda.lacks,
    "tensorrt": tensorrt.lacks,
    "openvino": openvino.lacks,
    "coreml": coreml.lacks,
}


def unsupported(model: onnx.ModelProto, target: str) -> list[str]:
    """The nodes that a target's runtime lacks or would leave to the CPU.

    Args:
        model: Large weights may be left out (`aarewrite.model.model_file.Model.readable`).
        target: One of `TARGETS`.

    Returns:
        One line a node, in graph order: its operator and name, the reason, the next step. One line alone where the
        runtime does not take the model's opset.

    Raises:
        UsageError: There is no such target.
    """
    if target not in TARGETS:
        raise UsageError(f"target {target!r} is not one of {', '.join(TARGETS)}")
    lines = []
    for node in seen_nodes(model):
        lack = TARGETS[target](node)
        if lack and lack.of_model:
            return [f"the model's opset {node.opset}: {lack.reason}; {lack.next_step}"]
        if lack:
            lines.append(f"{node.op} {node.name!r}: {lack.reason}; {lack.next_step}")
    return lines
