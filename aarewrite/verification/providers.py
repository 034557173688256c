"""Which execution providers this machine has, and which nodes really ran on them."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aarewrite.data.arrays import Array
from aarewrite.errors import CannotHandle
from aarewrite.model.runner import EXECUTION_PROVIDERS, Model


@dataclass(frozen=True)
class Placement:
    """Where the nodes of one run were executed."""

    model: str  # label of the model
    provider: str  # `cpu` or `cuda`: what was asked for
    counts: Mapping[str, int]  # nodes by execution provider (after ONNX Runtime's own fusions)
    fallen_back: tuple[str, ...]  # `name (operator)` of the nodes that ran on the CPU although CUDA was asked for
    milliseconds: float  # time of one run, the best of three, with the given batch


def node_placement(model: Model, provider: str, feeds: Mapping[str, Array]) -> Placement:
    """Run a model under ONNX Runtime's profiler and read where each node ran.

    Raises:
        CannotHandle: The provider is not there or the model does not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        profiled = model.twin(model.source, provider, profile=Path(folder) / "profile")
        times = []
        for _ in range(3):
            start = time.perf_counter()
            profiled.run(feeds)
            times.append((time.perf_counter() - start) * 1e3)
        events = json.loads(Path(profiled.session.end_profiling()).read_text(encoding="utf-8"))
    nodes = {
        event["name"].removesuffix("_kernel_time"): (event["args"]["provider"], event["args"]["op_name"])
        for event in events
        if event.get("cat") == "Node" and event.get("args", {}).get("provider")
    }
    if not nodes:
        raise CannotHandle(f"{model.label}: ONNX Runtime's profile names no node", "report this with the model")
    wanted = EXECUTION_PROVIDERS[provider]
    fallen = tuple(f"{name} ({op})" for name, (where, op) in nodes.items() if where != wanted)
    return Placement(model.label, provider, Counter(where for where, _ in nodes.values()), fallen, min(times))
