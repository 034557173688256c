"""Pads, kernels and shapes that are computed, though from constants and known sizes alone -> constants.

PyTorch's TorchScript exporter computes even static pads at run time (Constant, ConstantOfShape, Concat, Reshape,
Slice, Transpose, Cast); shapes behind such a Pad stay unknown, and runtimes refuse it. Where blurs were in the model
before, their kernels may be computed too (Expand, Tile, a Gaussian from its sigma), and the shapes and crops in front
and behind. Everything else stays as the user has it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import onnx

from aarewrite.model.constants import Constants
from aarewrite.model.graph import GraphEditor
from aarewrite.model.types import Array, Tensor
from aarewrite.passes.contract import GraphPass, Rewritten
from aarewrite.sites.existing_blurs import is_blur, is_recorded
from aarewrite.sites.reading import Reading
from aarewrite.sites.regions import QUANTISATION

TOLD = ("Pad", "Reshape", "Slice", "Squeeze", "Unsqueeze")  # what they do to a map is an input


class FoldParameters(GraphPass):
    """Computed pads, kernels and shapes -> constants."""

    told = "computed pads, kernels and shapes of the blurs that are there become constants"

    def apply(self, reading: Reading, rewritten: Sequence[Rewritten]) -> int:
        """Fold the parameters that are computed and can be known now."""
        editor = reading.editor
        nodes = [node for scope in editor.scopes for node in scope.nodes]
        blurs = {id(node) for node in nodes if node.op == "Conv" and is_blur(editor, node)}
        given = any(id(node) in blurs and not is_recorded(editor, node) for node in nodes)
        told = [node for node in nodes if node.op in (TOLD if given else ("Pad",)) or (given and id(node) in blurs)]
        computed = {id(tensor): tensor for node in told for tensor in node.inputs[1:] if _computed(tensor)}
        if not computed:
            return 0
        constants = editor.constants(lambda *place: dataclasses.astuple(reading.shapes.of(*place)))
        values = [(tensor, _value(constants, tensor)) for tensor in computed.values()]  # of the graph as it was read
        known = [(tensor, value) for tensor, value in values if value is not None]
        for tensor, value in known:
            _fold(editor, tensor, value)
        return len(known)


def _computed(tensor: Tensor) -> bool:
    """Whether a tensor is neither an initializer nor a Constant node as it is."""
    return bool(tensor.inputs) and tensor.inputs[0].op != "Constant"


def _value(constants: Constants, tensor: Tensor) -> Array | None:
    """The value that a tensor always has; None where it is quantised, not known, or a scalar, which others may read."""
    quantised = any(node.op in QUANTISATION for node in constants.chain(tensor))
    value = None if quantised else constants.value(tensor)
    return None if value is None or not value.ndim else value


def _fold(editor: GraphEditor, tensor: Tensor, value: Array) -> None:
    """Give all readers of a tensor a constant in its place."""
    dtype = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    constant = editor.constant(editor.home(tensor.inputs[0]), f"{tensor.name}/folded", value, dtype)
    for reader in list(tensor.outputs):
        for index in [k for k, source in enumerate(reader.inputs) if source is tensor]:
            editor.set_input(reader, index, constant)
    editor.remove_unread(tensor)
