"""Nodes of a profile: by name and place, with operator, provider and the median of their runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from reference import build

from aarewrite.model.profile import NodeTime, node_times
from aarewrite.model.runtime import plain_session


def test_the_nodes_of_a_run(tmp_path: Path) -> None:
    model = build("(float[4] x) => (float[] y) { [one] a = Sin(x)  [two] y = Cos(a) }")
    session = plain_session(model, 1, profile=tmp_path / "p")
    for _ in range(3):
        session.run(None, {"x": np.zeros(4, np.float32)})
    one, two = node_times(session)
    assert (one.name, one.op, one.provider) == ("one", "Sin", "CPUExecutionProvider")
    assert (two.name, two.op) == ("two", "Cos")
    assert one.milliseconds >= 0


class Recorded:
    """A session whose profile is written by hand."""

    def __init__(self, path: Path, events: list[dict[str, object]]) -> None:
        self.path = path
        path.write_text(json.dumps(events))

    def end_profiling(self) -> str:
        return str(self.path)


def event(name: str, duration: float, index: int, **rest: object) -> dict[str, object]:
    arguments = {"op_name": "Conv", "provider": "CPUExecutionProvider", "node_index": str(index)}
    return {"cat": "Node", "name": name, "dur": duration, "args": arguments} | rest


def test_namesakes_are_told_apart_and_medians_taken(tmp_path: Path) -> None:
    events = [
        *(event("same_kernel_time", duration, 1) for duration in (1000, 9000, 2000)),
        event("same_kernel_time", 5000, 2),
        event("same_fence_before", 7, 1),
        event("model_run", 99, 1, cat="Session"),
        {"cat": "Node", "name": "other_kernel_time", "dur": 1, "args": {}},
    ]
    session = Recorded(tmp_path / "p.json", events)
    assert node_times(session) == [  # type: ignore[arg-type]
        NodeTime("same", "Conv", "CPUExecutionProvider", 2.0), NodeTime("same", "Conv", "CPUExecutionProvider", 5.0),
    ]  # fmt: skip
