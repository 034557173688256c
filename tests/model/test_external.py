"""External data anywhere in a model: in bodies, Constant nodes, sparse tensors, functions and training graphs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from command import aa, failed, files
from reference import Array, build, ops, relative_difference, weight

import aarewrite
from aarewrite.model.external import external_files, is_external, tensors
from aarewrite.model.graph import GraphEditor
from aarewrite.model.model_file import load, save

STRIDED = "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]"
PLACES = ["main", "body", "body_constant", "constant", "sparse", "function", "training"]


def everywhere() -> onnx.ModelProto:
    """A model with a tensor in every place where ONNX allows one, each larger than what stays in the skeleton."""
    model = build(
        f"""(float[1, 4, 16, 16] x, bool flag) => (float[1, 8, 4, 4] y) {{
        [first] a = Conv<{STRIDED}>(x, main)
        b = Relu(a)
        shift = Constant<value_float = 0.0>()
        c = Add(b, shift)
        y = If (flag) <
            then_branch = left () => (float[1, 8, 4, 4] p) {{ [left] q = Conv<{STRIDED}>(c, body) p = Relu(q) }},
            else_branch = right () => (float[1, 8, 4, 4] r) {{
                k = Constant<value_float = 0.0>()
                [right] s = Conv<{STRIDED}>(c, k)
                t = Relu(s)
                r = custom.Scale(t)
            }}>
        lazy = Constant<value_float = 0.0>()
        spare = Identity(lazy)
        }}
        <domain: "custom", opset_import: ["" : 13]>
        Scale (x) => (y) {{ k = Constant<value_float = 0.0>() y = Mul(x, k) }}""",
        imports=', "custom" : 1',
        main=weight(8, 4, 3, 3),
    )
    constants = {node.output[0]: node for node in model.graph.node if node.op_type == "Constant"}
    left, right = (a.g for a in next(node for node in model.graph.node if node.op_type == "If").attribute)
    left.initializer.append(onnx.numpy_helper.from_array(weight(8, 8, 3, 3, seed=1), "body"))
    _hold(right.node[0], weight(8, 8, 3, 3, seed=2), "body_constant")
    _hold(constants["shift"], weight(1, 8, 8, 8, seed=3), "constant")
    _hold(model.functions[0].node[0], weight(1, 8, 4, 4, seed=4), "function")
    sparse = constants["lazy"].attribute[0]
    sparse.Clear()
    sparse.name, sparse.type = "sparse_value", onnx.AttributeProto.SPARSE_TENSOR
    sparse.sparse_tensor.dims.extend([600])
    sparse.sparse_tensor.values.CopyFrom(onnx.numpy_helper.from_array(weight(300, seed=5), "sparse"))
    sparse.sparse_tensor.indices.CopyFrom(onnx.numpy_helper.from_array(np.arange(300, dtype=np.int64), "places"))
    training = model.training_info.add()
    training.algorithm.name = "step"
    training.algorithm.initializer.append(onnx.numpy_helper.from_array(weight(300, seed=6), "training"))
    return model


def _hold(node: onnx.NodeProto, value: Array, name: str) -> None:
    del node.attribute[:]
    node.attribute.append(onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(value, name)))


def named(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in tensors(model) if tensor.name}


def set_out(folder: Path, *names: str, location: str = "{}.bin") -> Path:
    """The model with the data of these tensors in one file each."""
    model = everywhere()
    for name in names:
        tensor = named(model)[name]
        file = location.format(name)
        target = folder / file
        if ".." not in file and not Path(file).is_absolute():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=file)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def answers(path: Path) -> Iterator[Array]:
    """What a file computes on either branch, the data being found beside it by ONNX Runtime itself."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for flag in (True, False):
        yield session.run(None, {"x": weight(1, 4, 16, 16), "flag": np.array(flag)})[0]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def test_every_tensor_of_the_file_counts(source: Path) -> None:
    path = set_out(source, *PLACES)
    assert external_files(load(path).proto) == sorted(f"{name}.bin" for name in PLACES)


@pytest.mark.parametrize("place", PLACES)
def test_a_rewrite_from_another_folder_computes_what_one_with_the_data_inside_does(
    source: Path, elsewhere: Path, place: str
) -> None:
    inside = set_out(source)
    save(aarewrite.rewrite(inside).rewritten, source / "expected.onnx")
    path = set_out(source, place)
    result = aarewrite.rewrite(path)
    assert result.proof is not None
    assert len(result.plan.rewrites) == 2  # left and right; the first conv is kept
    for folder in (source, elsewhere):
        save(result.rewritten, folder / "out.onnx")
        assert (folder / f"{place}.bin").read_bytes() == named(everywhere())[place].raw_data
        for found, expected in zip(answers(folder / "out.onnx"), answers(source / "expected.onnx"), strict=True):
            assert relative_difference(found, expected) < 1e-6
        written = onnx.load(folder / "out.onnx", load_external_data=False)
        assert [tensor.name for tensor in tensors(written) if is_external(tensor)] == [place]


def test_constants_are_read_from_the_models_folder(source: Path, elsewhere: Path) -> None:
    path = set_out(source, "body", "constant", "main")
    (elsewhere / "constant.bin").write_bytes(bytes(8 * 8 * 8 * 4))  # not the model's
    editor = GraphEditor(load(path))
    found = {t.name: editor.constant_value(t) for s in editor.scopes for n in s.nodes for t in n.inputs}
    for tensor, name in (("body", "body"), ("shift", "constant"), ("main", "main")):
        value = found[tensor]
        assert value is not None
        assert value.tobytes() == named(everywhere())[name].raw_data


