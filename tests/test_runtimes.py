"""Rewritten sample models in other runtimes, by the very script that makes the table in docs/deployment.md."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from reference import build

import aarewrite

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "runtimes.py"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("runtimes", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runtimes = script()


@pytest.fixture(params=["reference_evaluator", "openvino"])
def runtime(request: pytest.FixtureRequest) -> str:
    if request.param == "openvino":
        pytest.importorskip("openvino", reason="the extra aarewrite[openvino] is not installed")
    return str(request.param)


@pytest.mark.parametrize("name", runtimes.SAMPLES)
def test_a_rewritten_sample_model_is_the_same_there(name: str, runtime: str) -> None:
    model = aarewrite.rewrite(runtimes.sample(name), verify=False).model
    found = runtimes.difference(getattr(runtimes, runtime), model, runtimes.random_feeds(model))
    assert 0 < found <= runtimes.LARGEST


@pytest.mark.parametrize("form", runtimes.FORMS)
def test_every_form_of_blur_is_the_same_there(form: str, runtime: str) -> None:
    model = aarewrite.rewrite(runtimes.small_net(), verify=False, first_conv=True, **runtimes.FORMS[form]).model
    assert runtimes.difference(getattr(runtimes, runtime), model, runtimes.random_feeds(model)) <= runtimes.LARGEST


@pytest.mark.parametrize("kind", runtimes.KINDS)
def test_other_kinds_of_models_run_in_openvino(kind: str) -> None:
    pytest.importorskip("openvino", reason="the extra aarewrite[openvino] is not installed")
    model = aarewrite.rewrite(runtimes.KINDS[kind](), verify=False, first_conv=True).model
    limit = {"float16": runtimes.LARGEST_HALF, "int8 (QDQ)": 0.1}.get(kind, runtimes.LARGEST)
    assert runtimes.difference(runtimes.openvino, model, runtimes.random_feeds(model)) <= limit


def test_a_difference_is_found() -> None:
    """The comparison itself: another factor, another name, another shape."""
    model, feeds = (
        build("(float[4] x) => (float[] y) { y = Mul(x, s) }", s=np.float32(2)),
        {"x": np.ones(4, np.float32)},
    )

    def runs(text: str, **constants: object) -> object:
        other = build(text, **constants)  # type: ignore[arg-type]
        return lambda _, given: runtimes.onnx_runtime(other, given)

    assert (
        runtimes.difference(runs("(float[4] x) => (float[] y) { y = Mul(x, s) }", s=np.float32(3)), model, feeds) == 0.5
    )
    for text in (
        "(float[4] x) => (float[] z) { z = Relu(x) }",
        "(float[4] x) => (float[1, 4] y) { y = Reshape(x, s) }",
    ):
        with pytest.raises(RuntimeError, match="outputs of other names or shapes"):
            runtimes.difference(runs(text, s=np.array([1, 4])), model, feeds)


def test_only_installed_runtimes_are_columns(tmp_path: Path) -> None:
    assert f"ONNX reference {onnx.__version__}" in runtimes.runtimes(None)
    assert not any("web" in name for name in runtimes.runtimes(tmp_path))
