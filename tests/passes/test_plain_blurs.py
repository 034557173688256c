"""Blurs of a model's own in their plainest form: the same values, fewer of them; and what stays as it is."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from reference import attributes, blur, build, initializer, node, ops, relative_difference, run, weight

import aarewrite
from aarewrite.filters import depthwise_kernel

EXACT = 1e-6
KNOWN = {
    "one": depthwise_kernel((4, 4), 1).astype(np.float32), "taps": depthwise_kernel((3, 3), 3).astype(np.float32),
    "bias": np.float32([0.5]), "w": weight(5, 3, 3, 3), "w1": weight(5, 3, 1, 1), "v1": weight(2, 3, 1, 1, seed=1),
    "singles": np.array([-1, 1, 12, 14]), "single_first": np.array([-1, 12, 1, 14, 1, 1]),
    "back": np.array([-1, 3, 13, 15]), "sampled": np.array([-1, 3, 7, 8]),
    "pads": np.array([0, 0, 2, 2, 0, 0, 2, 2]), "nothing": np.zeros(12, np.int64),
    "naught": np.float32(0), "no_bias": np.zeros(3, np.float32), "cropped": np.array([0, 0, -1, 0, 0, 0, 0, 0]),
    "of_batch": np.array([1, 0, 0, 0, 0, 0, 0, 0]),
    "start": np.array([0]), "later": np.array([1]), "end": np.array([2**63 - 1]), "rows": np.array([2]),
    "columns": np.array([-1]), "channels": np.array([1]), "by": np.array([2]), "back_by": np.array([-2]),
    "dense": np.einsum("ab,hw->abhw", np.eye(3), depthwise_kernel((3, 3), 1)[0, 0]).astype(np.float32),
    "low": np.array([1, 2, 1], np.int8).reshape(1, 1, 1, 3), "scale": np.float32(0.25), "zero": np.int8(0),
}  # fmt: skip


def model(text: str, batch: str = "2") -> onnx.ModelProto:
    words = set(text.replace(")", " ").replace(",", " ").replace("(", " ").split())
    used = {name: value for name, value in KNOWN.items() if name in words}
    return build(f"(float[{batch}, 3, 12, 14] x) => (float[] y) {{ {text} }}", opset=17, **used)


def plain(text: str, batch: str = "2") -> onnx.ModelProto:
    """The result, proven, equal in value and a fixed point."""
    given = model(text, batch)
    result = aarewrite.rewrite(given)
    assert result.changed
    assert result.proof is not None
    assert result.proof.passed
    x = weight(2, 3, 12, 14)
    assert relative_difference(run(result.model, x=x)[0], run(given, x=x)[0]) < EXACT
    assert not aarewrite.rewrite(result.model).changed
    return result.model


def shape_of(result: onnx.ModelProto, name: str) -> tuple[int, ...]:
    return initializer(result, node(result, name).input[1]).shape


FIR = 'f = Reshape(x, singles) p = Pad<mode = "edge">(f, pads) [fir] b = Conv(p, one) c = Reshape(b, back)'
LATER = """shape = Shape(b) at = Constant<value_ints = [2, 3]>() sizes = Gather(shape, at)
    batch = Constant<value_ints = [-1]>() three = Constant<value_ints = [3]>()
    back2 = Concat<axis = 0>(batch, three, sizes) c = Reshape(b, back2) [conv] y = Conv<strides = [2, 2]>(c, w)"""


@pytest.mark.parametrize("batch", ["2", "N"])
@pytest.mark.parametrize(
    "front",
    [
        "f = Reshape(x, singles)",
        "e = Identity(x) f = Reshape(e, singles)",
        "e = Reshape(x, single_first) g = Pad(e, nothing) f = Reshape(g, singles)",
    ],
)
def test_channels_that_are_images_of_their_own_become_channels(front: str, batch: str) -> None:
    text = (
        f"{front} p = Pad(f, pads) [fir] b = Conv(p, one) c = Reshape(b, back) [conv] y = Conv<strides = [2, 2]>(c, w)"
    )
    result = plain(text, batch)
    assert [op for op in ops(result) if op != "Identity"] == ["Conv", "Conv"]
    assert shape_of(result, "fir") == (3, 1, 4, 4)
    assert attributes(node(result, "fir"))["pads"] == [2, 2, 2, 2]
    assert attributes(node(result, "fir"))["group"] == 3


def test_a_shape_worked_out_from_the_map_itself_goes_with_it() -> None:
    result = plain(f"f = Reshape(x, singles) p = Pad(f, pads) [fir] b = Conv(p, one) {LATER}")
    assert [op for op in ops(result) if op != "Constant"] == ["Conv", "Conv"]


def test_a_bias_is_every_channels() -> None:
    result = plain("f = Reshape(x, singles) p = Pad(f, pads) [fir] b = Conv(p, one, bias) y = Reshape(b, back)")
    assert initializer(result, node(result, "fir").input[2]).tolist() == [0.5] * 3
    assert node(result, "fir").output[0] == "y"


def test_two_filters_of_one_reshaped_map() -> None:
    """A discriminator's block: both branches are freed from the Reshape that they share, and share one kernel."""
    result = plain("""f = Reshape(x, singles) p = Pad(f, pads)
        [fir] b = Conv(p, one) c = Reshape(b, back) [conv] d = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(c, w)
        [skip] s = Conv<pads = [2, 2, 2, 2]>(f, one)
        r = Slice(s, start, end, rows, by) q = Slice(r, start, end, columns, by)
        t = Reshape(q, sampled) u = Conv(t, w1) y = Add(d, u)""")
    assert "Reshape" not in ops(result)
    assert "Slice" not in ops(result)
    assert attributes(node(result, "skip"))["strides"] == [2, 2]
    assert node(result, "fir").input[1] == node(result, "skip").input[1]


