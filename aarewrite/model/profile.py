"""What ONNX Runtime's profiler recorded of the nodes that ran."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from aarewrite.model.runtime import Session

KERNEL = "_kernel_time"


@dataclass(frozen=True)
class NodeTime:
    """A node of a session's graph, after ONNX Runtime's own fusions."""

    name: str
    op: str  # operator
    provider: str  # execution provider
    milliseconds: float  # of one run, the median over the runs


def node_times(session: Session) -> list[NodeTime]:
    """End the profile of a session that was opened with one, and read its nodes in the order in which they ran."""
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    kinds: dict[tuple[str, int], tuple[str, str]] = {}
    for event in json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")):
        arguments = event.get("args", {})
        if event.get("cat") == "Node" and arguments.get("provider") and event["name"].endswith(KERNEL):
            key = event["name"].removesuffix(KERNEL), int(arguments["node_index"])  # names may be shared
            found[key].append(event["dur"] / 1e3)
            kinds[key] = arguments["op_name"], arguments["provider"]
    return [NodeTime(name, *kinds[name, at], median(times)) for (name, at), times in found.items()]
