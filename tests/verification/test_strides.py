"""The ratio of a tensor is the product along its path, whatever borders are cropped on the way."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from reference import build, weight

from aarewrite.model.index import open_graph
from aarewrite.model.runner import Model
from aarewrite.verification.strides import Ratios, path_ratios, ratio_of_sizes

HALF, QUARTER, WHOLE = Fraction(1, 2), Fraction(1, 4), Fraction(1)
CONSTANTS = {
    "w": weight(2, 2, 3, 3), "t": weight(2, 2, 2, 2), "one": np.array([1]), "two": np.array([2]), "end": np.array([99]),
    "scales": np.array([1, 1, 2, 2], np.float32), "square": weight(2, 2), "groups": np.array([0, 1, -1]),
    "norm": np.ones(1, np.float32), "none": np.zeros(1, np.float32), "flat": np.array([1, 2, -1]),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "third": np.array([3]),
    "sizes": np.array([1, 2, 11, 11]), "last": np.array(1), "parts": np.array([1, 2, 1, 11, 11]),
}  # fmt: skip
DOWN = "a = Conv<strides = [2, 2]>(x, w)"
BODIES: dict[str, tuple[str, tuple[Fraction | None, ...] | None]] = {
    "conv": (f"{DOWN} y = Relu(a)", (None, None, HALF, HALF)),
    "one axis": ("y = MaxPool<kernel_shape = [2, 2], strides = [1, 2]>(x)", (None, None, WHOLE, HALF)),
    "up again": (f"{DOWN} y = ConvTranspose<strides = [2, 2]>(a, t)", (None, None, WHOLE, WHOLE)),
    "resize": (f"{DOWN} y = Resize<mode = \"nearest\">(a, , scales)", (None, None, WHOLE, WHOLE)),
    "slice": (f"{DOWN} y = Slice(a, one, end, third, two)", (None, None, HALF, QUARTER)),
    "crop": (f"{DOWN} y = Slice(a, two, end, two)", (None, None, HALF, HALF)),
    "pad": (f"{DOWN} y = Pad(a, pads)", (None, None, HALF, HALF)),
    "space to depth": ("y = SpaceToDepth<blocksize = 2>(x)", (None, None, HALF, HALF)),
    "depth to space": (
        "a = Concat<axis = 1>(x, x) y = DepthToSpace<blocksize = 2>(a)", (None, None, 2 * WHOLE, 2 * WHOLE),
    ),
    "transpose": (f"{DOWN} y = Transpose<perm = [0, 2, 3, 1]>(a)", (None, HALF, HALF, None)),
    "classes": (f"{DOWN} y = ArgMax<axis = 1, keepdims = 0>(a)", (None, HALF, HALF)),
    "kept class": (f"{DOWN} y = ArgMax<axis = 1>(a)", (None, None, HALF, HALF)),
    "mean of channels": (f"{DOWN} y = ReduceMean<axes = [-3], keepdims = 0>(a)", (None, HALF, HALF)),
    "squeezed": (f"{DOWN} b = ReduceMean<axes = [1]>(a) y = Squeeze(b, one)", (None, HALF, HALF)),
    "unsqueezed": (f"{DOWN} y = Unsqueeze(a, two)", (None, None, None, HALF, HALF)),
    "merged": (f"{DOWN} b = Conv<strides = [2, 2]>(x, w) y = Add(a, b)", (None, None, HALF, HALF)),
    "matmul": (f"{DOWN} b = Transpose<perm = [0, 2, 3, 1]>(a) y = MatMul(b, square)", (None, HALF, HALF, None)),
    "group norm": (
        f"{DOWN} b = Reshape(a, groups) c = InstanceNormalization(b, norm, none) s = Shape(a) y = Reshape(c, s)",
        (None, None, HALF, HALF),
    ),
    "group norm of known size": (
        f"{DOWN} b = Reshape(a, groups) c = InstanceNormalization(b, norm, none) y = Reshape(c, sizes)",
        (None, None, HALF, HALF),
    ),
    "shuffle of channels": (
        f"{DOWN} b = Reshape(a, parts) c = Transpose<perm = [0, 2, 1, 3, 4]>(b) y = Reshape(c, sizes)",
        (None, None, HALF, HALF),
    ),
    "split channels": (f"{DOWN} y = Reshape(a, parts)", (None, None, None, HALF, HALF)),
    "tokens and back": (
        f"{DOWN} b = Reshape(a, flat) c = Transpose<perm = [0, 2, 1]>(b) d = MatMul(c, square) "
        "e = Transpose<perm = [0, 2, 1]>(d) y = Reshape(e, sizes)", (None, None, HALF, HALF),
    ),
    "one channel": (f"{DOWN} y = Gather<axis = 1>(a, last)", (None, HALF, HALF)),
    "some channels": (f"{DOWN} y = Gather<axis = 1>(a, one)", (None, None, HALF, HALF)),
    "some rows": (f"{DOWN} y = Gather<axis = 2>(a, one)", None),
    "row": ("y = ReduceMean<axes = [2]>(x)", (None, None, None, WHOLE)),
    "flattened": (f"{DOWN} y = Flatten(a)", None),
    "tokens": (f"{DOWN} y = Reshape(a, flat)", None),
    "global": ("y = GlobalAveragePool(x)", None),
    "shape": ("y = Shape(x)", None),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_ratios_along_the_path(name: str) -> None:
    body, expected = BODIES[name]
    kind = "int64" if "ArgMax" in body or name == "shape" else "float"
    model = build(f"(float[1, 2, 24, 24] x) => ({kind}[] y) {{ {body} }}", **CONSTANTS)
    assert ratios(model, (24, 24)).get("y") == expected


def ratios(model: object, size: tuple[int, ...]) -> dict[str, Ratios]:
    return path_ratios(open_graph(Model(model), size, weights=False))  # type: ignore[arg-type]


def test_cropped_borders_are_no_stride() -> None:
    """Five unpadded windows of 7: a map of 5 samples of 96 px at stride 8."""
    model = build(
        """(float[1, 1, 96] x) => (float[] y) {
        a = Conv<strides = [2]>(x, k)
        b = Conv<strides = [2]>(a, k)
        c = Conv<strides = [2]>(b, k)
        d = Conv(c, k)
        y = Slice(d, one, end, two)
    }""",
        k=weight(1, 1, 3), one=np.array([1]), end=np.array([-1]), two=np.array([2]),
    )  # fmt: skip
    assert ratios(model, (96,))["y"] == (None, None, Fraction(1, 8))


def test_channels_last() -> None:
    model = build(
        """(float[1, 24, 24, 2] x) => (float[] y) {
        a = Transpose<perm = [0, 3, 1, 2]>(x)
        b = Conv<strides = [2, 2]>(a, w)
        y = Transpose<perm = [0, 2, 3, 1]>(b)
    }""",
        w=weight(2, 2, 3, 3),
    )
    assert ratios(model, (24, 24))["y"] == (None, HALF, HALF, None)


@pytest.mark.parametrize(
    ("out", "into", "ratio"),
    [
        (12, 24, HALF),
        (11, 24, HALF),
        (48, 24, 2 * WHOLE),
        (23, 24, WHOLE),
        (24, 24, WHOLE),
        (36, 24, None),
        (1, 24, 1 / Fraction(24)),
    ],
)
def test_ratios_of_sizes(out: int, into: int, ratio: Fraction | None) -> None:
    assert ratio_of_sizes(out, into) == ratio
