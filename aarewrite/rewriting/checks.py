"""Checks of a rewritten model: onnx's checker, strict shape inference, and the original's inputs and outputs."""

from __future__ import annotations

import onnx

from aarewrite.errors import CheckFailed
from aarewrite.model.model_file import Model
from aarewrite.model.runtime import first_line, stdout_to_stderr
from aarewrite.model.shapes import infer


def check(original: Model, rewritten: Model) -> tuple[str, ...]:
    """Check the rewritten model with onnx's checker and strict shape inference, and its inputs and outputs against
    the original's. What the original already fails is a warning.

    Raises:
        CheckFailed: The rewrite made a valid model invalid, or changed its signature.
    """
    warnings = []
    for name, step in (("onnx.checker", _onnx_checker), ("strict shape inference", _strict_inference)):
        problem = step(rewritten)
        if problem and step(original):
            warnings.append(f"the original already fails {name}: {problem}")
        elif problem:
            raise CheckFailed(f"the rewritten model fails {name}: {problem}")
    for kind in ("input", "output"):
        before, after = (getattr(m.proto.graph, kind) for m in (original, rewritten))
        if [v.SerializeToString() for v in before] != [v.SerializeToString() for v in after]:
            raise CheckFailed(f"the rewritten model's {kind}s differ in name, type or shape")
    return tuple(warnings)


def _onnx_checker(model: Model) -> str:
    """The checker's complaint, "" if none. Weights that are not in the proto are shown to it as graph inputs."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.readable)
    external = onnx.TensorProto.EXTERNAL
    stubs = [tensor for tensor in proto.graph.initializer if tensor.data_location == external]
    inputs = {value.name for value in proto.graph.input}
    for tensor in stubs:
        if tensor.name not in inputs:
            shape = list(tensor.dims)
            proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, shape))
    names = {tensor.name for tensor in stubs}
    inline = [tensor for tensor in model.proto.graph.initializer if tensor.name not in names]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(inline)
    try:
        with stdout_to_stderr():  # it announces experimental operators there
            onnx.checker.check_model(proto)
    except Exception as error:  # ValidationError, and RuntimeError from the C++ side
        return first_line(error)
    return ""


def _strict_inference(model: Model) -> str:
    try:
        infer(model.readable, strict=True)
    except Exception as error:
        return first_line(error)
    return ""
