"""What ONNX Runtime's CPU provider takes: the kernels of the installed build."""

from __future__ import annotations

from functools import lru_cache

from aarewrite.targets.seen import Lack, Seen, as_defined, expands
from aarewrite.targets.table import Kernels, Table

OPEN_END = 2**31 - 1


def lacks(node: Seen) -> Lack | None:
    """Why the CPU provider does not take a node; None where it does."""
    return None if node.op == "Constant" or expands(node) else installed().lacks(node)


@lru_cache
def installed() -> Table:
    """The kernels of the installed ONNX Runtime's CPU provider."""
    from onnxruntime.capi import onnxruntime_pybind11_state as build

    operators: dict[tuple[str, str], tuple[Kernels, ...]] = {}
    for kernel in build.get_all_opkernel_def():
        if kernel.provider == "CPUExecutionProvider":
            first, last = kernel.version_range
            # A kernel with an open end is only looked up for the version of the operator at which it begins.
            versions = ((first, last if last < OPEN_END else first),)
            schema = as_defined(kernel.op_name, first, kernel.domain)
            kind = schema.inputs[0].type_str if schema and schema.inputs else ""
            types = {name.removeprefix("tensor(").removesuffix(")") for name in kernel.type_constraints.get(kind, ())}
            if "float" in types:
                types.add("float16")  # ONNX Runtime puts casts around it
            key = kernel.domain, kernel.op_name
            operators[key] = (*operators.get(key, ()), Kernels(frozenset(types), versions))
    return Table("ONNX Runtime's CPU provider", "install a newer onnxruntime", None, operators)
