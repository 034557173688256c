"""What else samples is reported with what is possible; what does not is not."""

from __future__ import annotations

import numpy as np
import pytest
from reference import build, weight
from stages import reasons

import aarewrite

SOURCES = {
    "strided_slice": (
        "y = Slice(x, starts, ends, axes, steps)",
        {"starts": np.array([0]), "ends": np.array([8]), "axes": np.array([2]), "steps": np.array([2])},
        "a strided Slice (steps 2) keeps every n-th sample",
    ),
    "strided_slice_by_negative_axis": (
        "y = Slice(x, starts, ends, axes, steps)",
        {"starts": np.array([0]), "ends": np.array([8]), "axes": np.array([-1]), "steps": np.array([3])},
        "a strided Slice (steps 3) keeps every n-th sample",
    ),
    "strided_slice_with_shaped_constants": (
        "s = Reshape(steps, flat) y = Slice(x, starts, ends, axes, s)",
        {"starts": np.array([0]), "ends": np.array([8]), "axes": np.array([2]), "steps": np.array(2),
         "flat": np.array([-1])},
        "a strided Slice (steps 2) keeps every n-th sample",
    ),
    "nearest_resize": (
        'y = Resize<mode = "nearest">(x, , scales)',
        {"scales": np.array([1, 1, 0.5, 0.5], np.float32)},
        "Resize down by 0.5 (nearest) without antialias: set antialias=1 (opset 18)",
    ),
    "linear_resize_below_a_half": (
        'y = Resize<mode = "linear">(x, , scales)',
        {"scales": np.array([1, 1, 0.25, 0.25], np.float32)},
        "Resize down by 0.25 (linear) without antialias",
    ),
    "resize_by_sizes": (
        'y = Resize<mode = "nearest">(x, , , sizes)',
        {"sizes": np.array([1, 4, 4, 4])},
        "Resize down by 0.5 (nearest) without antialias",
    ),
    "space_to_depth": (
        "y = SpaceToDepth<blocksize = 2>(x)", {}, "keeps every sample but splits the phases into channels",
    ),
    "regular_gather": (
        "y = Gather<axis = 2>(x, rows)", {"rows": np.array([0, 2, 4, 6])},
        "gathers every n-th position (patch merging)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_other_aliasing_sources_are_reported(name: str) -> None:
    body, constants, reason = SOURCES[name]
    model = build(f"(float[1, 4, 8, 8] x) => (float[] y) {{ {body} }}", opset=13, **constants)
    (source,) = aarewrite.plan(model).sources
    assert source.reason.startswith(reason)
    assert source.node == "y"
    assert aarewrite.rewrite(model).model.SerializeToString() == model.SerializeToString()


HARMLESS = {
    "slice": ("y = Slice(x, starts, ends, axes, steps)",
              {"starts": np.array([0]), "ends": np.array([8]), "axes": np.array([2]), "steps": np.array([1])}),
    "batch_slice": ("y = Slice(x, starts, ends, axes, steps)",
                    {"starts": np.array([0]), "ends": np.array([8]), "axes": np.array([0]), "steps": np.array([2])}),
    "batch_slice_by_negative_axis": ("y = Slice(x, starts, ends, axes, steps)",
                    {"starts": np.array([0]), "ends": np.array([8]), "axes": np.array([-4]), "steps": np.array([2])}),
    "reversal": ("y = Slice(x, starts, ends, axes, steps)",
              {"starts": np.array([7]), "ends": np.array([-9]), "axes": np.array([2]), "steps": np.array([-1])}),
    "upsampling": ('y = Resize<mode = "nearest">(x, , scales)', {"scales": np.array([1, 1, 2, 2], np.float32)}),
    "linear_to_half": ('y = Resize<mode = "linear">(x, , scales)', {"scales": np.array([1, 1, 0.5, 0.5], np.float32)}),
    "permuting_gather": ("y = Gather<axis = 1>(x, rows)", {"rows": np.array([3, 1, 2, 0])}),
    "contiguous_gather": ("y = Gather<axis = 2>(x, rows)", {"rows": np.array([0, 1, 2, 3])}),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_not_alias_is_not_reported(name: str) -> None:
    body, constants = HARMLESS[name]
    model = build(f"(float[1, 4, 8, 8] x) => (float[] y) {{ {body} }}", **constants)
    assert aarewrite.plan(model).sources == ()


def test_antialiased_resize_is_not_reported() -> None:
    model = build(
        '(float[1, 4, 8, 8] x) => (float[] y) { y = Resize<mode = "linear", antialias = 1>(x, , scales) }',
        opset=18,
        scales=np.array([1, 1, 0.25, 0.25], np.float32),
    )
    assert aarewrite.plan(model).sources == ()


def test_strided_operators_of_other_domains_are_reported() -> None:
    model = build(
        """(float[1, 4, 8, 8] x) => (float[1, 4, 4, 4] y) {
        [fused] y = com.microsoft.FusedConv<strides = [2, 2], kernel_shape = [1, 1]>(x, w)
    }""",
        imports=', "com.microsoft" : 1',
        w=weight(4, 4, 1, 1),
    )
    assert reasons(model) == {
        "fused": "strided com.microsoft operator: rewrite the model before it is quantised or fused"
    }
