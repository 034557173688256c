"""Nothing is lost: what a rewrite does not change comes out byte for byte as it went in."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from reference import build, ops, run, weight

import aarewrite
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import load

META = {"pkg.torch.onnx.name_scopes": "['', 'stem']", "trace": "File x.py, line 3"}


def add_metadata(message: object, entries: dict[str, str] = META) -> None:
    for key, value in entries.items():
        message.metadata_props.add(key=key, value=value)


@pytest.fixture
def rich() -> onnx.ModelProto:
    """A model that uses what a GraphSurgeon round trip would lose."""
    model = build(
        """(float[N, 2, 16, 16] x) => (float[] y, float[] z) {
        [stem] a = Conv<pads = [1, 1, 1, 1]>(x, w)
        [custom] b = my.domain.Thing<level = 3>(a)
        [relu] c = Relu(a)
        [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(c)
        [scale] z = Mul(y, s)
    }""",
        opset=17, ir=10, imports=', "my.domain" : 2',
        w=weight(2, 2, 3, 3), s=np.full((1, 2, 1, 1), 2, np.float32), unused=weight(40, 40), overridable=weight(3),
    )  # fmt: skip
    model.producer_name, model.producer_version, model.domain = "pytorch", "2.13", "org.example"
    model.model_version, model.doc_string = 7, "a model\nwith two lines"
    add_metadata(model)
    graph = model.graph
    graph.doc_string = "graph doc"
    add_metadata(graph)
    for node in graph.node:
        node.doc_string = f"doc of {node.name}"
        add_metadata(node)
    for value in (*graph.input, *graph.output):
        value.doc_string = f"doc of {value.name}"
        add_metadata(value)
    graph.input[0].type.denotation = "IMAGE"
    graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["N", 2, 16, 16], "doc of a"))
    graph.value_info.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, ["N", 2, 16, 16], "doc of c"))
    graph.input.append(helper.make_tensor_value_info("overridable", TensorProto.FLOAT, [3]))
    annotation = graph.quantization_annotation.add(tensor_name="a")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s")
    training = model.training_info.add()
    training.algorithm.CopyFrom(helper.make_graph([], "train", [], []))
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            helper.make_tensor("sparse", TensorProto.FLOAT, [2], [1.0, 2.0]),
            helper.make_tensor("sparse_indices", TensorProto.INT64, [2], [0, 5]),
            [10],
        )
    )
    return model


def test_everything_else_is_byte_equal(rich: onnx.ModelProto) -> None:
    """Take back what the rewrite says it changed: nothing else may differ."""
    result = aarewrite.rewrite(rich, verify=False)
    assert [p.site.node for p in result.plan.rewrites] == ["pool"]
    changed = copy.deepcopy(result.model)
    own = [entry for entry in changed.metadata_props if entry.key.startswith("aarewrite.")]
    assert {entry.key for entry in own} == {"aarewrite.version", "aarewrite.recipe", "aarewrite.blurs"}
    for entry in own:
        changed.metadata_props.remove(entry)
    graph = changed.graph
    new_nodes = [n for n in graph.node if n.name.startswith("pool/blur")]
    assert [n.op_type for n in new_nodes] == ["Pad", "Conv"]
    for new in new_nodes:
        graph.node.remove(new)
    new_tensors = [t for t in graph.initializer if t.name.startswith("pool/blur")]
    for tensor in new_tensors:
        graph.initializer.remove(tensor)
    pool = next(n for n in graph.node if n.name == "pool")
    assert list(pool.output) == ["y/dense"]
    pool.output[0] = "y"
    strides = next(a for a in pool.attribute if a.name == "strides")
    assert list(strides.ints) == [1, 1]
    strides.ints[:] = [2, 2]
    assert changed.SerializeToString(deterministic=True) == rich.SerializeToString(deterministic=True)


def test_untouched_nodes_keep_bytes_and_order(rich: onnx.ModelProto) -> None:
    result = aarewrite.rewrite(rich, verify=False)
    before = {n.name: n.SerializeToString() for n in rich.graph.node if n.name != "pool"}
    after = {n.name: n.SerializeToString() for n in result.model.graph.node}
    assert before.items() <= after.items()
    order = [n.name for n in result.model.graph.node if n.name in before]
    assert order == [n.name for n in rich.graph.node if n.name in before]


def test_model_without_a_site_is_byte_equal(rich: onnx.ModelProto) -> None:
    model = copy.deepcopy(rich)
    strides = next(a for n in model.graph.node if n.name == "pool" for a in n.attribute if a.name == "strides")
    strides.ints[:] = [1, 1]
    for output, size in zip(model.graph.output, (15, 15), strict=True):
        for axis in (2, 3):
            output.type.tensor_type.shape.dim[axis].dim_value = size
    assert aarewrite.rewrite(model).model.SerializeToString() == model.SerializeToString()


def test_explicit_default_fields_survive() -> None:
    """Tensors that were loaded from external data say data_location = DEFAULT."""
    model = build("(float[1, 2, 9, 9] x) => (float[] y) { [conv] y = Conv(x, w) }", w=weight(64, 2, 3, 3))
    model.graph.initializer[0].data_location = TensorProto.DEFAULT
    assert aarewrite.rewrite(model).model.SerializeToString() == model.SerializeToString()


def test_inner_shapes_that_no_longer_hold_are_dropped() -> None:
    model = build(
        """(float[1, 2, 9, 9] x) => (float[] y) {
        [conv] a = Conv<strides = [2, 2]>(x, w)
        b = Relu(a)
        y = GlobalAveragePool(b)
    }""",
        w=weight(2, 2, 3, 3),
    )
    model = onnx.shape_inference.infer_shapes(model)
    assert {info.name for info in model.graph.value_info} == {"a", "b"}
    result = aarewrite.rewrite(model, first_conv=True)
    assert {info.name for info in result.model.graph.value_info} == {"b"}
    inferred = onnx.shape_inference.infer_shapes(result.model, strict_mode=True)
    assert [d.dim_value for d in inferred.graph.value_info[0].type.tensor_type.shape.dim] == [1, 2, 4, 4]


def test_names_in_use_are_not_taken() -> None:
    model = build("""(float[1, 2, 9, 9] x) => (float[] y, float[] z) {
        [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        ["pool/blur/Conv"] "y/dense" = Neg(y)
        ["pool/blur/Pad"] "pool/blur/padded" = Neg("y/dense")
        ["z"] z = Identity("pool/blur/padded")
    }""")
    result = aarewrite.rewrite(model)
    names = [n.name for n in result.model.graph.node]
    tensors = [name for n in result.model.graph.node for name in n.output]
    assert len(set(names)) == len(names)
    assert len(set(tensors)) == len(tensors)


def test_model_as_given_by_the_caller_is_not_changed(rich: onnx.ModelProto) -> None:
    before = rich.SerializeToString()
    aarewrite.plan(rich)
    aarewrite.rewrite(rich, verify=False)
    assert rich.SerializeToString() == before


def test_inputs_are_resized_and_outputs_added() -> None:
    model = build("(float[N, 2, H, 9] x) => (float[N, 2, H, 9] y) { y = Relu(x) }")
    model.graph.value_info.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, "H", 9]))
    editor = GraphEditor(load(model))
    (x,), added = editor.scopes[0].graph.inputs, editor.variable("z")
    editor.resize_input(x, [0, 0, 12, 10])
    editor.insert_after(editor.scopes[0], editor.scopes[0].nodes[0], [editor.node("Neg", "neg", [x], [added])])
    editor.add_output(added, TensorProto.FLOAT, ["N", 2, 12, 10])
    made = editor.export().to_proto()
    declared = {
        value.name: [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]
        for value in (*made.graph.input, *made.graph.output)
    }
    assert declared == {"x": ["N", 2, 12, 10], "y": ["N", 2, "H", 9], "z": ["N", 2, 12, 10]}
    assert not made.graph.value_info
    assert [tensor.name for tensor in editor.scopes[0].graph.outputs] == ["y", "z"]


# ---- constants ---------------------------------------------------------------------------------------------


def test_old_ir_gets_constant_nodes_since_initializers_would_be_inputs() -> None:
    model = build(
        "(float[1, 2, 9, 9] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }",
        opset=8,
        ir=3,
    )
    result = aarewrite.rewrite(model)
    assert ops(result.model) == ["Constant", "MaxPool", "Pad", "Conv"]
    assert [value.name for value in result.model.graph.input] == ["x"]
    assert len(result.model.graph.initializer) == 0
    onnx.checker.check_model(result.model, full_check=True)


@pytest.mark.parametrize(("opset", "inputs"), [(7, 1), (10, 1), (11, 2), (17, 2), (18, 2), (19, 2), (21, 2)])
def test_pad_has_the_form_of_its_opset(opset: int, inputs: int) -> None:
    model = build(
        "(float[1, 2, 9, 9] x) => (float[] y) { [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }",
        opset=opset,
    )
    result = aarewrite.rewrite(model)
    pad = next(n for n in result.model.graph.node if n.op_type == "Pad")
    assert len(pad.input) == inputs
    assert {a.name for a in pad.attribute} == ({"mode", "pads"} if opset < 11 else {"mode"})
    onnx.checker.check_model(result.model, full_check=True)
    assert run(result.model, x=weight(1, 2, 9, 9))[0].shape == (1, 2, 4, 4)


# ---- what cannot be represented ----------------------------------------------------------------------------


def test_binary_string_attribute_is_refused_by_name_or_carried() -> None:
    model = build("""(float[1, 2, 9, 9] x) => (float[] y, float[] z) {
        [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        [bytes] z = my.Op(y)
    }""", imports=', "my" : 1')  # fmt: skip
    attribute = model.graph.node[1].attribute.add(name="blob", type=onnx.AttributeProto.STRING)
    attribute.s = b"\xff\xfe\x00"
    refused_or_carried(model, "blob")


@pytest.mark.parametrize("kind", ["sequence", "optional"])
def test_other_types_of_inputs_are_refused_by_name_or_carried(kind: str) -> None:
    model = build("""(float[1, 2, 9, 9] x) => (float[] y) {
        [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
    }""")
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    make = helper.make_sequence_type_proto if kind == "sequence" else helper.make_optional_type_proto
    model.graph.input.append(helper.make_value_info("others", make(tensor)))
    refused_or_carried(model, "others")


def test_sequence_outputs_are_refused_by_name_or_carried() -> None:
    model = build("""(float[1, 2, 9, 9] x) => (seq(float[]) many, float[] y) {
        [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        [split] many = SplitToSequence(y)
    }""")
    refused_or_carried(model, "many")


def test_empty_list_attributes_are_refused_by_name_or_carried() -> None:
    model = build("""(float[1, 2, 9, 9] x) => (float[] y, float[] z) {
        [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        [custom] z = my.Op(y)
    }""", imports=', "my" : 1')  # fmt: skip
    model.graph.node[1].attribute.add(name="nothing", type=onnx.AttributeProto.INTS)
    refused_or_carried(model, "nothing")


def refused_or_carried(model: onnx.ModelProto, name: str) -> None:
    try:
        result = aarewrite.rewrite(model, verify=False)
    except aarewrite.CannotHandle:
        with pytest.raises(aarewrite.CannotHandle, match=name):
            aarewrite.rewrite(model, verify=False)
        return
    text = str(result.model)
    assert name in text
    kept = {n.name: n for n in result.model.graph.node}
    for source in model.graph.node[1:]:
        assert kept[source.name].SerializeToString() == source.SerializeToString()
    assert [v.SerializeToString() for v in result.model.graph.input] == [
        v.SerializeToString() for v in model.graph.input
    ]


def test_type_and_sparse_attributes_are_carried() -> None:
    model = build("""(float[1, 2, 9, 9] x) => (float[] y, float[] z) {
        [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
        [custom] z = my.Op(y)
    }""", imports=', "my" : 1')  # fmt: skip
    type_proto = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    model.graph.node[1].attribute.append(helper.make_attribute("kind", type_proto))
    refused_or_carried(model, "kind")


def test_editor_reads_weights_set_aside() -> None:
    w = weight(64, 2, 3, 3)
    model = build("(float[1, 2, 9, 9] x) => (float[] y) { [conv] y = Conv(x, w) }", w=w)
    loaded = load(model)
    assert list(loaded.weights) == ["w"]
    editor = GraphEditor(loaded)
    (conv,) = editor.scopes[0].nodes
    value = editor.constant_value(conv.inputs[1])
    assert value is not None
    assert np.array_equal(value, w)
    assert editor.constant_shape(conv.inputs[1]) == (64, 2, 3, 3)
    assert editor.export().to_proto().SerializeToString() == model.SerializeToString()


# ---- removing what nothing reads -----------------------------------------------------------------------------

CHAIN = """(float[1, 2, 4] x) => (float[] y, float[] used) {
    [shape] s = Shape(x) [first] f = Cast<to = 1>(s) [second] t = Neg(f) [third] r = Abs(t) [other] o = Exp(f)
    [reader] y = Mul(x, scale) [keep] used = Identity(o) }"""


def test_what_nothing_reads_goes_with_what_only_it_needed() -> None:
    editor = GraphEditor(load(build(CHAIN, scale=np.float32(2))))
    nodes = {node.name: node for node in editor.scopes[0].nodes}
    assert [node.name for node in editor.needed_by(nodes["third"])] == ["third", "second"]
    assert [node.name for node in editor.needed_by(nodes["third"], but=nodes["second"])] == ["third"]
    editor.remove_unread(nodes["third"].outputs[0])
    assert [node.name for node in editor.scopes[0].nodes] == ["shape", "first", "other", "reader", "keep"]
    editor.remove_unread(nodes["keep"].outputs[0])  # an output of the model
    editor.remove_unread(nodes["first"].outputs[0])  # read
    assert len(editor.scopes[0].nodes) == 5


def test_a_node_takes_over_what_another_wrote() -> None:
    editor = GraphEditor(load(build("(float[1, 2, 4] x) => (float[] y) { [abs] a = Abs(x) [neg] y = Identity(a) }")))
    first, second = editor.scopes[0].nodes
    target = second.outputs[0]
    editor.remove(editor.scopes[0], second)
    editor.make_write(first, target)
    made = editor.export().to_proto()
    assert ops(made) == ["Abs"]
    assert run(made, x=weight(1, 2, 4))[0].min() >= 0
    assert editor.home(first) is editor.scopes[0]


def test_a_constant_behind_any_number_of_nodes() -> None:
    """An exporter may chain thousands of them: nothing is looked up by recursion."""
    model = build("(float[1, 2, 8, 8] x) => (float[] y) { y = Conv<strides = [2, 2]>(x, w) }", w=weight(2, 2, 3, 3))
    chain = [helper.make_node("Identity", [f"w{k}" if k else "w"], [f"w{k + 1}"]) for k in range(1500)]
    model.graph.node[0].input[1] = "w1500"
    conv = copy.deepcopy(model.graph.node[0])
    del model.graph.node[:]
    model.graph.node.extend([*chain, conv])
    editor = GraphEditor(load(model))
    assert editor.constant_shape(editor.scopes[0].nodes[-1].inputs[1]) == (2, 2, 3, 3)


def test_initializers_that_lose_their_last_reader_are_left_out() -> None:
    model = build(
        """(float[1, 2, 8, 8] x) => (float[] y, float[] z) {
            [flat] k = Reshape(flat, shape)
            [conv] a = Conv<group = 2>(x, k)
            [again] y = Reshape(a, shape)
            [scale] z = Mul(y, s)
        }""",
        flat=weight(18), shape=np.int64([2, 1, 3, 3]), s=weight(1), unused=weight(2),
    )  # fmt: skip
    editor = GraphEditor(load(model))
    main = editor.scopes[0]
    flat, conv, _, scale = main.nodes
    taps = editor.constant(main, "taps", weight(2, 1, 3, 3), TensorProto.FLOAT)
    editor.set_input(conv, 1, taps)
    editor.set_input(scale, 1, editor.constant(main, "dropped", weight(1, seed=1), TensorProto.FLOAT))
    editor.set_input(scale, 1, editor.constant(main, "two", np.float32(2), TensorProto.FLOAT))
    editor.remove(main, flat)
    names = [tensor.name for tensor in editor.export().to_proto().graph.initializer]
    assert names == ["shape", "unused", "taps", "two"]


def test_old_models_load_without_what_nothing_reads() -> None:
    """Before IR version 4, ONNX Runtime refuses initializers that are no inputs and that no node reads."""
    model = build(
        """(float[1, 2, 16, 16] x) => (float[] y) {
            [flat] k = Reshape(flat, shape)
            [pad] p = Pad<mode = "reflect">(x, pads)
            [blur] a = Conv<group = 2, strides = [2, 2]>(p, k)
            [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)
        }""",
        flat=np.tile(np.outer([1, 2, 1], [1, 2, 1]).reshape(-1) / 16, 2).astype(np.float32),
        shape=np.int64([2, 1, 3, 3]), pads=np.int64([0, 0, 1, 1, 0, 0, 1, 1]),
    )  # fmt: skip
    model.ir_version = 3
    for target in (None, "ort-cuda"):
        result = aarewrite.rewrite(model, target=target)
        read = {name for node in result.model.graph.node for name in node.input}
        assert result.changed
        assert {tensor.name for tensor in result.model.graph.initializer} <= read
