"""Every published recipe, on plain graphs from both PyTorch exporters, gives what its PyTorch package gives.

The data is made by `golden/make_golden.py`; nothing here needs torch.
"""

from __future__ import annotations

import gzip
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from golden.weights import fill_in, make_input

import aarewrite
from aarewrite.model.model_file import Model, load
from aarewrite.model.runtime import open_session

GOLDEN = Path(__file__).parent / "golden"
CASES: list[dict[str, Any]] = json.loads((GOLDEN / "cases.json").read_text())
OUTPUTS = ("logits", "map")
TOLERANCE = 1e-4


@lru_cache(maxsize=1)  # cases of one graph follow each other
def plain_model(graph: str) -> Model:
    """The graph with its weights, which are set aside once and handed to ONNX Runtime without a copy."""
    model = onnx.load_from_string(gzip.decompress((GOLDEN / "graphs" / f"{graph}.onnx.gz").read_bytes()))
    fill_in(model)
    return load(model)


@pytest.fixture(scope="module")
def expected() -> dict[str, npt.NDArray[np.float32]]:
    with np.load(GOLDEN / "expected.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_recipe_reproduces_its_pytorch_implementation(
    case: dict[str, Any], expected: dict[str, npt.NDArray[np.float32]]
) -> None:
    result = aarewrite.rewrite(plain_model(case["graph"]), verify=False, **case["arguments"])
    outputs = run(result.rewritten, case["size"])
    for name, output in zip(OUTPUTS, outputs, strict=True):
        reference = expected[f"{case['expected']}/{name}"]
        assert output.shape == reference.shape
        error = np.abs(output - reference).max() / np.abs(reference).max()
        assert error <= TOLERANCE, f"{name} differs by {error:.2g} of its scale"


def run(model: Model, size: int) -> list[npt.NDArray[np.float32]]:
    outputs = open_session(model).run(list(OUTPUTS), {"input": make_input((1, 3, size, size))})
    return [np.asarray(output) for output in outputs]
