"""The values that finding sites gives: everything that a pass needs to decide without looking at the graph."""

from __future__ import annotations

from dataclasses import dataclass

from aarewrite.model.graph import Scope
from aarewrite.model.types import Node
from aarewrite.sites.regions import Region
from aarewrite.windows import Axes, Sizes, Window

SITE_KINDS = {
    "MaxPool": "max_pool",
    "LpPool": "max_pool",
    "AveragePool": "average_pool",
    "Conv": "conv",
    "QLinearConv": "conv",
}
INTEGERS_8 = frozenset((2, 3))  # UINT8, INT8


@dataclass(frozen=True)
class Site:
    """An operator that samples, with everything that decides about it.

    Attributes:
        scope: Name of the graph, subgraph or function it is in ("" for the main graph).
        node: Its node name, or its first output's name where the node has none of its own.
        op: ONNX operator.
        kind: "max_pool", "average_pool" or "conv".
        window: Kernel, strides, dilations and pads as written.
        dense: The same with explicit pads for running at stride 1; None where there is an obstacle.
        obstacle: Why it cannot be rewritten at all, "" if it can.
        input_channels, channels: Channels in and out, None where unknown.
        group: Convolution groups.
        input_size, output_size: Spatial sizes, None where symbolic.
        dtype: ONNX element type of the blurred map.
        input_dtype: ONNX element type of the operator's input.
        stride_so_far: Product of the strides in front of it, per axis; None where unknown.
        count_include_pad: Of an AveragePool.
        activation: Whether a nonlinearity lies between it and its blur point.
        normalised: Whether an explicit BatchNormalization follows a Conv.
        ends_in_add: Whether its result goes straight to an Add with another branch.
        first_conv: Whether no other convolution lies between it and the model's input.
        bias: Whether a Conv has a bias.
        fused_bias: Whether that bias is the shift of a BatchNormalization that a PyTorch exporter folded in.
        blurred_before, blurred_after: Whether a blur is there already.
        quantised: "" for float maps, "qdq" inside Quantize/Dequantize pairs, "qlinear" for QLinear operators.
    """

    scope: str
    node: str
    op: str
    kind: str
    window: Window
    dense: Window | None
    obstacle: str
    input_channels: int | None
    channels: int | None
    group: int
    input_size: Sizes
    output_size: Sizes
    dtype: int
    input_dtype: int
    stride_so_far: Axes | None
    count_include_pad: bool = False
    activation: bool = False
    normalised: bool = False
    ends_in_add: bool = False
    first_conv: bool = False
    bias: bool = False
    fused_bias: bool = False
    blurred_before: bool = False
    blurred_after: bool = False
    quantised: str = ""

    @property
    def strides(self) -> Axes:
        """Strides per spatial axis."""
        return self.window.strides

    @property
    def strided(self) -> bool:
        """Whether any axis is subsampled."""
        return any(stride > 1 for stride in self.strides)

    @property
    def patch_embedding(self) -> bool:
        """Whether it cuts the input into patches (kernel equals stride): the stem of a ViT or ConvNeXt."""
        alike = self.window.kernel == self.strides and all(s > 1 for s in self.strides)
        return self.kind == "conv" and alike and (self.first_conv or min(self.strides) >= 4)


@dataclass(frozen=True)
class Source:
    """Something else that samples or has sampled: reported, never rewritten.

    Attributes:
        scope, node, op: As in `Site`.
        reason: What it is and what is possible.
        input_size, output_size: Spatial sizes, None where symbolic.
        stride_so_far: As in `Site`.
    """

    scope: str
    node: str
    op: str
    reason: str
    input_size: Sizes = ()
    output_size: Sizes = ()
    stride_so_far: Axes | None = None


@dataclass(frozen=True)
class Located:
    """A site together with its place in an edited graph."""

    site: Site
    scope: Scope
    node: Node
    region: Region