def test_a_missing_file_is_named_with_its_tensor(source: Path, elsewhere: Path) -> None:
    path = set_out(source, "body_constant")
    (source / "body_constant.bin").rename(elsewhere / "body_constant.bin")  # the current folder is not the model's
    assert len(aarewrite.plan(path).sites) == 3
    with pytest.raises(
        aarewrite.CannotHandle, match=r"source/body_constant.bin: the data of tensor 'body_constant': No such file"
    ):
        aarewrite.rewrite(path)


def test_a_file_that_is_too_short(source: Path) -> None:
    path = set_out(source, "body")
    model = onnx.load(path, load_external_data=False)
    named(model)["body"].external_data.add(key="length", value="2304")
    path.write_bytes(model.SerializeToString())
    (source / "body.bin").write_bytes(bytes(2000))
    with pytest.raises(aarewrite.CannotHandle, match=r"body.bin: the data of tensor 'body': it ends after 2000 bytes"):
        aarewrite.rewrite(path)


def test_bfloat16_and_float64_bodies_are_proven_from_another_folder(source: Path, elsewhere: Path) -> None:
    model = build(
        """(double[1, 2, 9, 9] x) => (double[] y) {
        [conv] a = Conv(x, w)
        [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)
    }""",
        w=weight(64, 2, 3, 3, dtype=np.float64),
    )
    onnx.save(model, source / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert aarewrite.rewrite(source / "model.onnx").proof is not None


# ---- places outside ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("location", ["../{}.bin", "/etc/{}.bin", "data/../../{}.bin", "..\\{}.bin", "C:\\{}.bin"])
def test_data_outside_the_models_folder_is_refused(source: Path, place: str, location: str) -> None:
    path = set_out(source, place, location=location)
    with pytest.raises(aarewrite.CannotHandle) as caught:
        aarewrite.plan(path)
    assert f"model.onnx: tensor {place!r}: its data file" in str(caught.value)
    assert "is outside the model's folder; put the data beside the model" in str(caught.value)


def test_a_location_that_no_file_can_have_is_refused(source: Path) -> None:
    path = set_out(source, "body")
    model = onnx.load(path, load_external_data=False)
    named(model)["body"].external_data[0].value = "bo\0dy.bin"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(aarewrite.CannotHandle) as caught:
        aarewrite.plan(path)
    assert "model.onnx: tensor 'body': its data file 'bo\\x00dy.bin' is no name of a file" in str(caught.value)


def test_a_symlink_that_leads_out_is_refused_and_one_that_stays_is_followed(source: Path, elsewhere: Path) -> None:
    path = set_out(source, "body")
    (source / "body.bin").rename(source / "kept.bin")
    (source / "body.bin").symlink_to("kept.bin")
    assert aarewrite.rewrite(path).changed
    (source / "body.bin").unlink()
    (source / "kept.bin").rename(elsewhere / "kept.bin")
    (source / "body.bin").symlink_to(elsewhere / "kept.bin")
    with pytest.raises(aarewrite.CannotHandle, match=r"tensor 'body': its data file 'body.bin' is outside"):
        aarewrite.plan(path)


def test_a_tensor_that_names_no_file(source: Path) -> None:
    path = set_out(source, "body")
    model = onnx.load(path, load_external_data=False)
    named(model)["body"].ClearField("external_data")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(aarewrite.CannotHandle, match="tensor 'body': names no data file"):
        aarewrite.plan(path)


# ---- the command line --------------------------------------------------------------------------------------


def test_the_command_from_another_folder(source: Path, elsewhere: Path) -> None:
    set_out(source, *PLACES)
    done = aa("../source/model.onnx", "-o", "out.onnx")
    assert (done.status, done.out.splitlines()[-1]) == (0, "wrote out.onnx")
    assert files(elsewhere) == {"out.onnx", *(f"{name}.bin" for name in PLACES)}
    shutil.rmtree(source)
    assert [value.shape for value in answers(elsewhere / "out.onnx")] == [(1, 8, 4, 4)] * 2
    assert "nothing to rewrite" in aa("out.onnx", "-o", "again.onnx").out


def test_an_output_never_takes_a_data_files_place(source: Path, elsewhere: Path) -> None:
    path = set_out(source, "body", "constant")
    for output in (source / "body.bin", source / "constant.bin", elsewhere / "body.bin"):
        failed(aa(path, "-o", output), 2, output.name)
    assert (source / "body.bin").read_bytes() == named(everywhere())["body"].raw_data
    assert files(elsewhere) == set()


def test_a_location_outside_is_one_line(source: Path) -> None:
    failed(
        aa(set_out(source, "body", location="../{}.bin")), 3, "tensor 'body': its data file '../body.bin' is outside"
    )


def test_the_rewritten_model_is_measured_from_another_folder(source: Path, elsewhere: Path) -> None:
    model = build(
        f"""(float[1, 3, 32, 32] x) => (float[] y) {{
        a = Conv<{STRIDED}>(x, w)
        b = Relu(a)
        [second] c = Conv<{STRIDED}>(b, v)
        d = GlobalAveragePool(c)
        y = Flatten(d)
    }}""",
        w=weight(8, 3, 3, 3), v=weight(8, 8, 3, 3),
    )  # fmt: skip
    path = source / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    done = aa(path, "-q", "-o", "out.onnx", "--verify", "synthetic:2")
    assert (done.status, done.err) == (0, "")
    assert ops(onnx.load(elsewhere / "out.onnx")).count("Conv") == 3
