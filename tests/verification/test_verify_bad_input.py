"""Whatever is wrong with the request: one clear line on stderr that names it, and the right exit status."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from command import aa, failed
from small_nets import parse, phase_classifier, save, stripes

image = pytest.importorskip("PIL.Image")


@pytest.fixture
def net(tmp_path):
    onnx.save(phase_classifier(), tmp_path / "net.onnx")
    return str(tmp_path / "net.onnx")


@pytest.fixture
def colour_net(tmp_path):
    model = parse("""
    g (float[N,3,16,16] x) => (float[N,2] y) <float[2,3,1,1] w = {1, 0, 0, 0, 1, 0}> {
        a = Conv<strides = [2, 2]>(x, w)
        b = GlobalAveragePool(a)
        y = Flatten(b)
    }""")
    onnx.save(model, tmp_path / "colour.onnx")
    return str(tmp_path / "colour.onnx")


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "images"
    path.mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        image.fromarray(pixels).save(path / f"{i}.png")
    return path


def refused(status: int, *words: str, args: list[str]) -> None:
    failed(aa("verify", *args), status, *words)


def test_truncated_image(colour_net, folder):
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    refused(2, "1.png", "cannot be decoded", args=[colour_net, "--data", str(folder)])


def test_file_that_is_no_image(colour_net, folder):
    (folder / "2.png").write_text("hello")
    refused(2, "2.png", "no image", args=[colour_net, "--data", str(folder)])


def test_wrong_shaped_npz(net, tmp_path):
    data = save(tmp_path / "d.npz", x=np.zeros((3, 5, 20, 20), np.float32))
    refused(2, "(5, 20, 20)", "nchw ?x1x16x16", args=[net, "--data", data])


def test_samples_too_small(net, tmp_path):
    data = save(tmp_path / "d.npz", x=np.zeros((3, 1, 8, 8), np.float32))
    refused(2, "8x8", "smaller", args=[net, "--data", data])


def test_npz_that_is_no_npz(net, tmp_path):
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 broken")
    refused(2, "d.npz", "cannot be read", args=[net, "--data", str(tmp_path / "d.npz")])


def test_npz_with_several_candidates(net, tmp_path):
    data = save(tmp_path / "d.npz", left=stripes(2), right=stripes(2))
    refused(2, "left, right", args=[net, "--data", data])


def test_labels_of_another_count(net, tmp_path):
    data = save(tmp_path / "d.npz", x=stripes(3), labels=np.array([0, 1]))
    refused(2, "2 labels for 3 samples", args=[net, "--data", data])


def test_labels_outside_the_classes(net, tmp_path):
    data = save(tmp_path / "d.npz", x=stripes(3), labels=np.array([0, 1, 7]))
    refused(2, "label 7", "2 classes", args=[net, "--data", data])


def test_labels_without_a_row_for_an_image(colour_net, folder, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("file,class_index\n0.png,1\n1.png,0\n")
    refused(2, "labels.csv", "2.png", args=[colour_net, "--data", str(folder), "--labels", str(labels)])


@pytest.mark.parametrize(
    ("text", "word"),
    [("a,b\n1,2\n", "columns are a, b"), ("file,class_index\n0.png,cat\n", "line 2"), ("", "no rows")],
)
def test_labels_that_cannot_be_read(colour_net, folder, tmp_path, text, word):
    labels = tmp_path / "labels.csv"
    labels.write_text(text)
    refused(2, "labels.csv", word, args=[colour_net, "--data", str(folder), "--labels", str(labels)])


def test_empty_folder(net, tmp_path):
    (tmp_path / "none").mkdir()
    refused(2, "none", "no images", args=[net, "--data", str(tmp_path / "none")])


def test_missing_files(net, tmp_path):
    refused(2, "nowhere", args=[net, "--data", str(tmp_path / "nowhere")])
    refused(2, "gone.onnx", args=[str(tmp_path / "gone.onnx")])
    refused(2, "gone.onnx", args=[net, "--against", str(tmp_path / "gone.onnx")])


def test_model_whose_input_takes_no_images(folder, tmp_path):
    model = parse("""
    g (float[N,5,16,16] x) => (float[N,5] y) { a = GlobalAveragePool(x) y = Flatten(a) }""")
    onnx.save(model, tmp_path / "five.onnx")
    refused(3, "5 channels", args=[str(tmp_path / "five.onnx"), "--data", str(folder)])


def test_model_that_does_not_load(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    refused(3, "broken.onnx", "does not load", args=[str(tmp_path / "broken.onnx")])


def test_model_with_an_input_without_data(tmp_path):
    model = parse("""
    g (float[N,1,16,16] x, float[4] gain) => (float[N,1] y) {
        a = GlobalAveragePool(x)
        b = Flatten(a)
        c = ReduceSum<keepdims = 0>(gain)
        y = Mul(b, c)
    }""")
    onnx.save(model, tmp_path / "two.onnx")
    refused(3, "'gain'", "npz", args=[str(tmp_path / "two.onnx")])
    data = save(tmp_path / "d.npz", x=stripes(2), gain=np.ones(4, np.float32))
    assert aa("verify", tmp_path / "two.onnx", "--data", data).status == 0


def test_models_with_different_inputs(net, colour_net):
    refused(3, "inputs differ", args=[net, "--against", colour_net])


def test_metric_without_distorted_images(tmp_path):
    model = parse("""
    g (float[N,1,16,16] a, float[N,1,16,16] b) => (float[N,1,1,1] d) {
        c = Sub(a, b)
        d = GlobalAveragePool(c)
    }""")
    onnx.save(model, tmp_path / "metric.onnx")
    refused(3, "distorted", "ref, p0 and p1", args=[str(tmp_path / "metric.onnx")])
    data = save(tmp_path / "d.npz", x=stripes(2))
    refused(2, "ref, p0 and p1", args=[str(tmp_path / "metric.onnx"), "--data", data])


def test_model_whose_output_is_nan(tmp_path):
    model = parse("""
    g (float[N,1,16,16] x) => (float[N,2] y) <float[2,1,1,1] w = {1, 1}> {
        a = Conv(x, w)
        b = GlobalAveragePool(a)
        c = Sub(b, b)
        d = Div(c, c)
        y = Flatten(d)
    }""")
    onnx.save(model, tmp_path / "nan.onnx")
    refused(1, "NaN", args=[str(tmp_path / "nan.onnx")])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--protocol", "spiral"], "spiral"),
        (["--provider", "tpu"], "tpu"),
        (["--preprocess", "magic"], "magic"),
        (["--task", "guess"], "guess"),
        (["--max-shift", "0"], "--max-shift"),
        (["--max-shift", "40"], "at most 2"),
        (["--limit", "0"], "--limit"),
        (["--pairs", "0"], "--pairs"),
        (["--data", "synthetic:x"], "synthetic:x"),
        (["--size", "12x"], "--size"),
        (["--min-consistency", "90"], "--min-consistency"),
        (["--max-diff", "0.1"], "--max-diff"),
        (["--heat-map", "nothing", "--layers"], "nothing"),
        (["--report", "/nowhere/at/all.html"], "cannot be written"),
    ],
)
def test_options(net, options, word):
    refused(2, word, args=[net, *options])


@pytest.mark.parametrize(
    ("text", "word"),
    [("scale = ", "not valid TOML"), ("colour = 1", "colour"), ("preset = 'x'", "'x'"), ("std = [0]", "std")],
)
def test_preprocess_files(net, tmp_path, text, word):
    path = tmp_path / "p.toml"
    path.write_text(text)
    refused(2, "p.toml", word, args=[net, "--preprocess", str(path)])


def test_cuda_is_refused_where_there_is_none(net):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has CUDA")
    refused(3, "CUDAExecutionProvider", args=[net, "--provider", "cuda"])
    result = aa("verify", net, "--provider", "all")
    assert result.status == 0
    assert "only the CPU was measured" in result.out


def test_pillow_missing_names_the_install_line(colour_net, folder, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "PIL", None)
    refused(3, "Pillow", "pip install 'aarewrite[report]'", args=[colour_net, "--data", str(folder)])
