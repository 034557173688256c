"""A benchmark as printed."""

from __future__ import annotations

import pytest

from aarewrite.show.bench_table import print_bench
from aarewrite.timing.bench import Bench, OperatorTime, Timed
from aarewrite.timing.rounds import Spread

TWO = Spread(2.0, (1.5, 2.5), (1.9, 2.1))
AFTER = Timed("after.onnx", TWO, {"x": (1, 3, 8, 8)})
BEFORE = Timed("before.onnx", Spread(1.0, (0.9, 1.1), (0.95, 1.05)), {"x": (1, 3, 8, 8)})
ROWS = (
    OperatorTime("Conv", (1, 2), (0.5, 1.25)), OperatorTime("Gemm", (1, 1), (0.5, 0.25)),
    OperatorTime("Flatten", (1, 1), (0.5, 0.501)),
)  # fmt: skip


def test_beside_another_model(capsys: pytest.CaptureFixture[str]) -> None:
    print_bench(Bench("cpu", 1, 15, AFTER, BEFORE, TWO, Spread(1.0, (1, 1), (0.99, 1.01)), ROWS, ROWS[:1]))
    out = capsys.readouterr().out
    assert "cpu, 1 thread, 15 rounds" in out
    assert (
        "ratio 2.000 [1.900, 2.100], 95 % interval of the median; before.onnx against itself 1.000 [0.990, 1.010]"
        in out
    )
    lines = [line.split() for line in out.splitlines()]
    assert ["after.onnx", "2.00", "1.50", "..", "2.50", "x", "1x3x8x8"] in lines
    assert ["Conv", "1", "->", "2", "0.500", "1.250", "+0.750"] in lines
    assert ["Gemm", "1", "0.500", "0.250", "-0.250"] in lines
    assert "Flatten" not in out  # it adds less than a hundredth of the model's time


def test_alone(capsys: pytest.CaptureFixture[str]) -> None:
    rows = (OperatorTime("Conv", (0, 2), (0.0, 1.25)),)
    print_bench(Bench("cuda", 0, 15, AFTER, None, None, None, rows, rows))
    out = capsys.readouterr().out
    assert "cuda, as many threads as cores" in out
    assert "ratio" not in out
    assert ["Conv", "2", "1.250"] in [line.split() for line in out.splitlines()]
