"""onnx's own tests and skeletons of known networks go through: rewritten and proven, as they were, or refused for their
opset. The benchmark of this name takes all of the node tests; these are those of the operators that sample."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.backend.test
import onnx.version_converter
import pytest

import aarewrite

FILES = Path(onnx.backend.test.__file__).parent / "data"
NODES = "onnx.backend.test.case.node"
# the modules of the node tests; importing one makes its models
OPERATORS = (
    "averagepool", "bernoulli", "compress", "conv", "convinteger", "convtranspose", "deformconv", "depthtospace",
    "dequantizelinear", "dropout", "gather", "globalaveragepool", "globalmaxpool", "lppool", "maxpool", "maxunpool",
    "nonmaxsuppression", "nonzero", "pad", "qlinearconv", "quantizelinear", "resize", "sequence_map", "slice",
    "spacetodepth", "stft", "unique", "upsample", "if", "loop", "scan",
)  # fmt: skip
PROVEN, UNCHANGED = "rewritten and proven", "unchanged"


def outcome(model: onnx.ModelProto) -> str:
    result = aarewrite.rewrite(model, first_conv=True)
    if result.plan.changes:
        assert result.proof is not None
        assert not aarewrite.plan(result.model, first_conv=True).changes
        return PROVEN if result.proof.passed else "not proven"
    return UNCHANGED if result.model.SerializeToString() == model.SerializeToString() else "changed without a rewrite"


def node_models() -> Iterator[onnx.ModelProto]:
    package = importlib.import_module(NODES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, of what the tests calculate
        for _, name, _ in pkgutil.iter_modules(package.__path__):
            if name.rstrip("_") in OPERATORS:  # what is a keyword of Python has an underscore in newer versions of onnx
                importlib.import_module(f"{NODES}.{name}")
    yield from (case.model for case in package._NodeTestCases)


def test_node_tests_of_operators_that_sample() -> None:
    found = Counter(map(outcome, node_models()))
    assert found.keys() == {PROVEN, UNCHANGED}
    assert found[PROVEN] >= 15
    assert found[UNCHANGED] >= 200


def test_models_of_other_kinds() -> None:
    found = Counter[str]()
    for file in FILES.rglob("*.onnx"):
        if file.parent.name == "light":
            continue
        model = onnx.load(file)
        if any(one.version < 7 for one in model.opset_import if one.domain == ""):
            with pytest.raises(aarewrite.CannotHandle, match=r"opset \d is older than 7; convert it with"):
                outcome(model)
            model = onnx.version_converter.convert_version(model, 13)
        found[outcome(model)] += 1
    assert found.keys() == {PROVEN, UNCHANGED}
    assert found[PROVEN] >= 18
    assert found.total() >= 140


@pytest.mark.parametrize("name", sorted(file.stem for file in (FILES / "light").glob("*.onnx")))
def test_skeletons_of_known_networks(name: str) -> None:
    """Their proofs at 224x224 are the benchmark's; the smallest stands for them here."""
    result = aarewrite.rewrite(FILES / "light" / f"{name}.onnx", first_conv=True, verify="squeezenet" in name)
    assert len(result.plan.rewrites) >= 3
    assert all(planned.match or planned.reason for planned in result.plan.sites)
    assert not aarewrite.plan(result.model, first_conv=True).changes
