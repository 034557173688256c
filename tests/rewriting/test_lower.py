"""Forms of blurs by target: chosen, proven, recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import aa, failed
from hypothesis import given, settings
from hypothesis import strategies as st
from padded import padded
from reference import build, ops, relative_difference, run, weight

import aarewrite
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import Model
from aarewrite.model.runtime import Session, open_session
from aarewrite.model.types import Node
from aarewrite.passes.lowering import PaddedBlur
from aarewrite.passes.pooled_blur import PooledBlur
from aarewrite.recipe import Recipe
from aarewrite.rewriting import lower
from aarewrite.targets.support import TARGETS, unsupported

NET = """(float[1, 16, 16, 16] x) => (float[] y) {
    [conv] a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)
    b = Relu(a)
    [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(b)
}"""


def net(opset: int = 13) -> onnx.ModelProto:
    return build(NET, opset=opset, w=weight(16, 16, 3, 3))


@pytest.mark.parametrize("opset", [13, 17, 20])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_no_target_gets_what_its_runtime_lacks(target: str, opset: int, strength: float) -> None:
    recipe = Recipe(first_conv=True, strength=strength)
    plain = aarewrite.rewrite(net(opset), recipe, target="openvino")  # which takes Pad
    assert ops(plain.model).count("Pad") == 2
    result = aarewrite.rewrite(net(opset), recipe, target=target)
    before = {node.name or node.output[0] for node in net(opset).graph.node}
    lines = [line for line in unsupported(result.model, target) if not any(f"'{name}'" in line for name in before)]
    assert lines == []
    x = weight(1, 16, 16, 16, seed=3)
    assert relative_difference(run(result.model, x=x)[0], run(plain.model, x=x)[0]) < 1e-6


def test_forms_by_target() -> None:
    recipe = Recipe(first_conv=True, strength=0.5)
    forms = {
        target: {one.form for one in aarewrite.rewrite(net(), recipe, target=target).lowered} for target in TARGETS
    }
    corrected, plain = {"zero pads, corrected"}, {""}
    assert forms == {
        "portable": corrected, "ort-cpu": corrected, "ort-cuda": plain, "tensorrt": plain, "openvino": plain,
        "coreml": corrected,
    }  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(
    size=st.tuples(st.integers(9, 20), st.integers(9, 20)),
    taps=st.integers(2, 5),
    strength=st.sampled_from([1.0, 0.5]),
    target=st.sampled_from(sorted(TARGETS)),
)
def test_any_target_gives_the_same_values(size: tuple[int, int], taps: int, strength: float, target: str) -> None:
    strength = strength if taps % 2 else 1.0
    model = build(NET.replace("16, 16, 16]", f"16, {size[0]}, {size[1]}]"), w=weight(16, 16, 3, 3))
    recipe = Recipe(filter=taps, first_conv=True, strength=strength)
    plain, other = (aarewrite.rewrite(model, recipe, target=one).model for one in ("openvino", target))
    x = weight(1, 16, *size)
    assert relative_difference(run(other, x=x)[0], run(plain, x=x)[0]) < 1e-6


def test_a_form_that_computes_something_else_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = PooledBlur.nodes.__func__  # type: ignore[attr-defined]

    def wrong(cls: type[PooledBlur], editor: GraphEditor, blur: PaddedBlur) -> list[Node]:
        made: list[Node] = honest(cls, editor, blur)
        made[-1].attrs["count_include_pad"] = 1
        return made

    monkeypatch.setattr(PooledBlur, "nodes", classmethod(wrong))
    with pytest.raises(aarewrite.CheckFailed, match="pool/blur/Conv as average pools: differs by"):
        aarewrite.rewrite(net())


def test_it_is_recorded_and_told() -> None:
    result = aarewrite.rewrite(net(), target="ort-cpu")
    blurs = json.loads({p.key: p.value for p in result.model.metadata_props}["aarewrite.blurs"])
    assert blurs["pool/blur/Conv"]["form"] == "average pools"
    assert {p.key: p.value for p in result.model.metadata_props}["aarewrite.target"] == "ort-cpu"
    assert result.report["recipe"]["target"] == "ort-cpu"
    (told,) = result.report["lowering"]
    assert (told["node"], told["form"]) == ("pool/blur/Conv", "average pools")
    assert [one["difference"] < 1e-6 for one in told["comparisons"]] == [True]
    again = aarewrite.rewrite(result.model, target="ort-cpu")
    assert not again.changed
    plan = aarewrite.plan(net(), target="ort-cpu")
    assert aarewrite.rewrite(net(), plan=plan.to_dict()).model == result.model
    assert plan.apply(net()) == result.model


def test_a_target_without_a_plan_lowers_what_is_there() -> None:
    model = padded((12, 12), (3, 3), (2, 2))
    assert not aarewrite.rewrite(model).changed
    result = aarewrite.rewrite(model, target="portable")
    assert result.changed
    assert result.proof is None
    assert len(result.lowered[0].comparisons) == 1
    open_size = aarewrite.rewrite(padded(("h", "w"), (3, 3), (2, 2)), target="portable")
    assert len(open_size.lowered[0].comparisons) == 16
    unproven = aarewrite.rewrite(model, target="portable", verify=False)
    assert unproven.lowered[0].comparisons == ()


def test_what_the_runtime_does_not_take_besides_is_a_note() -> None:
    model = build("(float[1, 16, 16, 16] x) => (float[] y) { a = NonZero(x) y = Cast<to = 1>(a) }")
    many = padded((12, 12), (3, 3), (2, 2))
    for place in range(10):
        many.graph.node.add(op_type="NonZero", name=f"odd{place}", input=["y"], output=[f"z{place}"])
    assert aarewrite.rewrite(model, target="coreml").warnings == ()  # nothing was rewritten
    warnings = aarewrite.rewrite(many, target="coreml", verify=False).warnings
    assert sum(line.startswith("coreml: NonZero 'odd") for line in warnings) == 8
    assert warnings[-1] == "coreml: and 2 nodes more that it does not take"


def test_the_command_line(tmp_path: Path) -> None:
    onnx.save(net(), tmp_path / "net.onnx")
    done = aa(tmp_path / "net.onnx", "--target", "coreml", "-o", tmp_path / "out.onnx")
    assert done.status == 0
    assert "blurs for coreml: 1 as average pools; equal to Pad and Conv within" in done.words
    assert "Pad" not in ops(onnx.load(tmp_path / "out.onnx"))
    wrong: Sequence[object] = (tmp_path / "net.onnx", "--target", "tflite")
    failed(aa(*wrong), 2, "target = 'tflite' is not one of portable, ort-cpu, ort-cuda, tensorrt, openvino, coreml")


def test_float16_is_proven_in_float32() -> None:
    model = padded((12, 12), (3, 3), (2, 2), dtype=np.float16)
    result = aarewrite.rewrite(model, target="coreml", verify=True)
    assert [one.form for one in result.lowered] == ["average pools"]
    assert result.lowered[0].comparisons[0].relative < 1e-6


@pytest.mark.parametrize(("size", "channels"), [((12, 12), 16), ((2**15, 32), 4), ((2**18, 32), 2)])
def test_large_maps_are_proven_with_few_channels(
    size: tuple[int, int], channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = list[int]()

    def opened(model: Model) -> Session:
        widths.append(model.proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value)
        return open_session(model)

    monkeypatch.setattr(lower, "open_session", opened)
    result = aarewrite.rewrite(padded(size, (3, 3), (2, 2)), target="coreml", verify=True)
    assert [one.form for one in result.lowered] == ["average pools"]
    assert widths == [channels, channels]


def test_a_map_too_large_to_prove_a_form_at_keeps_the_plain_one() -> None:
    result = aarewrite.rewrite(padded((2**20, 2**20), (3, 3), (2, 2)), target="portable", verify=True)
    assert [one.form for one in result.lowered] == [""]
