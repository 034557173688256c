"""Shapes of tensors: inferred in bodies and functions, too, and never from sizes that are none."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from reference import build, weight

import aarewrite
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import load, save
from aarewrite.model.shapes import Shapes

CONV = "Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]"


def paddle(written: int) -> onnx.ModelProto:
    """A model whose open sizes are all written as one number: in the main graph, in an If's body and in a function."""
    model = build(
        f"""(float[1, 2, 16, 16] x, bool flag) => (float[1, 4, 4, 4] y) {{
        [conv] a = {CONV}, strides = [2, 2]>(x, w)
        b = Relu(a)
        y = If (flag) <
            then_branch = left () => (float[1, 4, 4, 4] p) {{ [left] q = {CONV}, strides = [2, 2]>(b, v) p = Relu(q) }},
            else_branch = right () => (float[1, 4, 4, 4] r) {{ r = local.Half(b) }}>
        }}
        <domain: "local", opset_import: ["" : 13]>
        Half (x) => (y) {{ s = Relu(x) [half] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(s) }}""",
        imports=', "local" : 1', w=weight(4, 2, 3, 3), v=weight(4, 4, 3, 3),
    )  # fmt: skip
    left = model.graph.node[2].attribute[0].g
    for graph, names in ((model.graph, "ab"), (left, "q"), (model.functions[0], "s")):
        graph.value_info.extend(onnx.helper.make_tensor_value_info(name, 1, [1, 4, 8, 8]) for name in names)
    infos = [*model.graph.input[:1], *model.graph.output, *model.graph.value_info, *model.functions[0].value_info]
    for branch in model.graph.node[2].attribute:
        infos += [*branch.g.output, *branch.g.value_info]
    for info in infos:
        for dim in info.type.tensor_type.shape.dim[2:]:
            dim.dim_value = written
    return model


@pytest.mark.parametrize("written", [-1, 0])
def test_sizes_that_are_none_are_unknown_and_channels_are_kept(written: int) -> None:
    editor = GraphEditor(load(paddle(written)))
    outputs = [(scope, node.outputs[0]) for scope in editor.scopes for node in scope.nodes]
    assert {tensor.name for _, tensor in outputs} == set("abyqprs")
    opened, given = Shapes(editor), Shapes(editor, {"x": (1, 2, 32, 32)})
    for scope, tensor in outputs:
        size = 16 if tensor.name in "abs" else 8
        assert [shapes.of(scope, tensor).dim(1) for shapes in (opened, given)] == [4, 4]
        assert opened.spatial(scope, tensor, 2) == (None, None)
        assert given.spatial(scope, tensor, 2) == (size, size)


@pytest.mark.parametrize("written", [-1, 0])
def test_such_a_model_is_rewritten_and_what_it_says_stays_as_it_was(written: int, tmp_path: Path) -> None:
    original = paddle(written)
    result = aarewrite.rewrite(original, first_conv=True)
    assert len(result.plan.rewrites) == 3
    assert result.proof is not None
    save(result.rewritten, tmp_path / "out.onnx")
    saved = onnx.load(tmp_path / "out.onnx")
    for kind in ("input", "output"):
        before, after = (getattr(m.graph, kind) for m in (original, saved))
        assert [v.SerializeToString() for v in before] == [v.SerializeToString() for v in after]
    sizes = {info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim] for info in saved.graph.value_info}
    assert sizes["b"] == [1, 4, written, written]
    assert [dim.dim_value for dim in saved.functions[0].value_info[0].type.tensor_type.shape.dim][2:] == [written] * 2


def test_an_empty_initializer_keeps_its_size() -> None:
    model = build(
        "(float[1, 2, 8, 8] x) => (float[] y) { [up] y = Resize<mode = \"nearest\">(x, roi, scales) }",
        roi=weight(0), scales=weight(4) * 0 + 2,
    )  # fmt: skip
    loaded = load(model)
    assert loaded.readable is loaded.proto
    assert list(loaded.proto.graph.initializer[0].dims) == [0]


def test_input_shapes() -> None:
    model = build(
        "(float[N, 2, H, W] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }"
    )
    assert aarewrite.plan(model).sites[0].site.input_size == (None, None)
    assert aarewrite.plan(model, input_shapes={"x": (1, 2, 8, 6)}).sites[0].site.input_size == (8, 6)
    with pytest.raises(aarewrite.UsageError, match="--input z: the model has no such input; it has x"):
        aarewrite.plan(model, input_shapes={"z": (1, 2, 8, 6)})
    for wrong in ((1, 3, 8, 6), (1, 2, 8)):
        with pytest.raises(aarewrite.UsageError, match=r"--input x: 1x.* contradicts \?x2x\?x\?"):
            aarewrite.plan(model, input_shapes={"x": wrong})
