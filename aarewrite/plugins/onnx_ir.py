"""A pass of onnx_ir: `onnx_ir.passes.Sequential(..., aarewrite.onnx_ir_pass(), ...)`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from aarewrite.errors import CannotHandle
from aarewrite.model.model_file import load
from aarewrite.recipe import Recipe
from aarewrite.rewriting.pipeline import Options, rewrite

if TYPE_CHECKING:
    import onnx_ir


def onnx_ir_pass(recipe: str | Path | Recipe = "aligned", **options: Unpack[Options]) -> onnx_ir.passes.PassBase:
    """A functional pass that rewrites an `onnx_ir.Model` with proof, and leaves the one it is given as it is. Arguments
    as of `aarewrite.rewrite`.

    Raises:
        CannotHandle: onnx_ir is not installed. The pass itself raises `onnx_ir.passes.PassError` or, called by itself,
            what `aarewrite.rewrite` raises.
    """
    try:
        import onnx_ir
    except ImportError:
        raise CannotHandle("onnx_ir is not installed", "pip install onnx-ir") from None

    class AntiAlias(onnx_ir.passes.FunctionalPass):
        def call(self, model: onnx_ir.Model) -> onnx_ir.passes.PassResult:
            loaded = load(onnx_ir.to_proto(model))
            outside = [v.const_value for v in model.graph.initializers.values()]
            folders = {str(tensor.base_dir) for tensor in outside if isinstance(tensor, onnx_ir.ExternalTensor)}
            if len(folders) > 1:
                raise CannotHandle("the model's data is in several folders", "load it with onnx_ir.external_data")
            for folder in folders:
                loaded = dataclasses.replace(loaded, folder=Path(folder))
            result = rewrite(loaded, recipe, **options)
            made = onnx_ir.from_proto(result.model)
            for folder in folders:
                onnx_ir.external_data.set_base_dir(made.graph, folder)
            return onnx_ir.passes.PassResult(made, modified=result.changed)

    return AntiAlias()
