"""The anchor: origins and values against numpy, default origins, the pinned origin's bits, the proof, every reason."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command import aa, failed
from reference import Array, build, function, functions, qdq, run, weight
from stages import begins

import aarewrite
from aarewrite.errors import UsageError
from aarewrite.passes.anchor import PhaseAnchor
from aarewrite.recipe import Recipe, recipe_from_dict
from aarewrite.rewriting.apply import applied

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_models"
SHARED = Path(os.environ.get("AAREWRITE_SHARED", ROOT.parent / "shared"))
ALONE: dict[str, Any] = {"conv": "keep", "max_pool": "keep", "average_pool": "keep"}
KINDS = {"float": np.float32, "float16": np.float16, "double": np.float64, "uint8": np.uint8}
FORMS = ("wide", "in-place")
SIZE, S = (24, 30), (4, 6)


def net(
    kind: str = "float",
    layout: str = "nchw",
    channels: int = 3,
    batch: object = 1,
    opset: int = 13,
    size: Any = SIZE,
    ir: int = 8,
) -> onnx.ModelProto:
    """Strides 4 and 6; it also says what it sees."""
    dims = {"n": batch, "c": channels, "h": size[0], "w": size[1]}
    shape = ", ".join(str(dims[letter]) for letter in layout)
    first = "t = Transpose<perm = [0, 3, 1, 2]>(f)" if layout == "nhwc" else "t = Identity(f)"
    return build(
        f"""({kind}[{shape}] x) => (float[{batch}, 2] y, {kind}[{shape}] seen) {{
            seen = Identity(x)
            f = Cast<to = 1>(x)
            {first}
            [one] a = Conv<strides = [2, 3]>(t, w1)
            [two] b = Conv<strides = [2, 2]>(a, w2)
            r = Relu(b)
            g = GlobalAveragePool(r)
            y = Flatten(g)
        }}""",
        opset=opset, ir=ir, w1=weight(2, channels, 2, 3), w2=weight(2, 2, 2, 2, seed=1),
    )  # fmt: skip


def with_anchor(form: str, **more: Any) -> Recipe:
    """An anchor and nothing else; it tells its origin."""
    return Recipe(name="anchored", anchor=form, **{"anchor_origin": True} | ALONE | more)


def rewritten(model: onnx.ModelProto | str | Path, recipe: Recipe, **options: Any) -> onnx.ModelProto:
    result = aarewrite.rewrite(model if isinstance(model, onnx.ModelProto) else str(model), recipe, **options)
    assert result.proof is not None
    assert result.proof.passed
    assert result.proof.worst.difference == 0  # to the last bit
    return result.model


# ---- numpy's own -------------------------------------------------------------------------------------------


def corner(image: Array) -> tuple[int, int] | None:
    """Where Harris' measure of a grey image has its largest peak, in float64; the mean of means is one 9 x 9 filter."""
    height, width = image.shape
    tent = np.convolve(np.ones(5), np.ones(5)) / 25
    dx, dy = np.zeros_like(image), np.zeros_like(image)
    dx[:, 1:-1] = (image[:, 2:] - image[:, :-2]) / 2
    dy[1:-1] = (image[2:] - image[:-2]) / 2

    def smooth(one: Array) -> Array:
        rows = sum(t * one[k : height - 8 + k] for k, t in enumerate(tent))
        return np.asarray(sum(t * rows[:, k : width - 8 + k] for k, t in enumerate(tent)))

    a, b, c = (smooth(one)[3:-3, 3:-3] for one in (dx * dx, dy * dy, dx * dy))
    harris = a * b - c**2 - 0.04 * (a + b) ** 2
    inner, around = harris[1:-1, 1:-1], np.lib.stride_tricks.sliding_window_view(harris, (3, 3))
    peaks = np.where(inner == around.max((2, 3)), inner, -np.inf)
    y, x = np.unravel_index(int(peaks.argmax()), peaks.shape)
    return (int(y) + 8, int(x) + 8) if peaks.max() > 0 else None


