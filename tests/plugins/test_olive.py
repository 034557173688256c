"""The pass of Olive, run by Olive itself where it is installed."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from reference import ops
from stages import three_sites

import aarewrite

PACKAGE = Path(__file__).parents[2] / "docs" / "olive_package.json"


def test_the_package_configuration_names_the_pass() -> None:
    entry = json.loads(PACKAGE.read_text("utf-8"))["passes"]["AntiAlias"]
    module, _, name = entry["module_path"].rpartition(".")
    source = Path(__file__).parents[2] / f"{module.replace('.', '/')}.py"
    assert f"class {name}(" in source.read_text("utf-8")


def test_olive_runs_the_pass(tmp_path: Path) -> None:
    workflows = pytest.importorskip("olive.workflows")
    onnx.save(three_sites(), tmp_path / "m.onnx")
    config = {
        "input_model": {"type": "ONNXModel", "model_path": str(tmp_path / "m.onnx")},
        "passes": {"aa": {"type": "AntiAlias", "recipe": "timm", "filter": "3"}},
        "output_dir": str(tmp_path / "out"),
        "cache_dir": str(tmp_path / "cache"),
    }
    workflows.run(config, package_config=str(PACKAGE))
    made = next((tmp_path / "out").rglob("*.onnx"))
    assert ops(onnx.load(made)) == ops(aarewrite.rewrite(three_sites(), "timm").model)
