"""What flows into each tensor: the product of the strides so far, and whether a convolution lies behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.shapes import Shapes, TensorType
from aarewrite.model.types import Node, Tensor, ints
from aarewrite.sites.existing_blurs import is_border
from aarewrite.windows import Axes, Sizes


@dataclass(frozen=True)
class State:
    """What is known of one tensor."""

    stride: Axes | None  # per axis, relative to the input; None: unknown
    convolved: bool  # whether any Conv lies behind it


START = State((), False)
# The stride behind these is told from the sizes, where they are static.
RESHAPING = frozenset(("Reshape", "Flatten", "Squeeze", "Transpose", "Gather", "Gemm", "MatMul"))
RESIZING = frozenset(("Resize", "Upsample", "DepthToSpace", "SpaceToDepth"))


class Flow:
    """A forward walk over all scopes; subgraphs see the tensors around them, functions their arguments."""

    def __init__(self, editor: GraphEditor, shapes: Shapes) -> None:
        self._states: dict[int, State] = {}
        self._editor = editor
        main = editor.scopes[0]
        self._input_sizes = [_spatial_size(shapes.of(main, tensor)) for tensor in main.graph.inputs]
        self._walk(main)

    def stride(self, tensor: Tensor, size: Sizes) -> Axes | None:
        """Product of the strides between the model's input and a tensor, per spatial axis; the ratio of the static
        sizes where a reshape lies in between."""
        stride = self._states.get(id(tensor), START).stride
        if stride is not None:
            return stride or (1,) * len(size)
        whole = next((s for s in self._input_sizes if len(s) == len(size)), None)
        if whole is None or not size or not all(whole) or not all(size):
            return None
        return tuple(round(w / n) for w, n in zip(whole, size, strict=True) if w and n)

    def convolved(self, tensor: Tensor) -> bool:
        """Whether a convolution lies between the model's input and a tensor."""
        return self._states.get(id(tensor), START).convolved

    def _walk(self, scope: Scope) -> None:
        for node in scope.nodes:
            bodies = [self._editor.subgraphs.get((id(node), name)) for name in node.attrs]
            for inner in filter(None, bodies):
                self._hand_over(*_carried(node, inner.graph.inputs))
                self._walk(inner)
                self._hand_over(inner.graph.outputs, node.outputs)
            body = self._editor.functions.get(self._editor.called(node))
            if body is not None:
                self._hand_over(node.inputs, body.graph.inputs)
                self._walk(body)
                self._hand_over(body.graph.outputs, node.outputs)
            elif not any(bodies):
                state = self._after(node)
                self._states |= {id(output): state for output in node.outputs}

    def _hand_over(self, sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
        """Pass states on; where a target is reached twice (calls, branches), what they agree on."""
        for source, target in zip(sources, targets, strict=False):
            state, known = self._states.get(id(source), START), self._states.get(id(target))
            if known is not None and known != state:
                stride = state.stride if state.stride == known.stride else None
                state = State(stride, state.convolved or known.convolved)
            self._states[id(target)] = state

    def _after(self, node: Node) -> State:
        if is_border(self._editor.model, node.name):
            return State((), True)
        inputs = [t for t in node.inputs if t.name and not self._editor.is_constant(t)]
        states = [self._states.get(id(tensor), START) for tensor in inputs]
        strides = [state.stride for state in states]
        stride = max((s for s in strides if s is not None), key=lambda s: (len(s), s), default=None)
        if not strides or strides[0] is None:
            stride = None
        if "Conv" in node.op or "Pool" in node.op:
            stride = _times(stride, ints(node, "strides"), node.op == "ConvTranspose")
        elif node.op in RESHAPING | RESIZING or (node.op == "Slice" and len(node.inputs) > 4):
            stride = None  # told from the sizes, where they are static
        return State(stride, "Conv" in node.op or any(state.convolved for state in states))


def _carried(node: Node, inputs: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """What a control-flow node hands to its body: Loop its carried values behind the iteration and condition, Scan its
    states. If hands nothing; its branches see the tensors around them."""
    if node.op == "Loop":
        return node.inputs[2:], inputs[2:]
    if node.op == "Scan":
        return node.inputs[: len(inputs)], inputs
    return (), ()


def _spatial_size(found: TensorType) -> Sizes:
    """Spatial sizes of an input, channels first or last (the smaller of the two candidates is the channels)."""
    sizes = tuple(found.dim(axis) for axis in range(1, len(found.dims or ())))
    last = len(sizes) > 1 and sizes[0] is not None and sizes[-1] is not None and sizes[-1] < sizes[0]
    return sizes[:-1] if last else sizes[1:]


def _times(stride: Axes | None, step: Sequence[int], upsampling: bool) -> Axes | None:
    if stride is None or not step:
        return stride
    before = stride or (1,) * len(step)
    if len(before) != len(step):
        return None
    pairs = list(zip(before, step, strict=True))
    if upsampling:
        return tuple(a // b for a, b in pairs) if all(a % b == 0 for a, b in pairs) else None
    return tuple(a * b for a, b in pairs)
