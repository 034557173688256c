"""Files that are no model: each is refused before anything is calculated, with the node or tensor and what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from command import aa, failed, small_net
from reference import build, function, functions, overloads, weight

import aarewrite
from aarewrite.errors import CannotHandle
from aarewrite.model.model_file import load
from aarewrite.model.soundness import stored_bits


def parsed(nodes: str, opset: int = 13, outputs: str = "float[1, 2, 4, 4] y") -> onnx.ModelProto:
    """As `build`, without inference: it would fail."""
    header = f'<ir_version: 8, opset_import: ["" : {opset}, "f": 1]>'
    return onnx.parser.parse_model(f"{header}\nnet (float[1, 2, 8, 8] x, bool c) => ({outputs}) {{ {nodes} }}")


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ("[site] y = MaxPool<strides = [2, 2]>(x)", "node 'site': no 'kernel_shape', which MaxPool needs"),
        ("y = Conv<strides = [2, 2]>(x)", "node 'y': 1 inputs, Conv takes 2 to 3"),
        ("[a] y, z = Relu(x)", "node 'a': 2 outputs, Relu takes 1"),
        ("[a] y = Concat<axis = 1>()", "node 'a': 0 inputs, Concat takes 1 or more"),
        ("[site] y = MaxPool<kernel_shape = [2, 2], strides = [0, 2]>(x)", "node 'site': strides of 0"),
        ("y = MaxPool<kernel_shape = [2, -2]>(x)", "node 'y': kernel_shape of -2"),
        ("y = MaxPool<kernel_shape = [2, 4611686018427387904]>(x)", "kernel_shape of 4611686018427387904"),
        ("y = Conv<group = 0>(x, x)", "node 'y': group of 0"),
        ("y = MaxPool<kernel_shape = 2>(x)", "node 'y': 'kernel_shape' is INT, MaxPool takes INTS"),
        ("y = MaxPool<kernel_shape = [2, 2], strides = [2.0, 2.0]>(x)", "'strides' is FLOATS, MaxPool takes INTS"),
        ("y = Relu(a)", "node 'y': nothing makes its input 'a'"),
        ("z = Relu(x)", "nothing makes the output 'y'"),
        ("y = Relu(x) y = Sigmoid(x)", "node 'y': its output 'y' is there already"),
        ("[n] x = Relu(x) y = Relu(x)", "node 'n': its output 'x' is there already"),
        ("a = Relu(b) b = Relu(a) y = Relu(x)", "it waits for its own output"),
        (
            "y = If<then_branch = t () => (float[1, 2, 8, 8] p) { p = Relu(q) }, "
            "else_branch = e () => (float[1, 2, 8, 8] p) { p = Relu(x) }>(c)",
            "node 'p': nothing makes its input 'q'",
        ),
    ],
)
def test_graphs_that_are_none(nodes: str, words: str) -> None:
    with pytest.raises(CannotHandle) as refused:
        aarewrite.plan(parsed(nodes))
    assert words in refused.value.message


def test_a_graph_without_outputs() -> None:
    with pytest.raises(CannotHandle, match="its graph has no output"):
        load(parsed("z = Relu(x)", outputs=""))


def test_what_a_runtime_takes_is_taken() -> None:
    """Nodes out of order, optional inputs and outputs left out, operators of others, names from around a body."""
    load(parsed("y = Relu(a) a = Relu(x)"))
    load(parsed("a = Clip(x, , ) y, = Dropout(a)"))
    load(parsed("a = Mine<strides = 2.0>(x) y = f.Unknown<group = 0>(a)"))
    load(
        parsed(
            "a = Relu(x) y = If<then_branch = t () => (float[1, 2, 8, 8] p) { p = Relu(a) }, "
            "else_branch = e () => (float[1, 2, 8, 8] a) { }>(c)"
        )
    )


def test_functions_that_call_themselves() -> None:
    for bodies in (("A",), ("B", "A")):
        model = functions("y = f.A(x)", *(function(name, "y = Relu(x)") for name in "AB"))
        for found, body in zip(model.functions, bodies, strict=False):
            found.node[0].op_type, found.node[0].domain = body, "f"
        with pytest.raises(CannotHandle, match="function 'A' calls itself"):
            load(model)


def test_overloads_call_themselves_only_where_they_do() -> None:
    model = overloads("y = f.First(x)", "y = f.Second(x)", "y = Relu(x)")
    load(model)
    model.functions[1].node[0].CopyFrom(model.graph.node[0])  # which calls the first one
    with pytest.raises(CannotHandle, match="function 'Down' calls itself"):
        load(model)


def test_two_functions_of_one_name_are_refused_and_overloads_are_not() -> None:
    model = overloads("a = f.First(x) y = f.Second(a)", "y = Relu(x)", "y = Neg(x)")
    load(model)
    model.functions[1].overload = "First"
    with pytest.raises(CannotHandle, match="there are two functions 'f::Down::First'"):
        load(model)


def test_functions_that_nobody_can_write_out() -> None:
    """Forty functions, each of which calls the next one twice: 2^40 nodes in a few kB."""
    model = functions("y = f.F0(x)", *(function(f"F{k}", "y = Relu(x)") for k in range(40)))
    for k, found in enumerate(model.functions[:-1]):
        del found.node[:]
        for ends in (("x", "t"), ("t", "y")):
            found.node.add(op_type=f"F{k + 1}", domain="f", input=ends[:1], output=ends[1:])
    with pytest.raises(CannotHandle, match="function 'F18', written out, has more than 1048576 nodes"):
        load(model)


def test_a_function_is_looked_into() -> None:
    with pytest.raises(CannotHandle, match="node 'y': nothing makes its input 'gone'"):
        load(functions("y = f.A(x)", function("A", "y = Relu(gone)")))
    body = "[p] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)"
    model = functions("y = f.A(x)", function("A", body))
    model.functions[0].node[0].attribute[1].ints[0] = 0
    with pytest.raises(CannotHandle, match="node 'p': strides of 0"):
        load(model)


def test_a_stride_of_0_that_is_handed_to_a_function() -> None:
    """Through two of them; and by default."""
    inner = function("A", "y = MaxPool<kernel_shape = [2, 2], strides: ints = @s>(x)", parameters="<s>")
    model = functions(
        "[call] y = f.B<t = [2, 2]>(x)", function("B", "y = f.A<s: ints = @t>(x)", parameters="<t>"), inner
    )
    load(model)
    model.graph.node[0].attribute[0].ints[1] = 0
    with pytest.raises(CannotHandle, match="node 'call': t of 0"):
        load(model)
    default = onnx.helper.make_attribute("t", [0, 2])
    del model.functions[0].attribute[:]
    model.functions[0].attribute_proto.append(default)
    model.graph.node[0].ClearField("attribute")
    with pytest.raises(CannotHandle, match="function 'B': t of 0"):
        load(model)


CONV = "(float[1, 2, 8, 8] x) => (float[] y) { y = Conv(x, w) }"


def test_initializers_of_the_same_name() -> None:
    """ONNX Runtime takes the last one and says nothing that a user would see."""
    model = build(CONV, w=weight(40, 2, 3, 3))
    model.graph.initializer.append(model.graph.initializer[0])
    with pytest.raises(CannotHandle, match="there are two initializers 'w'"):
        load(model)


@pytest.mark.parametrize(
    ("dims", "words"),
    [
        ((2**50, 2, 3, 3), "its data has 2880 bytes instead of 81064793292668928"),
        ((-40, 2, 3, 3), "a size is negative"),
        ((40, 2, 3), "its data has 2880 bytes instead of 960"),
        ((0,), "its data has 2880 bytes instead of 0"),
    ],
)
def test_sizes_and_data_that_contradict_each_other(dims: tuple[int, ...], words: str) -> None:
    model = build(CONV, w=weight(40, 2, 3, 3))
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    with pytest.raises(CannotHandle) as refused:
        load(model)
    assert words in refused.value.message
    assert "tensor 'w'" in refused.value.message


def test_sizes_of_typed_data() -> None:
    model = build(CONV, w=weight(4, 2, 3, 3))
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [4, 2, 3, 3], weight(72).tolist())
    model.graph.initializer[0].CopyFrom(tensor)
    load(model)
    del tensor.float_data[10:]
    model.graph.initializer[0].CopyFrom(tensor)
    with pytest.raises(CannotHandle, match="tensor 'w' of 4x2x3x3: it holds 10 numbers instead of 72"):
        load(model)
    tensor.data_type = 99
    model.graph.initializer[0].CopyFrom(tensor)
    with pytest.raises(CannotHandle, match="element type 99 does not exist"):
        load(model)


@pytest.mark.parametrize("kind", [kind for kind in [*onnx.TensorProto.DataType.keys()] if kind != "UNDEFINED"])
def test_every_element_type_is_measured_as_onnx_writes_it(kind: str) -> None:
    if kind == "STRING":
        tensor = onnx.helper.make_tensor("w", onnx.TensorProto.STRING, [3], ["a", "bc", "d"])
    else:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(kind))
        tensor = onnx.numpy_helper.from_array(np.zeros((3, 5), dtype), "w")
        assert len(tensor.raw_data) * 8 >= 15 * stored_bits(kind) > len(tensor.raw_data) * 8 - 8
    model = build("(float[1, 2, 8, 8] x) => (float[] y) { y = Relu(x) }")
    model.graph.initializer.append(tensor)
    load(model)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"length": "144"}, "its data has 144 bytes instead of 288"),
        ({"length": "-288"}, "the length of its data is '-288'"),
        ({"offset": "-4"}, "the offset of its data is '-4'"),
        ({"offset": "9" * 30}, "the offset of its data is '999"),
        ({"offset": "x"}, "the offset of its data is 'x'"),
    ],
)
def test_what_is_said_of_external_data(tmp_path: Path, entry: dict[str, str], words: str) -> None:
    model = build(CONV, w=weight(4, 2, 3, 3))
    tensor = model.graph.initializer[0]
    (tmp_path / "w.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in ({"location": "w.bin"} | entry).items():
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    failed(aa(tmp_path / "m.onnx"), 3, "tensor 'w'", words)


@pytest.mark.parametrize("case", ["conv_group_0", "dup_init_large", "huge_dims", "huge_input", "recursive_function"])
@pytest.mark.parametrize("command", ["inspect", "rewrite", "verify"])
def test_shared_hostile_files(hostile: Path, tmp_path: Path, case: str, command: str) -> None:
    if case == "huge_input" and command == "inspect":
        pytest.skip("a plan is no work")
    more = ["-o", tmp_path / "out.onnx", "-q"] if command == "rewrite" else []
    failed(aa(command, hostile / f"{case}.onnx", *more), 3)
    assert not list(tmp_path.iterdir())


def test_files_that_are_torn_flipped_or_noise(tmp_path: Path) -> None:
    data = small_net(tmp_path / "net.onnx").read_bytes()
    rng = np.random.default_rng(0)
    torn = [data[:length] for length in rng.integers(0, len(data), 40)]
    noise = [rng.bytes(length) for length in (1, 10, 1000)]
    for number, content in enumerate([*torn, *noise, b"", b"\n" * 1000, data + b"\x07"]):
        file = tmp_path / f"{number}.onnx"
        file.write_bytes(content)
        failed(aa("inspect", file), 3, f"{number}.onnx")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("node", "node b'.*': its name, operator or domain"),
        ("ends", "tensor b'.*': its name"),
        ("open", "tensor b'.*'"),
    ],
)
def test_names_that_are_no_text(tmp_path: Path, name: str, says: str) -> None:
    model = build(
        "(float[1, 2, 8, 8] x) => (float[] y) { [node] ends, open = MaxPool<kernel_shape = [1, 1]>(x) y = Relu(ends) }"
    )
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString().replace(name.encode(), b"\xff\xfe\xfd\xfc"))
    with pytest.raises(CannotHandle, match=f"{says}.* is no UTF-8 text"):
        load(tmp_path / "net.onnx")
