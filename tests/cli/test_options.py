"""Options that would do nothing are refused in one line that names them and their owner."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import aa, failed, small_net


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_net(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    "options", [["--filter", "3"], ["--recipe", "timm"], ["--only", "conv"], ["--first-conv"], ["--no-first-conv"]]
)
def test_plan_excludes_recipe_options(path: Path, tmp_path: Path, options: list[str]) -> None:
    plan = tmp_path / "plan.json"
    aa(path, "--dry-run", "--json", plan)
    failed(aa(path, "--plan", plan, *options), 2, "--plan and --", "exclude each other")
