"""One version, and one bound of each dependency, wherever they are said."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

from stages import three_sites

import aarewrite
from aarewrite import version

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = SETTINGS["project"]
BOUND = r"([\w-]+) ?>= ?([\d.]+)"


def test_it_is_the_packages() -> None:
    assert version.__version__ == aarewrite.__version__ == PROJECT["version"]


def test_the_oldest_python_is_said_alike() -> None:
    oldest = PROJECT["requires-python"].removeprefix(">=")
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert min(named, key=lambda number: int(number.removeprefix("3."))) == oldest
    assert SETTINGS["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    said = re.findall(r"Python (\d\.\d+) or newer", (ROOT / "README.md").read_text("utf-8"))
    assert said == [oldest]


def test_bounds_in_the_documentation_are_those_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    declared = [re.match(BOUND, need) for need in (*PROJECT["dependencies"], *extras["arrow"])]
    bounds = dict(found.groups() for found in declared if found)
    assert len(bounds) == len(declared)  # each has one, which `.ci/minimum` installs
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for name, least in re.findall(BOUND, page.read_text("utf-8")):
            assert bounds.get(name, least) == least, f"{page.name}: {name}>={least}"


def test_plans_and_models_carry_it() -> None:
    result = aarewrite.rewrite(three_sites(), verify=False)
    assert result.plan.to_dict()["aarewrite"] == version.__version__
    (entry,) = [entry for entry in result.model.metadata_props if entry.key == "aarewrite.version"]
    assert entry.value == version.__version__


def test_its_module_imports_nothing() -> None:
    tree = ast.parse(Path(version.__file__).read_text("utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
