"""One version, wherever it is said."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

from stages import three_sites

import aarewrite
from aarewrite import version


def test_it_is_the_packages() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    assert version.__version__ == aarewrite.__version__ == project["version"]


def test_plans_and_models_carry_it() -> None:
    result = aarewrite.rewrite(three_sites(), verify=False)
    assert result.plan.to_dict()["aarewrite"] == version.__version__
    (entry,) = [entry for entry in result.model.metadata_props if entry.key == "aarewrite.version"]
    assert entry.value == version.__version__


def test_its_module_imports_nothing() -> None:
    tree = ast.parse(Path(version.__file__).read_text("utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
