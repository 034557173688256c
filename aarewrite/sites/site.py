"""The values that finding sites gives: everything that a pass needs to decide without looking at the graph."""

from __future__ import annotations

from dataclasses import dataclass

from aarewrite.model.graph import Scope
from aarewrite.model.types import Node
from aarewrite.sites.regions import Region
from aarewrite.windows import Axes, Sizes, Window, x

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
    """An operator that samples, with everything that decides about it."""

    scope: str  # name of the graph, subgraph or function it is in, "" for the main graph
    node: str  # its name, or its first output's where it has none of its own
    op: str  # ONNX operator
    kind: str  # "max_pool", "average_pool" or "conv"
    window: Window  # kernel, strides, dilations and pads as written
    dense: Window | None  # the same with explicit pads for running at stride 1; None where there is an obstacle
    obstacle: str  # why it cannot be rewritten at all, "" if it can
    input_channels: int | None  # None where unknown
    channels: int | None  # of its output, None where unknown
    group: int  # of a convolution
    input_size: Sizes  # spatial, None where symbolic
    output_size: Sizes
    dtype: int  # ONNX element type of the blurred map
    input_dtype: int  # ONNX element type of the operator's input
    stride_so_far: Axes | None  # product of the strides in front of it, per axis; None where unknown
    count_include_pad: bool = False  # of an AveragePool
    activation: bool = False  # whether a nonlinearity lies between it and its blur point
    normalised: bool = False  # whether an explicit BatchNormalization follows a Conv
    ends_in_add: bool = False  # whether its result goes straight to an Add with another branch
    first_conv: bool = False  # whether no other convolution lies between it and the model's input
    bias: bool = False  # whether a Conv has one
    fused_bias: bool = False  # whether it is the shift of a BatchNormalization that a PyTorch exporter folded in
    blurred_before: bool = False  # whether a blur is there already
    blurred_after: bool = False
    quantised: str = ""  # "" for float maps, "qdq" in Quantize/Dequantize pairs, "qlinear" for QLinear operators

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
    """Something else that samples or has sampled: reported, never rewritten. Fields as in `Site`."""

    scope: str
    node: str
    op: str
    reason: str  # what it is and what is possible
    input_size: Sizes = ()
    output_size: Sizes = ()
    stride_so_far: Axes | None = None

    @property
    def says(self) -> str:
        """The table's words."""
        return self.reason


@dataclass(frozen=True)
class ExistingBlur(Source):
    """A blur that is in the model already."""

    kernel: Axes = ()  # taps per spatial axis
    strides: Axes = ()
    taps: tuple[tuple[float, ...], ...] | None = None  # along each axis, sum 1; None where the kernel is no product
    begin: Axes = ()  # pads, those of Pad nodes and the convolution's own; () where they depend on the input
    end: Axes = ()
    pad: str = ""  # "reflect", "edge", "wrap" or "zero"; "" without pads, "computed" where they depend on the input
    placement: str = "alone"  # "after" or "before" the operator `of`
    of: str = ""

    @property
    def says(self) -> str:
        """The table's words."""
        words = ["taps that are no product of two filters" if self.taps is None else _written(self.taps)]
        if any((*self.begin, *self.end)):
            words.append(f"{self.pad} pads {' and '.join(map(x, dict.fromkeys((self.begin, self.end))))}")
        elif self.pad:
            words.append(f"{self.pad} pads")
        if self.of:
            words.append(f"{self.placement} {self.of}")
        return f"{self.reason} ({', '.join(words)})"


def _written(taps: tuple[tuple[float, ...], ...]) -> str:
    """Taps per axis, once where they are alike; whole numbers where they are such numbers times one factor."""
    axes = []
    for axis in taps:
        least = min((abs(tap) for tap in axis if abs(tap) > 1e-6), default=1.0)
        whole = [tap / least for tap in axis]
        exact = all(abs(tap - round(tap)) < 1e-2 for tap in whole)
        axes.append(
            " ".join(str(round(tap)) if exact else f"{value:.3g}" for tap, value in zip(whole, axis, strict=True))
        )
    return "taps " + " by ".join(dict.fromkeys(axes))


@dataclass(frozen=True)
class Located:
    """A site together with its place in an edited graph."""

    site: Site
    scope: Scope
    node: Node
    region: Region
