"""The house itself: passes named by nobody else, one place that changes a graph, a test file for every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from aarewrite.passes import REGISTRY, SITE_PASSES, STAGE_PASSES
from aarewrite.recipe import STAGE_KEYS
from aarewrite.rewriting.pipeline import Options

ROOT = Path(__file__).parents[1]
MUTATORS = {
    "add_output", "drop_last_input", "drop_outputs", "insert_after", "insert_before", "make_write", "mark_stale",
    "remove", "remove_unread", "resize_input", "set_attributes", "set_input", "take_over",
}  # fmt: skip


def modules() -> list[Path]:
    """Every module of the package, once: passes lie beside it and are linked into it."""
    own = [path for path in (ROOT / "aarewrite").rglob("*.py") if "passes" not in path.parts]
    return sorted([*own, *(ROOT / "passes").glob("*.py")])


def outside() -> list[Path]:
    return [path for path in modules() if path.parent.name != "passes"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """The texts of a module that are no docstrings, with their lines."""
    tree = ast.parse(path.read_text("utf-8"))
    docs = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value


@pytest.mark.parametrize("path", outside(), ids=name_of)
def test_nobody_but_the_passes_spells_a_passs_name(path: Path) -> None:
    """Names of stages, keys of recipes that ask for one, classes and files of passes are spelt in passes/ alone. The
    words of the site passes are plain English ("after"): they must not be compared with. So are the options of
    `rewrite` and of the command line, which are spelt there."""
    unmistakable = {*STAGE_PASSES, *STAGE_KEYS, *(kind.__name__ for kind in REGISTRY)}
    unmistakable |= {kind.__module__.rpartition(".")[2] for kind in REGISTRY}
    unmistakable -= Options.__optional_keys__
    spelt = [f"{path.name}:{line}: {text!r}" for line, text in literals(path) if text in unmistakable]
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute | ast.alias):
            name = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "name", "")
            if name in unmistakable:
                spelt.append(f"{path.name}:{node.lineno}: {name}")
        if isinstance(node, ast.Compare):
            words = {one.value for one in ast.walk(node) if isinstance(one, ast.Constant)}
            asks = any(isinstance(one, ast.Attribute) and one.attr in ("name", "placement") for one in ast.walk(node))
            if asks and words & set(SITE_PASSES):
                spelt.append(f"{path.name}:{node.lineno}: compares with {sorted(words & set(SITE_PASSES))}")
    assert not spelt


@pytest.mark.parametrize("path", [path for path in outside() if path.name != "graph.py"], ids=name_of)
def test_only_passes_change_a_graph(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    calls = [
        node.func for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    changing = [f.attr for f in calls if f.attr in MUTATORS and "editor" in ast.unparse(f.value)]
    assert not changing


@pytest.mark.parametrize("path", sorted((ROOT / "aarewrite" / "streaming").glob("*.py")), ids=name_of)
def test_a_streaming_graph_is_written_in_one_place(path: Path) -> None:
    """It is made anew, not changed: writer.py makes it, source.py settles a copy of its own before anything is read."""
    if path.name in ("source.py", "writer.py"):
        return
    tree = ast.parse(path.read_text("utf-8"))
    calls = [
        node.func for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    making = {"CopyFrom", "append", "extend", "insert", "remove"}
    assert not [
        ast.unparse(f) for f in calls if f.attr in making and ("graph" in (at := ast.unparse(f.value)) or "proto" in at)
    ]


@pytest.mark.parametrize("path", [path for path in modules() if not path.stem.startswith("__")], ids=name_of)
def test_every_module_has_the_test_file_of_its_name(path: Path) -> None:
    parts = path.relative_to(ROOT).parts
    folder = ROOT / "tests" / Path(*parts[1:-1] if parts[0] == "aarewrite" else parts[:-1])
    assert (folder / f"test_{path.name}").is_file()
