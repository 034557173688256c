"""What else samples is reported with what is possible; what does not is not."""

from __future__ import annotations

import numpy as np
import pytest
from reference import build, weight
from stages import reasons

import aarewrite
from aarewrite.sites.other_sources import PHASES

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
    "unfold": (
        "y = Gather<axis = 2>(x, windows)", {"windows": 2 * np.arange(4) + np.arange(3)[:, None]},
        "gathers positions 2 apart (unfold)",
    ),
    "unfold_calculated": (
        "r = Range(zero, end, two) u = Unsqueeze(r, first) i = Add(u, rows) y = Gather<axis = 3>(x, i)",
        {"zero": np.array(0), "end": np.array(8), "two": np.array(2), "first": np.array([0]),
         "rows": np.array([[0], [1]])},
        "gathers positions 2 apart (unfold)",
    ),
    "windows_as_rows": (
        "t = Reshape(x, tokens) y = Gather<axis = 2>(t, rows)",
        {"tokens": np.array([1, 4, 64]), "rows": np.arange(3) + 2 * np.arange(8)[:, None]},
        "gathers positions 2 apart (unfold)",
    ),
    "space_to_depth_by_reshapes": (
        "a = Reshape(x, split) b = Transpose<perm = [0, 1, 3, 5, 2, 4]>(a) y = Reshape(b, joined)",
        {"split": np.array([1, 4, 4, 2, 2, 4]), "joined": np.array([1, 32, 4, 2])},
        "SpaceToDepth with the Transpose behind it: keeps every sample but splits the phases into channels",
    ),
    "reorg": (
        "a = Reshape(x, split) b = Transpose<perm = [0, 3, 5, 1, 2, 4]>(a) y = Reshape(b, joined)",
        {"split": np.array([1, 4, 4, 2, 4, 2]), "joined": np.array([1, 16, 4, 4])},
        "SpaceToDepth with the Transpose behind it",
    ),
    "patches_as_tokens": (
        "a = Reshape(x, split) b = Transpose<perm = [0, 2, 4, 3, 5, 1]>(a) y = Reshape(b, joined)",
        {"split": np.array([1, 4, 4, 2, 4, 2]), "joined": np.array([1, 16, 16])},
        "SpaceToDepth with the Transpose behind it",
    ),
    "channels_last": (
        "a = Reshape(x, split) b = Transpose<perm = [0, 1, 3, 2, 4, 5]>(a) y = Reshape(b, joined)",
        {"split": np.array([1, 2, 2, 4, 2, 8]), "joined": np.array([1, 2, 4, 32])},
        "SpaceToDepth with the Transpose behind it",
    ),
    "pooling_by_blocks": (
        "a = Reshape(x, split) y = ReduceMax<axes = [3, -1], keepdims = 0>(a)",
        {"split": np.array([1, 4, 4, 2, 4, 2])},
        "pools blocks of a map with the reduction behind it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_other_aliasing_sources_are_reported(name: str) -> None:
    body, constants, reason = SOURCES[name]
    model = build(f"(float[1, 4, 8, 8] x) => (float[] y) {{ {body} }}", opset=13, **constants)
    (source,) = aarewrite.plan(model).sources
    assert source.reason.startswith(reason)
    assert source.node == ("a" if body.startswith("a = Reshape") else "y")
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
    "dilated_windows": ("y = Gather<axis = 2>(x, rows)", {"rows": np.arange(2) + 2 * np.arange(4)[:, None]}),
    "dense_windows_as_rows": ("y = Gather<axis = 2>(x, rows)", {"rows": np.arange(1) + np.arange(8)[:, None]}),
    "dense_windows": ("y = Gather<axis = 2>(x, rows)", {"rows": np.arange(5) + np.arange(4)[:, None]}),
    "calculated_rows": ("r = Range(zero, end, one) y = Gather<axis = 2>(x, r)",
                        {"zero": np.array(0), "end": np.array(8), "one": np.array(1)}),
    "window_partition": (
        "a = Reshape(x, split) b = Transpose<perm = [0, 1, 3, 2, 4, 5]>(a) y = Reshape(b, joined)",
        {"split": np.array([1, 2, 2, 4, 2, 8]), "joined": np.array([8, 4, 8])}),
    "depth_to_space": (
        "a = Reshape(x, split) b = Transpose<perm = [0, 1, 4, 2, 5, 3]>(a) y = Reshape(b, joined)",
        {"split": np.array([1, 1, 2, 2, 8, 8]), "joined": np.array([1, 1, 16, 16])}),
    "channel_shuffle": (
        "a = Reshape(x, split) b = Transpose<perm = [0, 2, 1, 3, 4]>(a) y = Reshape(b, joined)",
        {"split": np.array([1, 2, 2, 8, 8]), "joined": np.array([1, 4, 8, 8])}),
    "heads_of_attention": (
        "t = Reshape(x, tokens) a = Reshape(t, split) b = Transpose<perm = [0, 2, 1, 3]>(a) y = Reshape(b, joined)",
        {"tokens": np.array([1, 8, 32]), "split": np.array([1, 8, 4, 8]), "joined": np.array([4, 8, 8])}),
    "norm_of_heads": (
        "t = Reshape(x, tokens) a = Reshape(t, split) y = ReduceMean<axes = [3]>(a)",
        {"tokens": np.array([1, 8, 32]), "split": np.array([1, 8, 4, 8])}),
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


@pytest.mark.parametrize("op", ["STFT", "Slice", "SpaceToDepth", "Resize", "Gather", "Range"])
def test_a_namesake_of_another_domain_is_another_operator(op: str) -> None:
    model = build(f"(float[1, 2, 8, 8] x) => (float[1, 2, 8, 8] y) {{ y = mine.{op}(x) }}", imports=', "mine" : 1')
    assert not aarewrite.plan(model).sources


def test_an_operator_that_the_opset_does_not_have_may_have_any_inputs() -> None:
    model = build("(float[1, 64, 1] x) => (float[1, 64, 1] y) { y = STFT(x) }", opset=13)
    assert not aarewrite.plan(model).sources


def test_a_strided_deformable_conv_is_reported() -> None:
    model = build(
        """(float[1, 4, 8, 8] x, float[1, 18, 4, 4] o) => (float[] y) {
        [deform] y = DeformConv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w, o)
    }""",
        opset=19, ir=9, w=weight(4, 4, 3, 3),
    )  # fmt: skip
    assert reasons(model)["deform"].startswith("strided DeformConv: it samples where its offsets say")
    model.graph.node[0].attribute[0].ints[:] = [1, 1]
    assert aarewrite.plan(model).sources == ()


@pytest.mark.parametrize(("hop", "said"), [(4, "STFT takes a frame every 4 samples: lower its frame_step"), (1, "")])
def test_the_hop_of_an_stft_is_reported(hop: int, said: str) -> None:
    model = build(
        "(float[1, 64, 1] x) => (float[n, f, b, c] y) { [stft] y = STFT(x, hop, window) }",
        opset=17, hop=np.array(hop), window=np.hanning(16).astype(np.float32),
    )  # fmt: skip
    found = reasons(model).get("stft", "")
    assert found.startswith(said)
    assert bool(found) == bool(said)


@pytest.mark.parametrize(("step", "said"), [(2, {"y": "gathers positions 2 apart (unfold)"}), (1, {})])
def test_windows_over_an_open_size_are_gathered_too(step: int, said: dict[str, str]) -> None:
    model = build(
        """(float[N, 3, H, W] x) => (float[n, c, k, l, w] y) {
        s = Shape(x)
        h = Gather(s, two)
        r = Range(zero, h, step)
        u = Unsqueeze(r, first)
        i = Add(u, rows)
        y = Gather<axis = 2>(x, i)
    }""",
        two=np.array(2), zero=np.array(0), step=np.array(step), first=np.array([0]), rows=np.array([[0], [1], [2]]),
    )  # fmt: skip
    found = reasons(model)
    assert found.keys() == said.keys()
    assert all(found[name].startswith(text) for name, text in said.items())


def test_open_sizes_are_split_too() -> None:
    model = build(
        """(float[N, 3, H, W] x) => (float[n, c, h, w] y) {
        s = Shape(x)
        sizes = Slice(s, two, four)
        half = Div(sizes, two)
        h, w = Split<axis = 0>(half)
        split = Concat<axis = 0>(head, h, two, w, two)
        a = Reshape(x, split)
        b = Transpose<perm = [0, 1, 3, 5, 2, 4]>(a)
        joined = Concat<axis = 0>(minus, twelve, h, w)
        y = Reshape(b, joined)
    }""",
        two=np.array([2]), four=np.array([4]), head=np.array([-1, 3]), minus=np.array([-1]), twelve=np.array([12]),
    )  # fmt: skip
    assert reasons(model) == {"a": f"SpaceToDepth with the Transpose behind it: {PHASES}"}