def expected(form: str, image: Array, size: Any, strides: Any) -> tuple[tuple[int, int], Array]:
    """The origin of one image (channels, height, width), and what is seen from there."""
    weights = np.array([0.299, 0.587, 0.114] if len(image) == 3 else [1.0])
    p = corner(np.tensordot(weights, image.astype(np.float64), 1))
    if p is None:
        p = tuple((s - 1) // 2 if form == "wide" else n // 2 for n, s in zip(size, strides, strict=True))
    if form == "wide":
        y, x = (at % s for at, s in zip(p, strides, strict=True))
        return (y, x), image[:, y : y + size[0], x : x + size[1]]
    y, x = ((at - n // 2 + s // 2) % s - s // 2 for at, n, s in zip(p, size, strides, strict=True))
    far = max(strides)
    border = np.pad(image, ((0, 0), (far, far), (far, far)), mode="reflect")
    return (y, x), border[:, far + y : far + y + size[0], far + x : far + x + size[1]]


def taken(form: str, size: Any = SIZE, strides: Any = S) -> tuple[int, int]:
    """The size of the input."""
    height, width = (n + s - 1 if form == "wide" else n for n, s in zip(size, strides, strict=True))
    return height, width


def noise(*shape: int, kind: str = "float", seed: int = 1) -> Array:
    values = np.random.default_rng(seed).uniform(0, 255, shape)
    return values.astype(KINDS[kind])


def matches(model: onnx.ModelProto, form: str, images: Array, layout: str = "nchw", original: Any = None) -> None:
    """A rewritten `net` against numpy, for images (n, c, h, w)."""
    laid = images if layout == "nchw" else np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    y, seen, origin = run(model, x=laid)
    assert origin.dtype == np.int64
    for k, image in enumerate(images):
        at, view = expected(form, image, SIZE, S)
        assert tuple(origin[k]) == at
        np.testing.assert_array_equal(seen[k] if layout == "nchw" else seen[k].transpose(2, 0, 1), view)
    if original is not None:
        np.testing.assert_array_equal(y, run(original, x=seen)[0])


# ---- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("batch", [1, 3, "N"])
def test_each_image_is_seen_from_its_own_origin(form: str, channels: int, layout: str, batch: object) -> None:
    model = net(layout=layout, channels=channels, batch=batch)
    result = rewritten(model, with_anchor(form))
    count = batch if isinstance(batch, int) else 5
    images = noise(count, channels, *taken(form))
    matches(result, form, images, layout, model)
    assert len({expected(form, image, SIZE, S)[0] for image in noise(12, channels, *taken(form))}) > 6


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["float16", "double", "uint8"])
@pytest.mark.parametrize("batch", [1, 2])
def test_every_type_is_looked_at_in_float32(form: str, kind: str, batch: int) -> None:
    model = net(kind=kind, batch=batch)
    matches(rewritten(model, with_anchor(form)), form, noise(batch, 3, *taken(form), kind=kind), "nchw", model)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("opset", [10, 11, 12, 17, 18, 21])
@pytest.mark.parametrize("batch", [1, "N"])
def test_every_opset(form: str, opset: int, batch: object) -> None:
    if form == "in-place" and opset < 11:
        assert not aarewrite.plan(net(opset=opset), with_anchor(form)).changes
        return
    matches(rewritten(net(opset=opset, batch=batch), with_anchor(form)), form, noise(1, 3, *taken(form)))


@pytest.mark.parametrize("batch", [1, "N"])
def test_names_and_files_of_all_sorts(batch: object) -> None:
    """A name that no text of a graph may hold; initializers that would be inputs."""
    model = net(batch=batch, opset=11, ir=3)
    for node in model.graph.node:
        node.input[:] = ["images:0/in" if name == "x" else name for name in node.input]
    model.graph.input[0].name = "images:0/in"
    result = rewritten(model, with_anchor("wide"))
    x = noise(1, 3, *taken("wide"))
    _, seen, (origin,) = run(result, **{"images:0/in": x})
    at, view = expected("wide", x[0], SIZE, S)
    assert tuple(origin) == at
    np.testing.assert_array_equal(seen[0], view)


@pytest.mark.parametrize(("form", "opset"), [("wide", 10), ("in-place", 11)])
def test_bytes_at_the_oldest_opsets(form: str, opset: int) -> None:
    for batch in (1, 2):
        model = net(kind="uint8", batch=batch, opset=opset)
        matches(rewritten(model, with_anchor(form)), form, noise(batch, 3, *taken(form), kind="uint8"))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 255.0, 65535.0])
def test_the_range_of_the_values_is_no_matter(scale: float) -> None:
    images = (noise(1, 3, *taken("wide")) / 255 * scale).astype(np.float32)
    matches(rewritten(net(), with_anchor("wide")), "wide", images)


