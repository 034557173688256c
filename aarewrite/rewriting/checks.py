"""Checks of a rewritten model: onnx's checker, strict shape inference, and the original's inputs and outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from copy import deepcopy
from functools import partial

import onnx

from aarewrite.errors import AarewriteError, CannotHandle, CheckFailed
from aarewrite.model.inference import forget, infer, unheard
from aarewrite.model.model_file import Model
from aarewrite.model.runtime import first_line, stdout_to_stderr


def check(original: Model, rewritten: Model, resized: Collection[str] = (), more_outputs: int = 0) -> tuple[str, ...]:
    """Check the rewritten model with onnx's checker and strict shape inference, and its inputs and outputs against
    the original's. What the original already fails is a warning.

    Args:
        original, rewritten: The models.
        resized: Inputs that may have another size.
        more_outputs: How many outputs there are behind the original's.

    Raises:
        CheckFailed: The rewrite made a valid model invalid, or changed its signature.
    """
    warnings = validity(original, rewritten)
    for kind in ("input", "output"):
        before, after = (
            [v.name if v.name in resized else v.SerializeToString() for v in getattr(m.proto.graph, kind)]
            for m in (original, rewritten)
        )
        if before != (after[: len(after) - more_outputs] if kind == "output" else after):
            raise CheckFailed(f"the rewritten model's {kind}s differ in name, type or shape")
    return warnings


def validity(original: Model, rewritten: Model) -> tuple[str, ...]:
    """Check a model with onnx's checker and strict shape inference; what the original already fails is a warning.

    Raises:
        CheckFailed: A valid model was made invalid.
    """
    warnings, wrong = [], unheard(original.readable)
    for name, step in (("onnx.checker", _check), ("strict shape inference", partial(_infer, wrong=wrong))):
        problem = _problem(step, rewritten)
        if problem and _problem(step, original):
            warnings.append(f"the original already fails {name}: {problem}")
        elif problem:
            raise CheckFailed(f"the rewritten model fails {name}: {problem}")
    return tuple(warnings)


@contextlib.contextmanager
def explained(model: Model) -> Iterator[None]:
    """In the block, what is not valid ONNX is no surprise: an error that nobody foresaw becomes a `CannotHandle` with
    what onnx says of the model, or with the want of memory; of a model that onnx finds no fault with, it stays."""
    try:
        yield
    except AarewriteError:
        raise
    except MemoryError:
        raise CannotHandle("the model: it takes more memory than there is", "give smaller sizes with --input") from None
    except Exception as error:
        for name, step in _steps(()):
            if problem := _problem(step, model):
                raise CannotHandle(f"the model is not valid ONNX ({name}): {problem}", "export it again") from error
        raise


def _problem(step: Callable[[Model], None], model: Model) -> str:
    """What a step raises, "" if nothing."""
    try:
        with stdout_to_stderr():  # the checker announces experimental operators there
            step(model)
    except Exception as error:  # ValidationError, InferenceError, and RuntimeError from the C++ side
        return first_line(error)
    return ""


def _check(model: Model) -> None:
    """onnx's checker; weights that are not in the proto are shown to it as graph inputs."""
    proto = deepcopy(model.readable)
    known = {value.name for value in proto.graph.input}
    inline = [tensor for tensor in proto.graph.initializer if tensor.data_location != onnx.TensorProto.EXTERNAL]
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL and tensor.name not in known:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            proto.graph.input.append(info)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(inline)
    onnx.checker.check_model(proto)


def _infer(model: Model, wrong: Collection[str]) -> None:
    """Strict inference, which does not hear what is stated of the tensors that are `wrong`."""
    proto = model.readable
    if wrong:
        proto = deepcopy(proto)
        forget(proto.graph, wrong)
    infer(proto, strict=True)


def _steps(wrong: Collection[str]) -> tuple[tuple[str, Callable[[Model], None]], ...]:
    return ("onnx.checker", _check), ("strict shape inference", partial(_infer, wrong=wrong))
