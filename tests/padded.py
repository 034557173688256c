"""Models of one blur in its plain form, as exporters write it, and of the same blur in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from reference import Array, build

from aarewrite.filters import outer, taps


def padded(
    size: Sequence[int | str],
    sizes: Sequence[int],
    strides: Sequence[int],
    begin: Sequence[int] | None = None,
    end: Sequence[int] | None = None,
    *,
    mode: str = "reflect",
    strength: float = 1.0,
    channels: int = 16,
    opset: int = 13,
    dtype: Any = np.float32,
    batch: int | str = 1,
) -> onnx.ModelProto:
    """Pad and depthwise Conv over a map of `channels`, centred where no pads are given."""
    n = len(sizes)
    kernel = outer(taps(k, strength) for k in sizes)
    pads = [0, 0, *(begin or [(k - 1) // 2 for k in sizes]), 0, 0, *(end or [k // 2 for k in sizes])]
    dims = ", ".join(map(str, (batch, channels, *size)))
    open_dims = ", ".join([str(batch), str(channels), *("abc"[:n])])
    kind = {np.float32: "float", np.float64: "double", np.float16: "float16"}[dtype]
    given, amounts = ("(x)", f", pads = {pads}") if opset < 11 else ("(x, pads)", "")
    return build(
        f"""({kind}[{dims}] x) => ({kind}[{open_dims}] y) {{
        [pad] padded = Pad<mode = "{mode}"{amounts}>{given}
        [blur] y = Conv<strides = {list(strides)}, group = {channels}>(padded, w)
    }}""",
        opset=opset,
        w=np.broadcast_to(kernel, (channels, 1, *kernel.shape)).astype(dtype),
        **({} if opset < 11 else {"pads": np.array(pads)}),
    )


def blurred(
    x: Array,
    sizes: Sequence[int],
    strides: Sequence[int],
    begin: Sequence[int],
    end: Sequence[int],
    strength: float = 1,
) -> Array:
    """The same in numpy, float64, reflected."""
    y = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *zip(begin, end, strict=True)], mode="reflect")
    for axis, (k, s) in enumerate(zip(sizes, strides, strict=True), start=2):
        n = y.shape[axis] - k + 1
        y = np.sum([tap * y.take(range(j, j + n), axis) for j, tap in enumerate(taps(k, strength))], axis=0)
        y = y.take(range(0, n, s), axis)
    return y
