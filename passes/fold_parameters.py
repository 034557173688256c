"""Pads, kernels and shapes that are computed, though from constants and known sizes alone -> constants.

PyTorch's TorchScript exporter computes even static pads at run time (Constant, ConstantOfShape, Concat, Reshape,
Slice, Transpose, Cast); shapes behind such a Pad stay unknown, and runtimes refuse it. Where blurs were in the model
before, their kernels may be computed too (Expand, Tile, a Gaussian from its sigma), and the shapes and crops in front
and behind. Everything else stays as the user has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from aarewrite.model.constants import Constants
from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.types import Tensor
from aarewrite.passes.contract import GraphPass, Rewritten
from aarewrite.sites.existing_blurs import is_blur, is_recorded
from aarewrite.sites.reading import Reading
from aarewrite.sites.regions import QUANTISATION

TOLD = ("Pad", "Reshape", "Slice", "Squeeze", "Unsqueeze")  # what they do to a map is an input


class FoldParameters(GraphPass):
    """Computed pads, kernels and shapes -> constants."""

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
        constants = editor.constants(lambda scope, tensor: reading.shapes.of(scope, tensor).dims)
        homes = {id(node): scope for scope in editor.scopes for node in scope.nodes}
        return sum(_folded(editor, constants, homes, tensor) for tensor in computed.values())


def _computed(tensor: Tensor) -> bool:
    """Whether a tensor is neither an initializer nor a Constant node as it is."""
    return bool(tensor.inputs) and tensor.inputs[0].op != "Constant"


def _folded(editor: GraphEditor, constants: Constants, homes: dict[int, Scope], tensor: Tensor) -> bool:
    """Give all readers of a tensor a constant in its place; False where it is quantised or its value is not known."""
    value = constants.value(tensor)
    chain = constants.chain(tensor, again=True)
    if value is None or any(node.op in QUANTISATION for node in chain):
        return False
    dtype = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    constant = editor.constant(homes[id(chain[-1])], f"{tensor.name}/folded", value, dtype)
    for reader in list(tensor.outputs):
        for index in [k for k, source in enumerate(reader.inputs) if source is tensor]:
            editor.set_input(reader, index, constant)
    for dead in reversed(chain):
        home = homes[id(dead)]
        if not any(output.outputs or home.is_output(output) for output in dead.outputs):
            editor.remove(home, dead)
    return True
