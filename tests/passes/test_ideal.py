"""The ideal filter against its definition: the spectrum of the reflected map, cut; and everywhere a filter works."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import aa
from reference import Array, build, dense, node, ops, relative_difference, run, weight
from stages import begins, two_stages

import aarewrite
from aarewrite.calibration.choices import PlanVariants
from aarewrite.calibration.layers import find_layers
from aarewrite.passes.ideal import Ideal
from aarewrite.recipe import Recipe, SiteOverride

IDEAL = Recipe(name="test", filter="ideal")


def ideal(x: Array, cuts: Sequence[int], strides: Sequence[int] | None = None, strength: float = 1) -> Array:
    """Reflect to period 2N, keep |k| < 2N/(2s), go back, sample; each axis by its Fourier transform, in float64."""
    x = x.astype(np.float64)
    for axis, (cut, stride) in enumerate(zip(cuts, strides or cuts, strict=True), start=2):
        n = x.shape[axis]
        spectrum = np.moveaxis(np.fft.fft(np.concatenate([x, np.flip(x, axis)], axis), axis=axis), axis, -1)
        if cut > 1:
            spectrum[..., np.abs(np.rint(np.fft.fftfreq(2 * n) * 2 * n)) >= n / cut] = 0
        low = np.moveaxis(np.fft.ifft(spectrum).real, -1, axis).take(range(n), axis)
        x = (strength * low + (1 - strength) * x).take(range(0, n, stride), axis)
    return x


def pool(size: str, strides: str, *, dtype: str = "float", batch: str = "1") -> onnx.ModelProto:
    ones = ", ".join("1" for _ in strides.split(","))
    return build(
        f"({dtype}[{batch}, 2, {size}] x) => ({dtype}[] y) "
        f"{{ [pool] y = MaxPool<kernel_shape = [{ones}], strides = [{strides}]>(x) }}"
    )


def exact(result: aarewrite.Result) -> None:
    """Every row of the twin's matrices has a single 1: it equals the original bit for bit."""
    assert result.proof is not None
    assert result.proof.passed
    assert result.proof.unproven == ()
    assert result.proof.worst.difference == 0


@pytest.mark.parametrize(
    ("size", "strides", "nodes"),
    [
        ("16", "2", ["MatMul"]),
        ("24, 16", "2, 2", ["MatMul", "MatMul"]),
        ("24, 16", "3, 4", ["MatMul", "MatMul"]),
        ("7, 16", "1, 2", ["MatMul"]),
        ("16, 7", "2, 1", ["MatMul"]),
        ("8, 12, 6", "2, 3, 2", ["Transpose", "MatMul", "Transpose", "MatMul", "MatMul"]),
        ("8, 5, 7", "2, 1, 1", ["Transpose", "MatMul", "Transpose"]),
    ],
)
@pytest.mark.parametrize("strength", [1, 0.5])
def test_values(size: str, strides: str, nodes: list[str], strength: float) -> None:
    model = pool(size, strides)
    result = aarewrite.rewrite(model, IDEAL.with_options(strength=strength))
    exact(result)
    assert ops(result.model) == ["MaxPool", *nodes]
    sizes, steps = ([int(n) for n in text.split(",")] for text in (size, strides))
    x = weight(1, 2, *sizes)
    assert relative_difference(run(result.model, x=x)[0], ideal(x, steps, strength=strength)) < 1e-6
    (site,) = result.plan.sites
    assert site.macs is not None
    assert site.macs[1] == result.plan.macs_after  # counted on the graph


def test_constants_pass_unchanged_and_cosines_up_to_what_the_stride_holds() -> None:
    rewritten = aarewrite.rewrite(pool("24", "3"), IDEAL).model
    for k in range(24):
        x = np.cos(np.pi * k * (np.arange(24) + 0.5) / 24).astype(np.float32)[None, None].repeat(2, 1)
        kept = x[:, :, ::3] if k < 24 / 3 else np.zeros_like(x[:, :, ::3])
        np.testing.assert_allclose(run(rewritten, x=x)[0], kept, atol=1e-6)
    (matrix,) = (onnx.numpy_helper.to_array(tensor) for tensor in rewritten.graph.initializer)
    assert matrix.shape == (24, 8)
    np.testing.assert_allclose(matrix.sum(0), 1, atol=1e-6)