@pytest.mark.parametrize(
    ("text", "strides"),
    [
        ("[b] b = Conv<group = 3>(x, taps) y = Slice(b, start, end, rows, by)", [2, 1]),
        ("[b] b = Conv<group = 3>(x, taps) y = Slice(b, start, end, columns, by)", [1, 2]),
        (
            "[b] b = Conv<group = 3>(x, taps) i = Identity(b) c = Slice(i, start, end, columns, by) "
            "y = Slice(c, start, end, rows, by)",
            [2, 2],
        ),
        ("[b] b = Conv<group = 3>(x, taps) [conv] y = Conv<strides = [2, 2]>(b, w1)", [2, 2]),
        ("[b] b = Conv<group = 3>(x, taps) [conv] y = Conv<strides = [1, 3]>(b, w1)", [1, 3]),
        (
            """[b] b = Conv<group = 3>(x, taps) [conv] c = Conv<strides = [2, 2]>(b, w1)
            [conv2] d = Conv<strides = [2, 2]>(b, v1) y = Concat<axis = 1>(c, d)""",
            [2, 2],
        ),
    ],
)
def test_what_only_drops_samples_is_the_stride(text: str, strides: list[int]) -> None:
    result = plain(text)
    assert attributes(node(result, "b"))["strides"] == strides
    assert "Slice" not in ops(result)
    for name in [one.name for one in result.graph.node if one.name.startswith("conv")]:
        assert attributes(node(result, name))["strides"] == [1, 1]


def test_values_are_those_of_the_blur() -> None:
    result = plain("[b] b = Conv<group = 3, pads = [1, 1, 1, 1]>(x, taps) [conv] y = Conv<strides = [2, 2]>(b, w1)")
    x = weight(2, 3, 12, 14)
    expected = np.einsum("oc,nchw->nohw", KNOWN["w1"][:, :, 0, 0], blur(x, 3, (2, 2), mode="zero"))
    assert relative_difference(run(result, x=x)[0], expected) < EXACT


def test_a_diagonal_kernel_becomes_depthwise() -> None:
    result = plain("[b] y = Conv<strides = [2, 2]>(x, dense)")
    assert shape_of(result, "b") == (3, 1, 3, 3)
    assert attributes(node(result, "b"))["group"] == 3


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("p = Pad(x, pads) [b] y = Conv<group = 3, pads = [1, 0, 0, 0]>(p, taps)", ["Conv"]),
        ('p = Pad(x, pads) [b] y = Conv<group = 3, auto_pad = "VALID">(p, taps)', ["Conv"]),
        ("p = Pad(x, pads, naught) [b] y = Conv<group = 3>(p, taps)", ["Conv"]),
        (
            "p = Pad(x, pads) [b] b = Conv<group = 3>(p, taps) c = Conv(p, w) y = Concat<axis = 1>(b, c)",
            ["Pad", "Conv", "Conv", "Concat"],
        ),
        ('p = Pad<mode = "edge">(x, pads) [b] y = Conv<group = 3>(p, taps, no_bias)', ["Pad", "Conv"]),
    ],
)
def test_zeros_need_no_pad_and_no_bias(text: str, left: list[str]) -> None:
    result = plain(text)
    assert ops(result) == left
    assert len(node(result, "b").input) == 2
    assert (node(result, "b").input[0] == "x") is ("edge" not in text)


