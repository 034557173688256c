"""Lowering: the plain blurs of a finished model take the form that a target asks for; no value changes.

Each form is proven where it is used: the plain blur and the other form, alone, run on the same random map, of the size
that the blur has in the model, or of several where that is open.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
import onnx

from aarewrite.errors import CheckFailed
from aarewrite.filters import outer
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import Model, load, recorded
from aarewrite.model.runtime import open_session
from aarewrite.model.shapes import Shapes
from aarewrite.model.types import Node
from aarewrite.options import Json
from aarewrite.passes.lowering import Lowering, PaddedBlur, padded_blurs, replace
from aarewrite.passes.lowerings import LOWERINGS
from aarewrite.rewriting.proof import Comparison, compare_arrays
from aarewrite.sites.existing_blurs import BLURS, is_recorded
from aarewrite.targets.support import unsupported

DEFAULT_TARGET = "portable"
FAST = (DEFAULT_TARGET, "ort-cpu")  # run on ONNX Runtime's CPU provider, which takes every form
TARGET = "aarewrite.target"  # key of the metadata
OPEN_SIZES = (8, 9, 11, 16)  # of maps, to prove a form at where their size is open
LARGEST_PROVEN = 2**24  # samples of a map: larger ones keep the plain form, which needs no proof
CHANNELS = 16  # to prove a form with: all are filtered alike
MOST_SAMPLES = 2**22  # of all channels of a proof, where two are not more
IR = 8
OLDEST_PAD_WITH_INPUTS = 11


@dataclass(frozen=True)
class Lowered:
    """One blur and its form."""

    node: str  # of the plain form's Conv
    form: str  # "" where it stays Pad and Conv
    comparisons: tuple[Comparison, ...] = ()  # of the form with the plain one; none where it was not proven


def lower(model: Model, original: Model, target: str | None, verify: bool = True) -> tuple[Model, tuple[Lowered, ...]]:
    """A model whose blurs have the form of a target.

    Args:
        model: The model, its blurs in their plain form.
        original: What it was made of. Without a target its own blurs stay as they are; with one they are lowered too.
        target: One of `aarewrite.targets.support.TARGETS`; None: portable.
        verify: Prove each form.

    Returns:
        The model, itself where nothing changes, and what became of every blur with a Pad.

    Raises:
        CheckFailed: A form differs from the plain one.
    """
    editor = GraphEditor(model)
    known = recorded(original, BLURS)

    def wanted(conv: Node) -> bool:
        return target is not None or (is_recorded(editor, conv) and conv.name not in known)

    if not any(node.op == "Pad" for scope in editor.scopes for node in scope.nodes):
        return model, ()
    shapes = Shapes(editor, {})
    found, origins = list[Lowered](), dict(recorded(model, BLURS))
    for blur in list(padded_blurs(editor, shapes, wanted)):
        form = _form(blur, target or DEFAULT_TARGET)
        comparisons = tuple(_parity(blur, form)) if form and verify else ()
        if wrong := next((one for one in comparisons if one.problem), None):
            raise CheckFailed(f"{blur.conv.name} as {form.name if form else ''}: {wrong.problem}", "please report it")
        found.append(Lowered(blur.conv.name, form.name if form else "", comparisons))
        if form is not None:
            name = f"{blur.name}/Conv"
            before = origins.get(name)
            origins[name] = (before if isinstance(before, dict) else {}) | {"form": form.name}
            replace(editor, blur, form)
    if not any(one.form for one in found):
        return model, tuple(found)
    editor.metadata = {BLURS: json.dumps(origins)} | ({TARGET: target} if target else {})
    return editor.export(), tuple(found)


def _form(blur: PaddedBlur, target: str) -> type[Lowering] | None:
    """The fastest form that computes the same, for a portable model of those that CUDA takes as it does the plain one;
    where others than the CPU run it, the first that they take; None: the plain one."""

    def taken(form: type[Lowering] | None, runtime: str) -> bool:
        return not unsupported(_alone(blur, blur.dtype, form), runtime)

    if prod(n or 1 for n in blur.size) > LARGEST_PROVEN:
        return None
    fitting = [form for form in LOWERINGS if form.fits(blur)]
    if target not in FAST:
        return next((form for form in (None, *fitting) if taken(form, target)), None)
    fast = [form for form in fitting if form.pays(blur)]
    if fast and target == DEFAULT_TARGET and taken(None, "ort-cuda"):
        fast = [form for form in fast if taken(form, "ort-cuda")]
    return fast[0] if fast else None


def _parity(blur: PaddedBlur, form: type[Lowering]) -> Iterator[Comparison]:
    """The form against the plain one, in a model of its own, at every size of the map to be proven."""
    dtype = blur.dtype if blur.dtype == onnx.TensorProto.DOUBLE else onnx.TensorProto.FLOAT
    samples = prod(n or max(OPEN_SIZES) for n in blur.size)
    channels = max(2, min(CHANNELS, MOST_SAMPLES // samples))
    before, after = (open_session(load(_alone(blur, dtype, one, channels))) for one in (None, form))
    rng = np.random.default_rng(0)
    for size in product(*([n] if n else OPEN_SIZES for n in blur.size)):
        x = rng.standard_normal((1, channels, *size)).astype(onnx.helper.tensor_dtype_to_np_dtype(dtype))
        yield compare_arrays(blur.target.name, *(session.run(None, {"x": x})[0] for session in (before, after)))


def _alone(blur: PaddedBlur, dtype: int, form: type[Lowering] | None, channels: int = CHANNELS) -> onnx.ModelProto:
    """A model of nothing but a blur, over some channels, in a form or in its plain one."""
    kernel = np.broadcast_to(outer(blur.taps), (channels, 1, *map(len, blur.taps)))
    weight = onnx.numpy_helper.from_array(kernel.astype(onnx.helper.tensor_dtype_to_np_dtype(dtype)), "taps")
    pads = [0, 0, *blur.begin, 0, 0, *blur.end]
    attributes: Json = {"mode": blur.mode, "pads": pads}
    amounts: list[onnx.TensorProto] = []
    if blur.scope.opset >= OLDEST_PAD_WITH_INPUTS:
        amounts = [onnx.numpy_helper.from_array(np.array(attributes.pop("pads")), "pads")]
    padding = ["x", *(tensor.name for tensor in amounts)]
    sizes = [n or f"n{axis}" for axis, n in enumerate(blur.size)]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Pad", padding, ["padded"], **attributes),
            onnx.helper.make_node("Conv", ["padded", "taps"], ["y"], "blur", strides=blur.strides, group=channels),
        ],
        "blur",
        [onnx.helper.make_tensor_value_info("x", dtype, [1, channels, *sizes])],
        [onnx.helper.make_tensor_value_info("y", dtype, None)],
        [weight, *amounts],
    )
    opsets = [onnx.helper.make_opsetid("", blur.scope.opset)]
    plain = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR)
    if form is None:
        return plain
    editor = GraphEditor(load(plain))
    for same in list(padded_blurs(editor, Shapes(editor, {}), lambda _: True)):
        replace(editor, same, form)
    return editor.export().to_proto()
