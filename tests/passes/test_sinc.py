"""The windowed sinc against its definition, and that everything which knows a blur knows it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from reference import Array, build, dense, ops, qdq, relative_difference, run, weight

import aarewrite
from aarewrite.passes.sinc import WindowedSinc, sinc_taps
from aarewrite.recipe import Recipe

SINC = Recipe(name="test", filter="sinc7")


def pool(size: str, strides: str, dtype: str = "float") -> onnx.ModelProto:
    ones = ", ".join("1" for _ in strides.split(","))
    return build(
        f"({dtype}[1, 2, {size}] x) => ({dtype}[] y) "
        f"{{ [pool] y = MaxPool<kernel_shape = [{ones}], strides = [{strides}]>(x) }}"
    )


def expected_taps(stride: int, strength: float) -> list[float]:
    """sinc(k/s) sinc(k/4) over its sum, mixed with the identity, written out."""
    raw = [
        1.0 if k == 0 else np.sin(np.pi * k / stride) * np.sin(np.pi * k / 4) * stride * 4 / (np.pi * k) ** 2
        for k in range(-3, 4)
    ]
    return [strength * tap / sum(raw) + (1 - strength) * (k == 3) for k, tap in enumerate(raw)]


def filtered(x: Array, strides: tuple[int, ...], strength: float = 1, every: int = 0) -> Array:
    """Reflected, filtered and sampled, each axis in turn; those of stride 1 as they are. `every`: sampled by that."""
    x = x.astype(np.float64)
    for axis, stride in enumerate(strides, start=2):
        if stride > 1:
            padded = np.pad(x, [(3, 3) if k == axis else (0, 0) for k in range(x.ndim)], mode="reflect")
            parts = (padded.take(range(k, k + x.shape[axis]), axis) for k in range(7))
            x = np.sum([tap * part for tap, part in zip(expected_taps(stride, strength), parts, strict=True)], axis=0)
            x = x.take(range(0, x.shape[axis], every or stride), axis)
    return x


def proven(result: aarewrite.Result) -> onnx.ModelProto:
    assert result.proof is not None
    assert result.proof.passed
    assert result.proof.unproven == ()
    return result.model


def test_the_taps_of_stride_2_are_nearly_a_half_band_filters() -> None:
    taps = sinc_taps(2)
    np.testing.assert_allclose(taps, [-0.0315, 0, 0.2839, 0.4953, 0.2839, 0, -0.0315], atol=5e-5)
    gain = [abs(np.sum(taps * np.exp(2j * np.pi * f * np.arange(7)))) for f in (0, 1 / 8, 1 / 4, 3 / 8, 1 / 2)]
    np.testing.assert_allclose(gain, [1, 0.941, 0.495, 0.049, 0.009], atol=1e-3)  # of 3 taps: 1, .854, .5, .146, 0


@pytest.mark.parametrize("strength", [1, 0.5])
@pytest.mark.parametrize(
    ("size", "strides"),
    [("16", "2"), ("17, 12", "2, 2"), ("13, 16", "3, 4"), ("7, 16", "1, 2"), ("8, 9, 5", "2, 2, 1")],
)
def test_values(size: str, strides: str, strength: float) -> None:
    result = aarewrite.rewrite(pool(size, strides), SINC.with_options(strength=strength))
    assert ops(proven(result)) == ["MaxPool", "Pad", "Conv"]
    sizes, steps = (tuple(int(n) for n in text.split(",")) for text in (size, strides))
    x = weight(1, 2, *sizes)
    assert relative_difference(run(result.model, x=x)[0], filtered(x, steps, strength)) < 1e-6
    (site,) = result.plan.sites
    assert site.macs is not None
    assert site.macs[1] == result.plan.macs_after  # counted on the graph


@pytest.mark.parametrize(("dtype", "tolerance"), [("double", 1e-14), ("float16", 2e-3)])
def test_other_float_types(dtype: str, tolerance: float) -> None:
    model = proven(aarewrite.rewrite(pool("16, 12", "2, 2", dtype), SINC))
    x = weight(1, 2, 16, 12, dtype=np.dtype(dtype))
    assert relative_difference(run(model, x=x)[0], filtered(x, (2, 2))) < tolerance


def test_in_front_of_a_conv_it_filters_for_the_convs_stride_at_every_position() -> None:
    w, x = weight(4, 3, 3, 3), weight(1, 3, 16, 12)
    model = build(
        "(float[1, 3, 16, 12] x) => (float[] y) { [conv] y = Conv<strides = [3, 2], pads = [1, 1, 1, 1]>(x, w) }", w=w
    )
    recipe = SINC.with_options(conv="before", first_conv=True)
    result = aarewrite.rewrite(model, recipe)
    low = filtered(x, (3, 2), every=1)
    expected = dense("Conv", low, (3, 3), [(1, 1)] * 2, w=w)[:, :, ::3, ::2]
    assert relative_difference(run(proven(result), x=x)[0], expected) < 1e-5
    assert result.plan.says(result.plan.sites[0]) == "windowed sinc 7x7 stride 1x1 reflect -> Conv as it is"
    assert not aarewrite.rewrite(result.model, recipe).changed


def test_in_place_of_an_average_pooling() -> None:
    model = build(
        "(float[1, 2, 16, 12] x) => (float[] y) { [pool] y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    made = aarewrite.rewrite(model, SINC.with_options(average_pool="replace")).model
    assert ops(made) == ["Pad", "Conv"]
    x = weight(1, 2, 16, 12)
    assert relative_difference(run(made, x=x)[0], filtered(x, (2, 2))) < 1e-6


def test_quantised_maps_are_kept_and_what_is_dequantised_is_filtered_in_float() -> None:
    (site,) = aarewrite.plan(qdq(np.int8), first_conv=True, filter="sinc7").sites
    reason = "the windowed sinc has no integer form: choose 3 or another --filter for this quantised map"
    assert site.reason == reason
    model = build(
        """(uint8[1, 3, 16, 16] q) => (float[] y) {
        x = DequantizeLinear(q, scale, zero)
        [conv] y = Conv<strides = [2, 2]>(x, w)
    }""",
        w=weight(4, 3, 1, 1), scale=np.float32(0.05), zero=np.uint8(128),
    )  # fmt: skip
    made = proven(aarewrite.rewrite(model, SINC.with_options(first_conv=True)))
    q = np.random.default_rng(0).integers(0, 256, (1, 3, 16, 16), np.uint8)
    low = filtered((q.astype(np.float64) - 128) * 0.05, (2, 2))
    rounded = (np.clip(np.rint(low / 0.05) + 128, 0, 255) - 128) * 0.05
    expected = dense("Conv", rounded, (1, 1), [(0, 0)] * 2, w=weight(4, 3, 1, 1))
    assert relative_difference(run(made, q=q)[0], expected) < 0.02  # a step where a half is rounded elsewhere
    assert not any(tensor.data_type == TensorProto.INT8 for tensor in made.graph.initializer)


def test_row_record_and_a_second_run() -> None:
    result = aarewrite.rewrite(pool("16, 16", "2, 2"), SINC.with_options(strength=0.5))
    (site,) = result.plan.sites
    assert result.plan.says(site) == "MaxPool stride 1x1 -> windowed sinc 7x7 strength 0.5 stride 2x2 reflect"
    (entry,) = (p.value for p in result.model.metadata_props if p.key == "aarewrite.blurs")
    (record,) = json.loads(entry).values()
    assert (record["filter"], record["taps"], record["strength"]) == ("sinc7", [7, 7], 0.5)
    again = aarewrite.rewrite(result.model, SINC)
    assert not again.changed
    assert [source.reason for source in again.plan.sources] == ["a blur already: left as it is"]


def test_the_proof_catches_another_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WindowedSinc, "axis_taps", lambda _: [np.eye(7)[2]])
    with pytest.raises(aarewrite.CheckFailed, match="identity proof failed at tensor 'y'"):
        aarewrite.rewrite(pool("16", "2"), SINC)
