"""Tables of the operators a runtime takes: the TOML files beside this module, and what they say of a node."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from aarewrite.targets.seen import Lack, Seen

Versions = tuple[tuple[int, int], ...]  # first and last version of an operator that each kernel takes; () for all


@dataclass(frozen=True)
class Kernels:
    """Versions and types of one operator that a runtime takes."""

    types: frozenset[str]  # of the first input, as ONNX calls them; empty for all
    versions: Versions

    def take_version(self, version: int) -> bool:
        """Whether they take the operator as it is since that opset (0: one that ONNX does not define)."""
        return not (self.versions and version) or any(first <= version <= last for first, last in self.versions)


@dataclass(frozen=True)
class Table:
    """The operators that a runtime takes."""

    runtime: str  # as messages call it
    otherwise: str  # what becomes of a node that it lacks
    opsets: tuple[int, int] | None  # the first and last of a whole model; None where operators have their own
    operators: dict[tuple[str, str], tuple[Kernels, ...]]  # domain and operator

    def lacks(self, node: Seen) -> Lack | None:
        """Why the table has no kernel for a node; None where it has, or the node's type is not known."""
        if self.opsets and not node.domain and not self.opsets[0] <= node.opset <= self.opsets[1]:
            first, last = self.opsets
            return Lack(f"{self.runtime} takes opset {first} to {last}", "export with one of these", of_model=True)
        kernels = self.operators.get((node.domain, node.op), ())
        if not kernels:
            what = f"{node.domain}.{node.op}" if node.domain else node.op
            return Lack(f"{self.runtime} has no {what}", self.otherwise)
        fitting = [one for one in kernels if one.take_version(node.version)]
        if not fitting:
            last = max(last for one in kernels for _, last in one.versions)
            step = f"export with an older opset: it has {node.op} to version {last}"
            return Lack(f"{self.runtime} has no {node.op} of version {node.version}", step)
        kind = node.type(0)
        if kind and all(one.types and kind not in one.types for one in fitting):
            taken = ", ".join(sorted(frozenset().union(*(one.types for one in fitting))))
            return Lack(f"{self.runtime} has no {node.op} of {kind}", f"it takes {taken}: convert the model's type")
        return None


@lru_cache
def read_table(name: str) -> Table:
    """The table of the runtime whose file has this name, without `.toml`."""
    data = tomllib.loads((resources.files("aarewrite.targets") / f"{name}.toml").read_text("utf-8"))
    operators: dict[tuple[str, str], tuple[Kernels, ...]] = {}
    for group in data["kernels"]:
        for entry in group["operators"]:
            op, *versions = entry.split()
            key = group.get("domain", ""), op
            kernels = Kernels(frozenset(group["types"].split()), tuple(map(_range, versions)))
            operators[key] = (*operators.get(key, ()), kernels)
    opsets = data.get("opsets")
    return Table(data["runtime"], data["otherwise"], (opsets[0], opsets[1]) if opsets else None, operators)


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)