def test_the_proof_catches_a_sample_beside_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    filtered = Ideal.filtered

    def beside(self: Ideal) -> list[tuple[int, int, range]]:
        return [(axis, n, range(1, n, kept.step)) for axis, n, kept in filtered(self)]

    monkeypatch.setattr(Ideal, "filtered", beside)
    with pytest.raises(aarewrite.CheckFailed, match="identity proof failed at tensor 'y'"):
        aarewrite.rewrite(pool("16", "2"), IDEAL)


def test_it_follows_the_activation_of_a_conv() -> None:
    w, x = weight(4, 3, 3, 3), weight(1, 3, 16, 16)
    model = build(
        "(float[1, 3, 16, 16] x) => (float[] y) "
        "{ [conv] a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w) [relu] y = Relu(a) }",
        w=w,
    )
    result = aarewrite.rewrite(model, first_conv=True, filter="ideal")
    expected = ideal(np.maximum(dense("Conv", x, (3, 3), [(1, 1)] * 2, w=w), 0), (2, 2))
    assert relative_difference(run(result.model, x=x)[0], expected) < 1e-5
    assert ops(result.model) == ["Conv", "Relu", "MatMul", "MatMul"]
    assert len(result.model.graph.initializer) == 3  # the weights, the matrix and its transpose


def test_in_front_of_a_conv_it_keeps_every_position() -> None:
    w, x = weight(4, 3, 3, 3), weight(1, 3, 16, 12)
    model = build(
        "(float[1, 3, 16, 12] x) => (float[] y) { [conv] y = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w) }", w=w
    )
    result = aarewrite.rewrite(model, filter="ideal", placement="before", first_conv=True)
    exact(result)
    filtered = ideal(x, (2, 2), (1, 1))
    expected = dense("Conv", filtered, (3, 3), [(1, 1)] * 2, w=w)[:, :, ::2, ::2]
    assert relative_difference(run(result.model, x=x)[0], expected) < 1e-5
    (site,) = result.plan.sites
    assert result.plan.says(site) == "ideal low-pass cut for 2x2 stride 1x1 of 16x12 -> Conv as it is"
    assert site.macs is not None
    assert site.macs[1] == result.plan.macs_after
    again = aarewrite.rewrite(result.model, filter="ideal", placement="before", first_conv=True)
    assert not again.changed
    assert again.plan.sites[0].reason == "a blur is next to it already"


