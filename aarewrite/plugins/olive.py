"""A pass of Olive, which imports this file by the name in its package configuration (docs/deployment.md)."""

from __future__ import annotations

from typing import Any

from olive.hardware import AcceleratorSpec
from olive.model import ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.passes import Pass
from olive.passes.onnx.common import get_external_data_config, model_proto_to_olive_model
from olive.passes.pass_config import BasePassConfig, PassConfigParam

from aarewrite.rewriting.pipeline import rewrite

TEXTS = {
    "recipe": "A built-in recipe's name, or a TOML file.",
    "filter": "Taps of the blur, 1..7, or a filter's name.",
    "pad": "Padding of the blur: reflect, edge or zero.",
    "target": "The runtime whose form blurs take.",
}


class AntiAlias(Pass):  # type: ignore[misc]  # Olive has no types
    """Anti-aliased downsampling, proven to be in its place."""

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        default = {"recipe": "aligned"}
        own = {
            name: PassConfigParam(type_=str, default_value=default.get(name), description=text)
            for name, text in TEXTS.items()
        }
        return {**own, **get_external_data_config()}

    def _run_for_config(
        self, model: ONNXModelHandler, config: type[BasePassConfig], output_model_path: str
    ) -> ONNXModelHandler:
        given: dict[str, Any] = {name: getattr(config, name) for name in TEXTS}
        taps = given["filter"]
        given["filter"] = int(taps) if taps and taps.isdecimal() else taps
        result = rewrite(model.load_model(), given.pop("recipe"), **given)
        return model_proto_to_olive_model(result.model, resolve_onnx_path(output_model_path), config)
