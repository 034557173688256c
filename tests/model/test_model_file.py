"""Reading and writing: what is wrong with a file is said, weights come out byte for byte, files appear whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from command import aa, failed, files
from reference import build, relative_difference, run, weight

import aarewrite
from aarewrite.errors import UsageError
from aarewrite.model.model_file import copy_unchanged, load, save

POOL = "[pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>"


def model(**options: int) -> onnx.ModelProto:
    text = f"(float[1, 2, 9, 9] x) => (float[] y) {{ [conv] a = Conv(x, w) {POOL}(a) }}"
    return build(text, w=weight(64, 2, 3, 3), **options)


def external(folder: Path, name: str = "model.onnx", data: str = "weights.bin") -> Path:
    path = folder / name
    onnx.save(model(), path, save_as_external_data=True, location=data, size_threshold=0)
    return path


# ---- reading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no graph; is it an ONNX file?"),
        (b"not a model at all\n", ""),
        (b"\x00" * 100, ""),
        (b"PK\x03\x04" + bytes(range(256)), ""),
    ],
    ids=["empty", "text", "zeros", "zip"],
)
def test_files_that_are_no_model(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(aarewrite.CannotHandle) as caught:
        aarewrite.rewrite(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_truncated_files(tmp_path: Path, share: float) -> None:
    data = model().SerializeToString()
    path = tmp_path / "broken.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(aarewrite.CannotHandle, match="not a readable ONNX model; the file may be truncated"):
        aarewrite.rewrite(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(aarewrite.UsageError, match="no such file"):
        aarewrite.rewrite(tmp_path / "absent.onnx")
    with pytest.raises(aarewrite.UsageError):
        aarewrite.rewrite(tmp_path)


@pytest.mark.parametrize("opset", [1, 6])
def test_old_opsets(opset: int) -> None:
    old = model()
    old.opset_import[0].version = opset
    with pytest.raises(aarewrite.CannotHandle, match=f"opset {opset} is older than 7; convert it"):
        aarewrite.rewrite(old)


def local(imports: str, function: str, node: str = "local.Net") -> onnx.ModelProto:
    """A graph with one node, and a function in which a MaxPool samples."""
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: [{imports}]>
        net (float[1, 2, 9, 9] x) => (float[1, 2, 4, 4] y) {{ y = {node}(x) }}
        <domain: "local", opset_import: [{function}]>
        Net (x) => (y) {{ a = Relu(x) [pool] y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a) }}"""
    )


def test_a_graph_without_operators_of_onnx_needs_no_version_of_their_set() -> None:
    result = aarewrite.rewrite(local('"local" : 1', '"" : 17'))
    assert [entry.site.scope for entry in result.plan.rewrites] == ["function Net"]
    assert run(result.model, x=weight(1, 2, 9, 9))[0].shape == (1, 2, 4, 4)


@pytest.mark.parametrize(
    ("old", "message"),
    [
        (local('"local" : 1', '"" : 17', node="Relu"), "the model: has operators of ONNX but imports no version"),
        (
            local('"local" : 1, "" : 17', '"other" : 1'),
            "the model: function Net: has operators of ONNX but imports no version",
        ),
        (local('"local" : 1, "" : 1', '"" : 17'), "the model: opset 1 is older than 7; convert it"),
        (local('"local" : 1', '"" : 6'), "the model: function Net: opset 6 is older than 7; convert it"),
    ],
)
def test_operators_of_an_unknown_or_old_version(old: onnx.ModelProto, message: str) -> None:
    with pytest.raises(aarewrite.CannotHandle) as caught:
        aarewrite.plan(old)
    assert message in str(caught.value)
    assert caught.value.exit_status == 3


def test_opset_too_new_for_the_runtime_names_the_number() -> None:
    new = model()
    new.opset_import[0].version = 99
    new.ir_version = 10
    with pytest.raises(aarewrite.AarewriteError) as caught:
        aarewrite.rewrite(new)
    assert "99" in str(caught.value)
    assert caught.value.exit_status == 3


def test_paths_and_protos_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(model(), path)
    results = [aarewrite.rewrite(source) for source in (path, str(path), model())]
    assert len({result.model.SerializeToString() for result in results}) == 1


