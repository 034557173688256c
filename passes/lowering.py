"""Lowerings: other forms of a blur that is written as Pad and depthwise Conv, for runtimes that refuse or are slow at
its Pad.

Every rewrite writes its blurs in that one plain form, which is what the proof's twin and the views work on. A lowering
comes last and changes no value: it is a form, not a filter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import onnx

from aarewrite.filters import axis_taps
from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.shapes import Shapes
from aarewrite.model.types import Array, Node, Tensor, ints, text
from aarewrite.sites.existing_blurs import is_blur
from aarewrite.windows import Axes, Sizes

TOLERANCE = 1e-6  # of the largest tap: float32 kernels are rounded
BLOCK = 16  # channels


@dataclass(frozen=True, eq=False)
class PaddedBlur:
    """A blur in its plain form: a Pad of constant amounts on spatial axes, read by one depthwise Conv alone.

    Attributes:
        scope, pad, conv: Where it is; it has no bias.
        taps: Of each spatial axis, float64; their outer product is the kernel of every channel.
        strides, begin, end: Per spatial axis.
        mode: "reflect" or "edge".
        channels: None where unknown.
        size: Of the map that is padded.
        dtype: Of the map, an ONNX element type.
    """

    scope: Scope
    pad: Node
    conv: Node
    taps: tuple[Array, ...]
    strides: Axes
    begin: Axes
    end: Axes
    mode: str
    channels: int | None
    size: Sizes
    dtype: int

    @property
    def source(self) -> Tensor:
        """The map."""
        return self.pad.inputs[0]

    @property
    def target(self) -> Tensor:
        """The blurred map."""
        return self.conv.outputs[0]

    @property
    def name(self) -> str:
        """What its nodes' names begin with: the folder of a blur that was written here, else one of its own."""
        own, name = self.conv.name.rpartition("/")[0], self.conv.name or self.target.name
        return own if own.endswith("/blur") else f"{name}/blur"


class Lowering(ABC):
    """Another form of a blur.

    Attributes:
        name: The word for it in reports.
    """

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def fits(cls, blur: PaddedBlur) -> bool:
        """Whether it computes the same, at every size that the map may have."""

    @classmethod
    @abstractmethod
    def pays(cls, blur: PaddedBlur) -> bool:
        """Whether ONNX Runtime's CPU provider is faster at it than at the plain form."""

    @classmethod
    @abstractmethod
    def nodes(cls, editor: GraphEditor, blur: PaddedBlur) -> list[Node]:
        """New nodes that write the blurred source, in order; the last one writes `blur.target` once the Conv is gone,
        and has no output yet."""


def blocked(blur: PaddedBlur) -> bool:
    """Whether ONNX Runtime's CPU provider keeps the map in its blocked layout (NCHWc), which a Pad leaves: a float32
    map of two axes, its channels a multiple of the largest block; other maps are pooled slower than convolved."""
    whole = blur.channels is not None and blur.channels % BLOCK == 0
    return whole and len(blur.taps) == 2 and blur.dtype == onnx.TensorProto.FLOAT


def padded_blurs(editor: GraphEditor, shapes: Shapes, wanted: Callable[[Node], bool]) -> Iterator[PaddedBlur]:
    """Every blur in its plain form whose Conv is wanted, in graph order."""
    for scope in editor.scopes:
        for node in list(scope.nodes):
            if node.op == "Conv" and wanted(node) and (found := _padded_blur(editor, shapes, scope, node)) is not None:
                yield found


def replace(editor: GraphEditor, blur: PaddedBlur, form: type[Lowering]) -> None:
    """Put a form's nodes in the place of Pad and Conv."""
    scope, target = blur.scope, blur.target
    nodes = form.nodes(editor, blur)
    editor.insert_after(scope, blur.conv, nodes)
    editor.let_go([*blur.pad.inputs[1:], *blur.conv.inputs[1:]])
    for node in (blur.conv, blur.pad):
        editor.remove(scope, node)
    nodes[-1].outputs.append(target)


def _padded_blur(editor: GraphEditor, shapes: Shapes, scope: Scope, conv: Node) -> PaddedBlur | None:
    pad = conv.inputs[0].inputs[0] if conv.inputs and conv.inputs[0].inputs else None
    if pad is None or pad.op != "Pad" or len(conv.inputs) != 2 or not is_blur(editor, conv):
        return None
    between = pad.outputs[0]
    if len(between.outputs) != 1 or scope.is_output(between) or any(ints(conv, "pads")):
        return None
    if any(d > 1 for d in ints(conv, "dilations")) or text(conv, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    kernel = editor.constant_value(conv.inputs[1])
    amounts = _amounts(editor, pad)
    mode = text(pad, "mode", "constant")
    if kernel is None or amounts is None or mode not in ("reflect", "edge"):
        return None
    spatial = kernel.ndim - 2
    rank = spatial + 2
    taps = axis_taps(kernel[0, 0], TOLERANCE)
    if taps is None or len(amounts) != 2 * rank or any((*amounts[:2], *amounts[rank : rank + 2])) or min(amounts) < 0:
        return None
    return PaddedBlur(
        scope=scope,
        pad=pad,
        conv=conv,
        taps=tuple(taps),
        strides=tuple(ints(conv, "strides", [1] * spatial)),
        begin=tuple(amounts[2:rank]),
        end=tuple(amounts[rank + 2 :]),
        mode=mode,
        channels=kernel.shape[0],
        size=shapes.spatial(scope, pad.inputs[0], spatial),
        dtype=int(onnx.helper.np_dtype_to_tensor_dtype(kernel.dtype)),
    )


def _amounts(editor: GraphEditor, pad: Node) -> list[int] | None:
    """What a Pad adds, None where it is computed, or goes to named axes alone."""
    if len(pad.inputs) < 2:
        return ints(pad, "pads") or None
    if len(pad.inputs) > 3 and pad.inputs[3].name:
        return None
    value = editor.constant_value(pad.inputs[1])
    return None if value is None else [int(amount) for amount in value.reshape(-1)]
