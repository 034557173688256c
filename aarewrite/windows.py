"""Kernel windows: the explicit pads with which an operator can run at stride 1 and still hold every output that
the strided operator computed.

Sources: the ONNX operators Conv, MaxPool, AveragePool, LpPool (attributes auto_pad, ceil_mode, dilations).
"""

from __future__ import annotations

from dataclasses import dataclass

Axes = tuple[int, ...]
Sizes = tuple[int | None, ...]


def x(values: Sizes) -> str:
    """Sizes as text, "3x3"; ? where one is not known."""
    return "x".join("?" if value is None else str(value) for value in values)


@dataclass(frozen=True)
class Window:
    """A sliding window over n spatial axes; every field has one entry per axis."""

    kernel: Axes
    strides: Axes
    dilations: Axes
    begin: Axes
    end: Axes
    auto_pad: str = "NOTSET"
    ceil_mode: bool = False

    @property
    def extent(self) -> Axes:
        """The dilated kernel size, (k - 1) * d + 1."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def output(self, size: Sizes, strides: Axes | None = None) -> Sizes:
        """Output size in floor mode with explicit pads, None where the input size is."""
        steps = strides or self.strides
        rows = zip(size, self.begin, self.end, self.extent, steps, strict=True)
        return tuple(None if n is None else (n + b + e - k) // s + 1 for n, b, e, k, s in rows)


def explicit(window: Window, size: Sizes) -> Window | str:
    """The window with explicit pads in floor mode whose stride-1 map holds every original output, or the reason
    why there is none. `size` is the input's spatial size, None where it is not known."""
    if window.auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        return _resolve_same(window, size)
    plain = Window(window.kernel, window.strides, window.dilations, window.begin, window.end)
    if window.auto_pad == "VALID":
        zeros = (0,) * len(window.kernel)
        plain = Window(window.kernel, window.strides, window.dilations, zeros, zeros)
    if not window.ceil_mode:
        return plain
    return _resolve_ceil(plain, size)


def leaves_gaps(window: Window, size: Sizes) -> bool:
    """Whether auto_pad=SAME comes out negative, by more than one: the windows leave gaps at the border too."""
    if not window.auto_pad.startswith("SAME"):
        return False
    rows = zip(size, window.kernel, window.strides, strict=True)
    return any((k - s if n is None else (-(-n // s) - 1) * s + k - n) < -1 for n, k, s in rows)


def _resolve_same(window: Window, size: Sizes) -> Window | str:
    if any(d > 1 for d in window.dilations):
        return "auto_pad=SAME with dilation > 1 is not reliable in ONNX Runtime: export explicit pads"
    begin, end = [], []
    for n, k, s in zip(size, window.kernel, window.strides, strict=True):
        if k == 1 or s == 1:
            total = k - 1  # the same at every size
        elif n is None:
            return "auto_pad=SAME over a symbolic size: the padding depends on it, give it with --input NAME:SHAPE"
        else:
            total = max((-(-n // s) - 1) * s + k - n, 0)
        smaller, larger = total // 2, total - total // 2
        begin.append(smaller if window.auto_pad == "SAME_UPPER" else larger)
        end.append(larger if window.auto_pad == "SAME_UPPER" else smaller)
    return Window(window.kernel, window.strides, window.dilations, tuple(begin), tuple(end))


def _resolve_ceil(window: Window, size: Sizes) -> Window | str:
    end = []
    rows = zip(size, window.extent, window.strides, window.begin, window.end, strict=True)
    for n, k, s, b, e in rows:
        if n is None and s > 1:
            return "ceil_mode=1 over a symbolic size: the padding depends on it, give it with --input NAME:SHAPE"
        if n is None:
            end.append(e)
            continue
        out = -(-(n + b + e - k) // s) + 1
        if (out - 1) * s >= n + b:  # the last window would start in the end padding and is dropped
            out -= 1
        end.append(max(e, (out - 1) * s + k - n - b))
    return Window(window.kernel, window.strides, window.dilations, window.begin, tuple(end))