def test_large_weights_are_set_aside_and_byte_exact() -> None:
    original = model()
    loaded = load(original)
    assert {name: len(raw) for name, raw in loaded.weights.items()} == {"w": 64 * 2 * 9 * 4}
    assert loaded.proto.ByteSize() < 1024
    assert loaded.to_proto().SerializeToString() == original.SerializeToString()
    result = aarewrite.rewrite(original)
    tensors = {t.name: t for t in result.model.graph.initializer}
    assert tensors["w"].SerializeToString() == original.graph.initializer[0].SerializeToString()


def test_typed_data_fields_survive() -> None:
    original = model()
    tensor = original.graph.initializer[0]
    values = onnx.numpy_helper.to_array(tensor)
    tensor.ClearField("raw_data")
    tensor.float_data.extend(values.reshape(-1).tolist())
    result = aarewrite.rewrite(original)
    tensors = {t.name: t for t in result.model.graph.initializer}
    assert tensors["w"].SerializeToString() == tensor.SerializeToString()


# ---- external data -----------------------------------------------------------------------------------------


def test_external_data_in_the_same_folder(tmp_path: Path) -> None:
    path = external(tmp_path)
    before = (tmp_path / "weights.bin").read_bytes()
    result = aarewrite.rewrite(path)
    assert result.proof is not None
    out = tmp_path / "out.onnx"
    save(result.rewritten, out)
    assert (tmp_path / "weights.bin").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "out.onnx", "weights.bin"]
    written = onnx.load(out, load_external_data=False)
    assert next(t for t in written.graph.initializer if t.name == "w").external_data[0].value == "weights.bin"
    x = weight(1, 2, 9, 9)
    expected = run(aarewrite.rewrite(model()).model, x=x)[0]
    assert relative_difference(run(onnx.load(out), x=x)[0], expected) < 1e-6