@pytest.mark.parametrize(
    "pad", ["Pad(x, pads, bias)", "Pad(x, cropped)", "Pad(x, of_batch)", 'Pad<mode = "reflect">(x, pads)']
)
def test_other_pads_stay(pad: str) -> None:
    assert not aarewrite.rewrite(model(f"p = {pad} y = Conv<group = 3>(p, taps)")).changed


@pytest.mark.parametrize(
    "text",
    [
        "b = Conv<group = 3>(x, taps) y = Slice(b, later, end, rows, by)",  # begins at the second sample
        "b = Conv<group = 3>(x, taps) y = Slice(b, start, by, rows, by)",  # ends early
        "b = Conv<group = 3>(x, taps) y = Slice(b, start, end, channels, by)",
        "b = Conv<group = 3>(x, taps) y = Slice(b, end, start, rows, back_by)",
        "b = Conv<group = 3, strides = [2, 2]>(x, taps) y = Slice(b, start, end, rows, by)",  # sampled once more
        "b = Conv<group = 3, strides = [2, 2]>(x, taps) c = Conv<strides = [2, 2]>(b, w1) y = Relu(c)",
        "b = Conv<group = 3>(x, taps) c = Slice(b, start, end, rows, by) d = ReduceMean(b) y = Add(c, d)",
        "b = Conv<group = 3>(x, taps) y = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(b, w1)",
        "b = Conv<group = 3>(x, taps) y = Conv<strides = [2, 2]>(b, w)",
        "b = Conv<group = 3>(x, taps) c = Conv<strides = [2, 2]>(b, w1) d = Conv<strides = [2, 1]>(b, v1) "
        "e = ReduceMean<axes = [1, 2, 3]>(c) f = ReduceMean<axes = [1, 2, 3]>(d) y = Add(e, f)",
        'b = Conv<group = 3, auto_pad = "SAME_UPPER">(x, taps) y = Slice(b, start, end, rows, by)',
        f"{FIR} d = ReduceMean(b) y = Add(c, d)",
        "f = Reshape(x, singles) k = DequantizeLinear(low, scale, zero) y = Conv(f, k)",
    ],
)
def test_others_stay_as_they_are(text: str) -> None:
    given = model(text)
    made = aarewrite.plan(given)
    assert made.tidied == 0
    kept = aarewrite.rewrite(given, skip=["*"]) if made.sites else aarewrite.rewrite(given)
    assert not kept.changed


def test_our_own_blurs_stay_as_they_are() -> None:
    given = model('["pool/blur/Conv"] b = Conv<group = 3>(x, taps) y = Slice(b, start, end, rows, by)')
    given.metadata_props.add(key="aarewrite.blurs", value=json.dumps({"pool/blur/Conv": {}}))
    assert not aarewrite.rewrite(given).changed


def test_a_map_that_is_an_output_keeps_its_values() -> None:
    given = build(
        """(float[1, 3, 12, 14] x) => (float[1, 3, 10, 12] b, float[] y) {
        b = Conv<group = 3>(x, taps) y = Conv<strides = [2, 2]>(b, w1) }""",
        taps=KNOWN["taps"], w1=KNOWN["w1"],
    )  # fmt: skip
    assert not aarewrite.rewrite(given).changed


def test_the_cost_before_is_the_given_models() -> None:
    made = aarewrite.plan(model("[b] b = Conv<group = 3>(x, taps) [conv] y = Conv<strides = [2, 2]>(b, w1)", "1"))
    behind, sampled, conv = 10 * 12 * 9 * 3, 5 * 6 * 9 * 3, 5 * 6 * 3 * 5
    assert [one.macs for one in made.costs] == [behind + conv, sampled + conv]


def test_the_note_counts_blurs() -> None:
    made = aarewrite.plan(model("[b] b = Conv<group = 3>(x, taps) [conv] y = Conv<strides = [2, 2]>(b, w1)"))
    assert made.warnings == ("1 blurs that are there take a plainer form of the same function",)
