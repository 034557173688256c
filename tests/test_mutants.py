"""Mutants of small models: each is rewritten and proven, left as it is, or refused, and every third verified.

`benchmarks/fuzz.py` and `benchmarks/fuzz_guided.py` go on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from mutations import mutant
from reference import build, function, functions, weight

import aarewrite
from aarewrite.errors import AarewriteError
from aarewrite.verification import verify
from aarewrite.verification.protocols import PROTOCOLS

NETS: dict[str, Callable[[], onnx.ModelProto]] = {
    "plain": lambda: build(
        """(float[N, 2, H, W] x) => (float[N, 4, 1, 1] y) {
            [conv] a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)
            b = Relu(a)
            [pool] c = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(b)
            d = Shape(c)
            e = Reshape(c, d)
            y = GlobalAveragePool(e)
        }""",
        w=weight(4, 2, 3, 3),
    ),
    "branches": lambda: build(
        """(float[1, 2, 16, 16] x, bool c) => (float[1, 2, 8, 8] y) {
            a = Relu(x)
            y = If<
                then_branch = t () => (float[1, 2, 8, 8] p) { p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a) },
                else_branch = e () => (float[1, 2, 8, 8] q) { q = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(a, w) }
            >(c)
        }""",
        w=weight(2, 2, 3, 3),
    ),
    "small maps": lambda: build(
        """(float[1, 2, 6, 6] x) => (float[1, 2, 2, 2] y, float[1, 2, 12, 12] z) {
            a = Conv<pads = [1, 1, 1, 1]>(x, w)
            [pool] y = MaxPool<kernel_shape = [3, 3], strides = [3, 3]>(a)
            z = Resize<mode = "nearest">(a, , s)
        }""",
        w=weight(2, 2, 3, 3),
        s=np.float32([1, 1, 2, 2]),
    ),
    "function": lambda: functions(
        "y = f.Down(x)", function("Down", "a = Relu(x) [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)")
    ),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("part", range(4))
def test_every_mutant_gets_an_answer(tmp_path: Path, name: str, part: int) -> None:
    data = NETS[name]().SerializeToString()
    answers = set()
    for number in range(part * 30, part * 30 + 30):
        file = tmp_path / "mutant.onnx"
        file.write_bytes(mutant(data, [7, number]))
        try:
            answers.add(aarewrite.rewrite(file).changed)
            if number % 3 == 0:
                verify(file, "synthetic:2", protocols=(PROTOCOLS[number // 3 % len(PROTOCOLS)],), batch=2)
        except AarewriteError as error:
            answers.add(error.exit_status)
    assert len(answers) > 1  # not all alike: the mutations go deep enough, and not too deep


def test_a_mutant_is_the_same_for_the_same_seed() -> None:
    data = NETS["plain"]().SerializeToString()
    assert mutant(data, [7, 3]) == mutant(data, [7, 3])
    assert len({mutant(data, [7, number]) for number in range(20)}) > 15
