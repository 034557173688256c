"""A model's graph laid open for reading: functions inlined, input sizes filled in, shapes inferred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import onnx
import onnx.inliner
import onnx.numpy_helper

from aarewrite.errors import CannotHandle
from aarewrite.model.runner import LAYOUTS, Model
from aarewrite.model.runtime import first_line
from aarewrite.model.types import Array


@dataclass(frozen=True)
class OpenGraph:
    """A private copy of a model with concrete sizes; reading only.

    Attributes:
        proto: The model, functions inlined, shapes inferred as far as they can be.
        size: Spatial size of the input.
    """

    proto: onnx.ModelProto
    size: tuple[int, ...]

    @cached_property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shape of every tensor that shape inference reached."""
        graph = self.proto.graph
        found: dict[str, tuple[int | None, ...]] = {value.name: tuple(value.dims) for value in graph.initializer}
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                found[value.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)
        return found

    @cached_property
    def producers(self) -> dict[str, onnx.NodeProto]:
        """The node that writes a tensor, by its name."""
        return {name: node for node in self.proto.graph.node for name in node.output}

    @cached_property
    def _initializers(self) -> dict[str, onnx.TensorProto]:
        return {value.name: value for value in self.proto.graph.initializer}

    def constant(self, tensor: str) -> Array | None:
        """Value of an initializer or Constant node, None for anything computed."""
        if tensor in self._initializers:
            return onnx.numpy_helper.to_array(self._initializers[tensor])
        node = self.producers.get(tensor)
        if node is not None and node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    return onnx.numpy_helper.to_array(attribute.t)
        return None

    def spatial(self, tensor: str) -> tuple[int, ...] | None:
        """Spatial extents of a channels-first tensor, None when unknown or of another rank."""
        shape = self.shapes.get(tensor)
        if shape is None or len(shape) != len(self.size) + 2:
            return None
        extents = [extent for extent in shape[2:] if extent]
        return tuple(extents) if len(extents) == len(self.size) else None


def open_graph(model: Model, size: Sequence[int], batch: int = 1) -> OpenGraph:
    """Copy a model's graph, give its inputs concrete sizes and infer shapes.

    Raises:
        CannotHandle: The model is too large or not sound enough for shape inference.
    """
    try:
        if isinstance(model.source, onnx.ModelProto):
            proto = onnx.ModelProto()
            proto.CopyFrom(model.source)
        else:
            proto = onnx.load(str(model.source))
        if proto.functions:
            proto = onnx.inliner.inline_local_functions(proto)
        specs = {spec.name: spec for spec in model.image_inputs}
        for value in proto.graph.input:
            if value.name in specs:
                spec = specs[value.name]
                dims = value.type.tensor_type.shape.dim
                dims[0].dim_value = spec.batch or batch
                for axis, extent in zip(LAYOUTS[spec.layout][1], size, strict=True):
                    dims[axis].dim_value = extent
        del proto.graph.value_info[:]  # shapes stated for another size would contradict
        for value in proto.graph.output:
            for dim in value.type.tensor_type.shape.dim:
                if dim.HasField("dim_param") or dim.dim_value <= 0:
                    dim.Clear()
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        return OpenGraph(inferred, tuple(size))
    except Exception as error:  # protobuf, checker and inference errors share no base
        raise CannotHandle(
            f"{model.label}: its graph cannot be read: {first_line(error)}", "run onnx.checker on the model"
        ) from None