def test_the_same_pixels_are_seen_wherever_the_image_lies() -> None:
    """A bright spot within every crop; where the origin wraps, the crop lies S px away, at the same phase."""
    scene = np.random.default_rng(0).uniform(0, 40, (3, 60, 60)).astype(np.float32)
    scene[:, 13:17, 18:22] += 200
    model = rewritten(net(), with_anchor("wide"))
    height, width = taken("wide")
    found: dict[tuple[int, int], set[bytes]] = {}
    for dy in range(6):
        for dx in range(9):
            y, seen, (origin,) = run(model, x=scene[None, :, dy : dy + height, dx : dx + width])
            place = (dy + int(origin[0]), dx + int(origin[1]))
            found.setdefault(place, set()).add(y.tobytes())
            top, left = place
            np.testing.assert_array_equal(seen[0], scene[:, top : top + SIZE[0], left : left + SIZE[1]])
    assert len({(top % S[0], left % S[1]) for top, left in found}) == 1
    assert 1 < len(found) <= 3 * 3
    assert all(len(answers) == 1 for answers in found.values())


EDGE = np.zeros((3, 27, 35), np.float32)
EDGE[:, :, 14:] = 100.0
SLOPE = np.broadcast_to(np.arange(35, dtype=np.float32) * 3, (3, 27, 35))
HOLE = noise(3, 27, 35)
HOLE[1, 13, 17] = np.nan
ENDLESS = noise(3, 27, 35)
ENDLESS[2, 9, 9] = np.inf


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [1, "N"])
@pytest.mark.parametrize(
    "image",
    [np.zeros((3, 27, 35)), np.full((3, 27, 35), 114.7), EDGE, SLOPE, HOLE, ENDLESS, np.full((3, 27, 35), np.nan)],
    ids=["black", "flat", "edge", "slope", "NaN", "infinity", "all NaN"],
)
def test_images_without_a_corner_are_seen_from_the_middle(form: str, batch: object, image: Array) -> None:
    height, width = taken(form)
    x = np.ascontiguousarray(image[None, :, :height, :width]).astype(np.float32)
    _, seen, origin = run(rewritten(net(batch=batch), with_anchor(form)), x=x)
    assert origin.tolist() == [[1, 2]] if form == "wide" else [[0, 0]]
    np.testing.assert_array_equal(seen, x[:, :, 1:25, 2:32] if form == "wide" else x)


def test_one_image_without_a_corner_leaves_the_others_alone() -> None:
    images = np.stack([noise(3, 27, 35, seed=2), HOLE, noise(3, 27, 35, seed=3)])
    origin = run(rewritten(net(batch="N"), with_anchor("wide")), x=images)[2]
    assert [tuple(at) for at in origin] == [
        expected("wide", images[0], SIZE, S)[0], (1, 2), expected("wide", images[2], SIZE, S)[0],
    ]  # fmt: skip


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("form", FORMS)
def test_quantised_models_are_given_it_in_front_of_their_quantisation(kind: Any, form: str) -> None:
    model = qdq(kind)
    for value in (*model.graph.input, *model.graph.output):
        for k in (2, 3):
            value.type.tensor_type.shape.dim[k].dim_value *= 2
    result = rewritten(model, with_anchor(form))
    (quantised,) = (n for n in result.graph.node if n.op_type == "QuantizeLinear" and n.input[1] == "sx")
    assert quantised.input[0] != "x"
    assert not [n.name for n in result.graph.node if "x/anchor" not in n.name and "x" in n.input]
    side = 25 if form == "wide" else 24
    x = noise(1, 3, side, side) / 100
    _, view = expected(form, x[0], (24, 24), (2, 2))
    np.testing.assert_array_equal(run(result, x=x)[0], run(model, x=view[None])[0])


def test_functions_and_branches_read_what_is_seen() -> None:
    called = functions(
        "a = f.Half(x)\n y = GlobalMaxPool(a)",
        function("Half", "y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)"),
        inputs="float[1, 1, 24, 24] x",
    )
    branch = build("""(float[1, 1, 24, 24] x, bool on) => (float[1, 1, 12, 12] y) {
        y = If(on)<
            then_branch = yes () => (float[1, 1, 12, 12] t) {
                t = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
            },
            else_branch = no () => (float[1, 1, 12, 12] e) {
                e = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x)
            }>
    }""")
    x = noise(1, 1, 25, 25)
    _, view = expected("wide", x[0], (24, 24), (2, 2))
    for model, more in ((called, {}), (branch, {"on": np.array(True)}), (branch, {"on": np.array(False)})):
        result = rewritten(model, with_anchor("wide"))
        np.testing.assert_array_equal(run(result, x=x, **more)[0], run(model, x=view[None], **more)[0])