def test_external_data_is_brought_to_another_folder(tmp_path: Path) -> None:
    path = external(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    save(aarewrite.rewrite(path).rewritten, other / "out.onnx")
    assert sorted(p.name for p in other.iterdir()) == ["out.onnx", "weights.bin"]
    onnx.checker.check_model(str(other / "out.onnx"))


def test_another_data_file_in_the_way(tmp_path: Path) -> None:
    path = external(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "weights.bin").write_bytes(b"someone else's")
    with pytest.raises(aarewrite.UsageError, match=r"weights.bin: another data file is in the way"):
        save(aarewrite.rewrite(path).rewritten, other / "out.onnx")
    assert (other / "weights.bin").read_bytes() == b"someone else's"
    assert not (other / "out.onnx").exists()


def test_another_data_file_of_the_same_size_in_the_way(tmp_path: Path) -> None:
    path = external(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    foreign = b"?" * (tmp_path / "weights.bin").stat().st_size
    (other / "weights.bin").write_bytes(foreign)
    with pytest.raises(aarewrite.UsageError, match=r"weights.bin: another data file is in the way"):
        save(aarewrite.rewrite(path).rewritten, other / "out.onnx")
    assert (other / "weights.bin").read_bytes() == foreign


def test_missing_external_data(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(aarewrite.AarewriteError) as caught:
        aarewrite.rewrite(path)
    assert caught.value.exit_status in (2, 3)
    assert "weights.bin" in str(caught.value)


def test_external_data_in_a_subfolder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = external(tmp_path, data="data/weights.bin")
    other = tmp_path / "other"
    other.mkdir()
    save(aarewrite.rewrite(path).rewritten, other / "out.onnx")
    assert (other / "data" / "weights.bin").is_file()


# ---- writing -----------------------------------------------------------------------------------------------


def test_a_model_that_needs_no_change_is_copied_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    relu = build("(float[1, 2] x) => (float[] y) { y = Relu(x) }")
    path.write_bytes(relu.SerializeToString() + b"\xa2\x06\x03abc")  # an unknown field is kept as well
    result = aarewrite.rewrite(path)
    copy_unchanged(result.rewritten, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == path.read_bytes()


def test_saved_model_loads_again(tmp_path: Path) -> None:
    result = aarewrite.rewrite(model())
    complete = result.model.SerializeToString()
    save(result.rewritten, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == complete
    assert np.isfinite(run(onnx.load(tmp_path / "out.onnx"), x=weight(1, 2, 9, 9))[0]).all()


def test_large_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    original = load(model())
    (tmp_path / "a").mkdir()
    save(original, tmp_path / "a" / "m.onnx", outside=True)
    (data,) = set(files(tmp_path / "a")) - {"m.onnx"}
    assert re.fullmatch(r"m\.onnx\.[0-9a-f]{12}\.data", data)
    again = load(tmp_path / "a" / "m.onnx")
    onnx.checker.check_model(tmp_path / "a" / "m.onnx")
    found = {tensor.name: again.array(tensor) for tensor in again.proto.graph.initializer}
    for tensor in original.proto.graph.initializer:
        assert np.array_equal(found[tensor.name], original.array(tensor))
    offsets = [
        int(entry.value)
        for tensor in again.proto.graph.initializer
        for entry in tensor.external_data
        if entry.key == "offset"
    ]
    assert len(offsets) == len(original.weights)
    assert all(offset % 4096 == 0 for offset in offsets)
    before = (tmp_path / "a" / "m.onnx").read_bytes()
    save(original, tmp_path / "a" / "m.onnx", outside=True)
    assert (tmp_path / "a" / "m.onnx").read_bytes() == before
    assert files(tmp_path / "a") == {"m.onnx", data}


def test_other_weights_leave_the_data_of_an_earlier_output_alone(tmp_path: Path) -> None:
    save(load(model()), tmp_path / "m.onnx", outside=True)
    (first,) = files(tmp_path) - {"m.onnx"}
    content = (tmp_path / first).read_bytes()
    other = load(model())
    other.weights = {name: bytes(reversed(data)) for name, data in other.weights.items()}
    save(other, tmp_path / "m.onnx", outside=True)
    assert len(files(tmp_path)) == 3
    assert (tmp_path / first).read_bytes() == content


def test_a_file_larger_than_protobuf_reads_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aarewrite.model.model_file.LARGEST_FILE", 1000)
    with pytest.raises(UsageError, match=r"more than the 2 GB that protobuf takes; add --external-data"):
        save(load(model()), tmp_path / "m.onnx")
    assert not files(tmp_path)
    save(load(model()), tmp_path / "m.onnx", outside=True)


def test_the_command_keeps_weights_beside_its_output(tmp_path: Path) -> None:
    onnx.save(model(), tmp_path / "m.onnx")
    assert aa(tmp_path / "m.onnx", "-q", "--external-data").status == 0
    assert aa(tmp_path / "m.onnx", "-q", "-o", tmp_path / "inside.onnx").status == 0
    x = weight(1, 2, 9, 9)
    answers = [
        ort.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for name in ("m.aa.onnx", "inside.onnx")
    ]
    assert np.array_equal(*answers)
    failed(aa(tmp_path / "m.onnx", "-q", "--external-data", "-o", "-"), 2, "no place beside stdout")


def test_more_than_2_gb_are_rewritten_and_proven_in_little_memory(tmp_path: Path) -> None:
    """A table of 2.4 GB, all zeros that the disk does not hold, in two files; both models and the twin share it."""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    net = build(
        """(float[1, 2, 16, 16] x, int64[1] i) => (float[1, 2, 8, 8] y, float[1, 1024] row, float[1, 1024] other) {
            a = Relu(x)
            y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)
            row = Gather(table, i)
            other = Gather(more, i)
        }""",
        table=np.zeros((1, 1024), np.float32), more=np.zeros((1, 1024), np.float32),
    )  # fmt: skip
    rows = 293_000
    for tensor, name in zip(net.graph.initializer, ("first.bin", "second.bin"), strict=True):
        tensor.ClearField("raw_data")
        tensor.dims[0] = rows
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", name), ("offset", "0"), ("length", str(rows * 4096))):
            tensor.external_data.add(key=key, value=value)
        with (tmp_path / name).open("wb") as file:
            file.truncate(rows * 4096)
    onnx.save(net, tmp_path / "m.onnx")
    code = (
        "import re, sys; from pathlib import Path;"
        "from aarewrite.rewriting.pipeline import rewrite; from aarewrite.model.model_file import save;"
        "found = rewrite(sys.argv[1]); assert found.changed and found.proof.passed;"
        "save(found.rewritten, Path(sys.argv[2]));"
        # not getrusage: it counts the peak of the process that started this one
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "m.onnx"), str(tmp_path / "out.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200_000  # kB
    assert (tmp_path / "out.onnx").stat().st_size < 10_000