def test_on_a_shortcuts_input_and_in_place_of_a_pooling() -> None:
    w, x = weight(4, 3, 1, 1), weight(1, 3, 16, 12)
    shortcut = build("(float[1, 3, 16, 12] x) => (float[] y) { [conv] y = Conv<strides = [2, 2]>(x, w) }", w=w)
    result = aarewrite.rewrite(shortcut, filter="ideal", first_conv=True)
    exact(result)
    assert ops(result.model) == ["MatMul", "MatMul", "Conv"]
    expected = dense("Conv", ideal(x, (2, 2)), (1, 1), [(0, 0)] * 2, w=w)
    assert relative_difference(run(result.model, x=x)[0], expected) < 1e-5
    average = build(
        "(float[1, 3, 16, 12] x) => (float[] y) { [pool] y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    replaced = aarewrite.rewrite(average, Recipe(filter="ideal", average_pool="replace"))
    assert ops(replaced.model) == ["MatMul", "MatMul"]
    assert relative_difference(run(replaced.model, x=x)[0], ideal(x, (2, 2))) < 1e-6


@pytest.mark.parametrize(("dtype", "tolerance"), [("double", 1e-14), ("float16", 2e-3)])
def test_other_float_types(dtype: str, tolerance: float) -> None:
    result = aarewrite.rewrite(pool("16, 16", "2, 2", dtype=dtype), filter="ideal")
    exact(result)
    assert result.proof is not None
    assert result.proof.notes == ()
    x = weight(1, 2, 16, 16, dtype=np.dtype(dtype))
    (y,) = run(result.model, x=x)
    assert y.dtype == x.dtype
    assert relative_difference(y, ideal(x, (2, 2))) < tolerance


def test_a_symbolic_batch_stays_one() -> None:
    result = aarewrite.rewrite(pool("16, 16", "2, 2", batch="n"), filter="ideal")
    exact(result)
    for batch in (1, 3):
        x = weight(batch, 2, 16, 16)
        assert relative_difference(run(result.model, x=x)[0], ideal(x, (2, 2))) < 1e-6


def test_a_map_of_quantised_input_is_filtered_in_float_and_quantised_again() -> None:
    model = build(
        """(uint8[1, 3, 16, 16] q) => (float[] y) {
        x = DequantizeLinear(q, scale, zero)
        [conv] y = Conv<strides = [2, 2]>(x, w)
    }""",
        w=weight(4, 3, 1, 1), scale=np.float32(0.05), zero=np.uint8(128),
    )  # fmt: skip
    result = aarewrite.rewrite(model, filter="ideal", first_conv=True)
    exact(result)
    q = np.random.default_rng(0).integers(0, 256, (1, 3, 16, 16), np.uint8)
    filtered = ideal((q.astype(np.float64) - 128) * 0.05, (2, 2))
    rounded = (np.clip(np.rint(filtered / 0.05) + 128, 0, 255) - 128) * 0.05
    expected = dense("Conv", rounded, (1, 1), [(0, 0)] * 2, w=weight(4, 3, 1, 1))
    assert relative_difference(run(result.model, q=q)[0], expected) < 1e-5


@pytest.mark.parametrize(
    ("model", "recipe", "reason"),
    [
        (pool("h, w", "2, 2"), IDEAL,
         "the ideal filter needs the size of the map, ?x?: give --input NAME:SHAPE, or choose another --filter"),
        (pool("15, 16", "2, 2"), IDEAL,
         "the ideal filter needs a map that divides by the stride, not 15x16 by 2x2: choose another --filter"),
        (pool("8192", "2"), IDEAL,
         "the ideal filter would be a matrix of 8192 samples, over 4096: choose another --filter"),
        (pool("16, 16", "2, 2"), IDEAL.with_options(pad="edge"),
         "the ideal filter reflects and filters strided axes alone: use pad = reflect, or another --filter"),
        (pool("16, 16", "1, 1"), Recipe(filter="ideal", unit_stride_max_pool=True),
         "the ideal filter cuts what a stride cannot hold, and this is stride 1: choose 3 or another --filter"),
    ],
    ids=["symbolic", "odd", "long", "pad", "stride 1"],
)  # fmt: skip
def test_what_it_cannot_do_is_kept_with_the_reason(model: onnx.ModelProto, recipe: Recipe, reason: str) -> None:
    (site,) = aarewrite.plan(model, recipe).sites
    assert site.action == "keep"
    assert site.reason == reason


def test_quantised_maps_are_kept() -> None:
    model = build(
        """(float[1, 3, 16, 16] x) => (float[] y) {
        q = QuantizeLinear(x, scale, zero)
        [pool] p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(q)
        y = DequantizeLinear(p, scale, zero)
    }""",
        scale=np.float32(0.05), zero=np.uint8(128),
    )  # fmt: skip
    (site,) = aarewrite.plan(model, IDEAL).sites
    assert site.reason == "the ideal filter has no integer form: choose 3 or another --filter for this quantised map"


def test_sizes_that_the_user_gives() -> None:
    result = aarewrite.rewrite(pool("h, w", "2, 2"), filter="ideal", input_shapes={"x": (1, 2, 16, 12)})
    exact(result)
    x = weight(1, 2, 16, 12)
    assert relative_difference(run(result.model, x=x)[0], ideal(x, (2, 2))) < 1e-6


def test_a_batch_normalizations_shift_stays_at_its_conv() -> None:
    """Other filters have it behind them, where zero padding would dim it; this one passes constants."""
    names = ["onnx::Conv_1", "onnx::Conv_2"]  # what PyTorch's exporter calls them
    model = build(
        "(float[1, 3, 16, 16] x) => (float[] y) "
        "{ [conv] a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w, b) [relu] y = Relu(a) }",
        w=weight(4, 3, 3, 3),
        b=weight(4),
    )
    for place, name in enumerate(names):
        model.graph.initializer[place].name = model.graph.node[0].input[place + 1] = name
    result = aarewrite.rewrite(model, Recipe(filter="ideal", after="conv", first_conv=True))
    exact(result)
    assert list(node(result.model, "conv").input) == ["x", *names]
    assert ops(result.model) == ["Conv", "MatMul", "MatMul", "Relu"]


# ---- everywhere a filter works -----------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(pool("16, 16", "2, 2"), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_the_command_line_a_recipe_a_site_and_a_plan_ask_for_it(path: Path) -> None:
    out = path.with_name("out.onnx")
    expected = aarewrite.rewrite(path, Recipe(name="aligned"), filter="ideal").model
    assert aa(path, "--filter", "ideal", "-o", out).status == 0
    assert onnx.load(out).SerializeToString() == expected.SerializeToString()
    file = path.with_name("mine.toml")
    for text in ('filter = "ideal"', '[[site]]\nmatch = "pool"\nfilter = "ideal"\nstrength = 0.5'):
        file.write_text(text, "utf-8")
        table = aa(path, "--recipe", file, "-o", out)
        assert table.status == 0
        assert "ideal low-pass" in table.words
        assert [n.op_type for n in onnx.load(out).graph.node] == ["MaxPool", "MatMul", "MatMul"]
    plan = path.with_name("plan.json")
    assert aa(path, "--dry-run", "--json", plan, "-q").status == 0
    edited = json.loads(plan.read_text("utf-8"))
    edited["sites"][0]["filter"] = "ideal"
    plan.write_text(json.dumps(edited), "utf-8")
    assert aa(path, "--plan", plan, "-o", out, "-q").status == 0
    assert [n.op_type for n in onnx.load(out).graph.node] == ["MaxPool", "MatMul", "MatMul"]


def test_row_cost_and_record(path: Path) -> None:
    result = aarewrite.rewrite(path, IDEAL.with_options(strength=0.5))
    (site,) = result.plan.sites
    assert result.plan.says(site) == "MaxPool stride 1x1 -> ideal low-pass strength 0.5 stride 2x2 of 16x16"
    macs = 2 * (8 * 16 * 16 + 8 * 8 * 16)
    assert site.macs == (0, macs)
    assert result.plan.macs_after == macs
    (entry,) = (p.value for p in result.model.metadata_props if p.key == "aarewrite.blurs")
    record = {"placement": "after", "filter": "ideal", "strength": 0.5, "samples_by": [2, 2]}
    where = {"scope": "", "node": "pool", "op": "MaxPool", "strides": [2, 2]}
    assert json.loads(entry) == {result.model.graph.node[-1].name: where | record}


@pytest.mark.parametrize("recipe", [IDEAL, Recipe(filter="ideal", unit_stride_max_pool=True)], ids=["", "stride 1"])
def test_a_second_run_changes_nothing(path: Path, recipe: Recipe) -> None:
    result = aarewrite.rewrite(path, recipe)
    assert result.changed
    again = aarewrite.rewrite(result.model, recipe)
    assert not again.changed
    assert again.plan.sources == ()


def test_equal_sites_share_their_matrices() -> None:
    result = aarewrite.rewrite(two_stages(size=16), filter="ideal")
    assert [p.action for p in result.plan.sites] == ["keep", "blur", "blur"]
    assert ops(result.model).count("MatMul") == 4
    added = {tensor.name for tensor in result.model.graph.initializer} - {"w1", "w2", "w3", "w4"}
    assert len(added) == 2


def test_in_front_of_a_stage_a_trous() -> None:
    recipe = Recipe(filter="ideal", first_conv=True, last_stage="a trous")
    result = aarewrite.rewrite(two_stages(size=16), recipe)
    assert begins(result.plan, "a trous") == ("second", "shortcut")
    assert [p.action for p in result.plan.sites] == ["blur", "keep", "keep"]
    assert result.proof is not None
    assert result.proof.passed
    assert ops(result.model)[:4] == ["Conv", "Relu", "MatMul", "MatMul"]


def test_the_search_and_the_repair_know_it() -> None:
    model = two_stages(size=16)
    variants = PlanVariants(model, IDEAL)
    labels = [choice.label for choice in variants.choices("second")]
    assert labels[:2] == ["after, f=ideal, strength 1", "after, f=ideal, strength 0.5"]
    assert "before, f=ideal, strength 0.5" in labels
    built, cost = variants.build({"second": variants.choices("second")[1]})
    assert cost > 1
    layers, left = find_layers(model, built)
    assert [layer.name for layer in layers] == ["shortcut", "inner"]
    assert left == []


def test_an_override_of_one_site_leaves_the_others_filter() -> None:
    sites = (SiteOverride("shortcut", filter="ideal"),)
    plan = aarewrite.plan(two_stages(size=16), Recipe(sites=sites))
    assert [p.do.filter for p in plan.sites] == [3, 3, "ideal"]