@pytest.mark.parametrize("form", FORMS)
def test_a_size_that_was_given_is_written_into_the_model(form: str) -> None:
    model = net(size=("H", "W"), batch="N")
    result = rewritten(model, with_anchor(form), input_shapes={"x": (1, 3, *SIZE)})
    dims = [dim.dim_value or dim.dim_param for dim in result.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["N", 3, *taken(form)]
    matches(result, form, noise(4, 3, *taken(form)))


@pytest.mark.parametrize(("asked", "phases"), [(1, (4, 6)), (6, (8, 6)), (9, (12, 12))])
@pytest.mark.parametrize("form", FORMS)
def test_more_phases_are_a_multiple_of_the_stride(form: str, asked: int, phases: tuple[int, int]) -> None:
    model = rewritten(net(), with_anchor(form, anchor_phases=asked))
    x = noise(1, 3, *taken(form, SIZE, phases))
    _, seen, (origin,) = run(model, x=x)
    at, view = expected(form, x[0], SIZE, phases)
    assert tuple(origin) == at
    np.testing.assert_array_equal(seen[0], view)


def test_the_origin_is_an_output_on_request() -> None:
    model = net(batch="N")
    result = rewritten(model, with_anchor("wide"))
    added = result.graph.output[-1]
    assert added.name == "origin"
    assert [dim.dim_value or dim.dim_param for dim in added.type.tensor_type.shape.dim] == ["N", 2]
    without = rewritten(model, with_anchor("wide", anchor_origin=False))
    assert [value.name for value in without.graph.output] == ["y", "seen"]
    x = noise(2, 3, *taken("wide"))
    np.testing.assert_array_equal(run(without, x=x)[0], run(result, x=x)[0])


# ---- with others -------------------------------------------------------------------------------------------


def test_views_are_taken_of_what_is_seen() -> None:
    """Two phases of the one corner, averaged."""
    model = net()
    del model.graph.output[1], model.graph.node[0]
    both = rewritten(model, with_anchor("wide", views="0,0 2,3"))
    x = noise(1, 3, *taken("wide"))
    _, view = expected("wide", x[0], SIZE, S)
    mean = run(rewritten(model, Recipe(views="0,0 2,3", **ALONE)), x=view[None])[0]
    np.testing.assert_array_equal(run(both, x=x)[0], mean)


def test_blurs_see_it_too() -> None:
    plan = aarewrite.plan(net(), Recipe(anchor="wide", first_conv=True))
    assert [one.site.node for one in plan.rewrites] == ["two"]
    rewritten(net(), Recipe(anchor="wide", first_conv=True))


def test_a_second_run_changes_nothing() -> None:
    once = rewritten(net(batch="N"), with_anchor("wide"))
    plan = aarewrite.plan(once, with_anchor("wide"))
    assert plan.warnings == ("no anchor: an earlier run put one in front",)
    assert not plan.changes


def test_what_it_says() -> None:
    (wide,) = aarewrite.plan(net(), with_anchor("wide")).warnings
    assert wide == "x (nchw) takes 27x35 px, of which the model sees 24x30 from one of 4 x 6 origins, " \
        "which its content chooses"  # fmt: skip
    (moved,) = aarewrite.plan(net(), with_anchor("in-place", anchor_origin=False)).warnings
    assert moved == "x (nchw) takes 24x30 px, moved from one of 4 x 6 origins, which its content chooses; " \
        "positions in its outputs count from there: --anchor-origin tells it"  # fmt: skip


def test_its_cost_is_counted_at_the_size_that_it_takes() -> None:
    plan = aarewrite.plan(net(), with_anchor("wide"))
    assert plan.macs is not None
    assert plan.macs_after is not None
    assert plan.cost_shapes == {"x": (1, 3, *SIZE)}
    assert plan.macs_after >= plan.macs + 27 * 35 * 3


def test_the_metadata_say_what_was_done() -> None:
    model = rewritten(net(), with_anchor("in-place"))
    record = json.loads(next(p.value for p in model.metadata_props if p.key == "aarewrite.anchor"))
    assert record == {
        "input": "x", "form": "in-place", "phases": [1, 1, 4, 6], "origin": "origin",
    }  # fmt: skip


def test_a_recipe_speaks_of_it_only_where_there_is_one() -> None:
    assert not {"anchor", "anchor_origin", "anchor_phases"} & set(Recipe().to_dict())
    told = with_anchor("wide").to_dict()
    assert (told["anchor"], told["anchor_origin"]) == ("wide", True)
    assert recipe_from_dict(told, "") == with_anchor("wide")
    with pytest.raises(UsageError, match="anchor = 'both' is not one of , wide, in-place"):
        Recipe(anchor="both")


def test_a_plan_holds_the_phases_and_is_applied_again() -> None:
    result = aarewrite.rewrite(net(), with_anchor("wide"))
    table = json.loads(result.plan.to_json())
    assert begins(result.plan, "anchor") == ("x",)
    assert table["stages"] == [{"do": "anchor", "sites": ["x"], "form": "wide", "phases": [1, 1, 4, 6], "origin": True}]
    again = aarewrite.rewrite(net(), plan=table)
    assert again.model.graph == result.model.graph
    table["stages"][0]["phases"] = [1, 1, 8, 6]
    wider = aarewrite.rewrite(net(), plan=table).model
    assert [dim.dim_value for dim in wider.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 31, 35]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sites": ["y"]}, "plan: anchor: y: no input that is an image"),
        ({"phases": [4, 6]}, "plan: anchor: x (nchw): phases [4, 6]: no strides that are known"),
        ({"phases": [1, 3, 4, 6]}, "plan: anchor: x (nchw): phases [1, 3, 4, 6]: no strides that are known"),
        (
            {"phases": [1, 1, 0, 6]},
            "plan: stage 'anchor': phases = [1, 1, 0, 6] is not a list of whole numbers above 0",
        ),
        ({"form": "narrow"}, "plan: stage 'anchor': form = 'narrow' is not one of wide, in-place"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    table = aarewrite.plan(net(), with_anchor("wide")).to_dict()
    table["stages"][0] |= change
    with pytest.raises(UsageError) as caught:
        aarewrite.rewrite(net(), plan=table)
    assert message in str(caught.value)


# ---- refusals ----------------------------------------------------------------------------------------------

POOL = "MaxPool<kernel_shape = [2, 2], strides = [2, 2]>"
PAIR = f"(float[1, 3, 24, 24] a, float[1, 3, 24, 24] b) => (float[] y) {{ c = Sub(a, b)\n y = {POOL}(c) }}"
SOUND = "(float[1, 1, 60] x) => (float[] y) { y = MaxPool<kernel_shape = [2], strides = [2]>(x) }"
SOLID = "(float[1, 1, 24, 24, 24] x) => (float[] y) { y = MaxPool<kernel_shape = [2, 2, 2], strides = [2, 2, 2]>(x) }"


@pytest.mark.parametrize(
    ("model", "form", "reason"),
    [
        (build(PAIR), "wide", "several inputs are images (a, b)"),
        (build(SOUND), "wide", "no input is an image"),
        (build(SOLID), "wide", "x (ncdhw): a corner is looked for in flat images alone"),
        (net(channels=4), "wide", "x: 4 channels make no grey image, 1 or 3 do"),
        (net(size=("H", "W")), "wide", "x: its size is open, give it with --input x:1x3x224x224"),
        (net(size=("H", "W"), layout="nhwc"), "wide", "x: its size is open, give it with --input x:1x224x224x3"),
        (net(opset=9), "wide", "x: Slice with computed bounds needs opset 10, convert the model first"),
        (net(opset=10), "in-place", "x: Pad of bytes and floats alike needs opset 11, convert the model first"),
        (net(size=(14, 30)), "in-place", "x: 14 px are too few to look for a corner 8 px from the border"),
        (build("(float[1, 3, 24, 24] x) => (float[] y) { y = GlobalMaxPool(x) }"), "wide",
         "x (nchw): phases [1, 1, 1, 1]: no strides that are known"),
    ],
)  # fmt: skip
def test_what_cannot_be_anchored_says_why(model: onnx.ModelProto, form: str, reason: str) -> None:
    plan = aarewrite.plan(model, with_anchor(form))
    assert plan.warnings == (f"no anchor: {reason}",)
    assert not plan.changes


def test_calibration_compares_what_both_see() -> None:
    with pytest.raises(UsageError, match="the plan changes what the model sees of input; calibrate without that"):
        aarewrite.calibrate(str(SAMPLES / "resnet.onnx"), SAMPLES / "digits_eval.npz", anchor="in-place", limit=4)


# ---- the proof, real models and the command line -----------------------------------------------------------


def test_the_proof_sees_a_frame_that_is_not_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = {"x": [(0, 0), (0, 0), (2, 1), (3, 2)]}
    monkeypatch.setattr(PhaseAnchor, "frames", property(lambda self: frames))
    with pytest.raises(aarewrite.CheckFailed, match="identity proof failed at tensor"):
        aarewrite.rewrite(net(), with_anchor("wide"))


REAL = [
    ("squeezenet1_1_fp32.onnx", "data_0", 224, 16),
    ("mobilenet_v2_tv_fp32.onnx", "input", 224, 32),
    ("resnet18_ktb_small_ts_op13.onnx", "input", 224, 32),
    ("mobilenet_v1_025_128_tf_qdq_uint8.onnx", "input", 128, 32),
    ("cifar10_resnet20_ts_op11.onnx", "input", 32, 4),
]


@pytest.mark.parametrize(("file", "name", "side", "stride"), REAL, ids=[row[0] for row in REAL])
def test_a_fixed_origin_is_the_original_bit_for_bit(file: str, name: str, side: int, stride: int) -> None:
    path = SHARED / "models" / file
    if not path.is_file():
        pytest.skip("without the shared models")
    model = onnx.load(path)
    (value,) = model.graph.input
    last = value.type.tensor_type.shape.dim[3].dim_value == 3
    shape = (1, side, side, 3) if last else (1, 3, side, side)
    for form in FORMS:
        result = aarewrite.rewrite(str(path), with_anchor(form), input_shapes={name: shape})
        assert result.proof is not None
        assert (result.proof.passed, result.proof.worst.difference) == (True, 0)
        pinned = applied(result.plan, str(path), twin=True).to_proto()
        at = (stride - 1) // 2 if form == "wide" else 0
        more = stride - 1 if form == "wide" else 0
        kind = np.uint8 if value.type.tensor_type.elem_type == onnx.TensorProto.UINT8 else np.float32
        x = noise(1, 3, side + more, side + more).astype(kind)
        middle = x[:, :, at : at + side, at : at + side]
        given, seen = (np.ascontiguousarray(one.transpose(0, 2, 3, 1)) if last else one for one in (x, middle))
        for before, after in zip(run(model, **{name: seen}), run(pinned, **{name: given}), strict=False):
            np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("form", FORMS)
def test_photographs(form: str) -> None:
    files = sorted((SHARED / "images" / "imagenet_sample").glob("*.jpg"))[::25]
    if not files:
        pytest.skip("without the shared photographs")
    from PIL import Image

    model = rewritten(net(size=(224, 224), batch="N"), with_anchor(form))
    height, width = taken(form, (224, 224))
    images = np.stack([
        np.asarray(Image.open(file).convert("RGB"), np.float32)[:height, :width].transpose(2, 0, 1) for file in files
    ])  # fmt: skip
    _, seen, origin = run(model, x=images)
    for k, image in enumerate(images):
        at, view = expected(form, image, (224, 224), S)
        assert tuple(origin[k]) == at
        np.testing.assert_array_equal(seen[k], view)


def test_on_the_command_line(tmp_path: Path) -> None:
    out, model = tmp_path / "out.onnx", tmp_path / "net.onnx"
    onnx.save(net(), model)
    done = aa("rewrite", model, "--skip", "*", "--anchor", "wide", "--anchor-origin", "-o", out)
    assert (done.status, done.err) == (0, "")
    assert "x (nchw) takes 27x35 px, of which the model sees 24x30" in done.words
    assert onnx.load(out).graph == rewritten(model, Recipe(), skip=["*"], anchor="wide", anchor_origin=True).graph


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--anchor-origin",), "--anchor-origin does nothing without --anchor"),
        (("--anchor-phases", "64"), "--anchor-phases does nothing without --anchor"),
        (("--anchor", "wide", "--anchor-phases", "-1"), "anchor_phases = -1 is not a whole number of 0 or more"),
        (("--anchor", "wide", "--plan", "p.json"), "--plan and --anchor exclude each other"),
        (("--anchor", "both"), "anchor = 'both' is not one of"),
    ],
)
def test_wrong_options_are_refused(arguments: tuple[str, ...], message: str) -> None:
    failed(aa("rewrite", SAMPLES / "resnet.onnx", *arguments), 2, message)
