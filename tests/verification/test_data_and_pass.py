"""The pass over the data: decoded once, flat memory, right pixels, right preprocessing."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from small_nets import circular_classifier, parse, phase_classifier, save, stripes

from aarewrite.data import sources as data_module
from aarewrite.data.geometry import plan_geometry, prepare
from aarewrite.data.preprocess import PRESETS, load_preprocess, to_model_units
from aarewrite.data.sources import open_data, pink_noise, prefetch
from aarewrite.model.runner import InputSpec
from aarewrite.verification import verify

COLOUR = """
g (float[N,3,16,16] x) => (float[N,2] y) <float[2,3,1,1] w = {1, 0, 0, 0, 1, 0}> {
    a = Conv<strides = [2, 2]>(x, w)
    b = GlobalAveragePool(a)
    y = Flatten(b)
}"""


def spec(layout="nchw", channels=3, size=(16, 16), dtype=np.float32):
    return InputSpec("x", np.dtype(dtype), layout, None, channels, size)


@pytest.fixture
def folder(tmp_path):
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "images"
    path.mkdir()
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        image.fromarray(pixels).save(path / f"{i:02}.png")
    return path


def test_every_image_is_decoded_once(folder, monkeypatch):
    decoded = []
    read = data_module.read_image
    monkeypatch.setattr(data_module, "read_image", lambda path: (decoded.append(path.name), read(path))[1])
    net = parse(COLOUR)
    report = verify(
        net, folder, against=net, protocols=("crop", "circular", "fractional"), layers=True, names=("a", "b")
    )
    assert report.n == 12
    assert sorted(decoded) == [f"{i:02}.png" for i in range(12)]


def test_memory_does_not_grow_with_the_number_of_samples():
    def peak(count: int) -> int:
        tracemalloc.start()
        verify(circular_classifier(64), f"synthetic:{count}", protocols=("crop",), max_shift=2)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(8)  # imports and caches
    few, many = peak(24), peak(192)
    canvases = (192 - 24) * 73 * 73 * 4  # bytes that would be held if samples were kept
    assert many - few < canvases / 4  # the two threads that decode make the peak vary by some 0.3 MB


def test_prefetch_keeps_order_and_a_bound():
    started = []

    def load(i: int) -> int:
        started.append(i)
        return i * i

    stream = prefetch(load, 50, workers=2, ahead=4)
    taken = [next(stream) for _ in range(3)]
    assert taken == [(0, 0), (1, 1), (2, 4)]
    assert max(started) <= 3 + 4
    assert [i for i, _ in stream] == list(range(3, 50))


def test_prefetch_hands_on_the_error_of_the_sample():
    def load(i: int) -> int:
        if i == 2:
            raise ValueError("two")
        return i

    stream = prefetch(load, 9)
    assert [next(stream)[0] for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(stream)


def test_paper_geometry_for_a_model_of_224(folder):
    data = open_data(folder)
    geometry = plan_geometry(spec(size=(224, 224)), data, PRESETS["imagenet"], None)
    assert (geometry.canvas, geometry.span, geometry.base) == ((256, 256), (32, 32), (16, 16))
    sample = prepare(data, 0, spec(size=(224, 224)), PRESETS["imagenet"], geometry, 0)
    assert sample.canvas.shape == (3, 256, 256)
    assert sample.picture.shape == (256, 256, 3)


def test_caffe_preset_is_bgr_minus_means():
    pixel = np.array([[[10, 20, 30]]], np.uint8)
    out = to_model_units(pixel, spec(size=(1, 1)), PRESETS["caffe"])
    np.testing.assert_allclose(out.ravel(), [30 - 104, 20 - 117, 10 - 123])


def test_imagenet_preset_and_layouts():
    pixel = np.array([[[255, 0, 51]]], np.uint8)
    expected = (np.array([1.0, 0.0, 0.2]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    for layout, shape in (("nchw", (3, 1, 1)), ("nhwc", (1, 1, 3))):
        out = to_model_units(pixel, spec(layout, size=(1, 1)), PRESETS["imagenet"])
        assert out.shape == shape
        np.testing.assert_allclose(out.ravel(), expected, rtol=1e-5)


def test_integer_inputs_are_rounded_and_clipped():
    pixel = np.array([[[0, 200, 255]]], np.uint8)
    recipe = load_preprocess("raw255")
    assert to_model_units(pixel, spec(dtype=np.uint8, size=(1, 1)), recipe).ravel().tolist() == [0, 200, 255]
    assert to_model_units(pixel, spec(dtype=np.int8, size=(1, 1)), recipe).ravel().tolist() == [0, 127, 127]


def test_preprocess_file(tmp_path):
    path = tmp_path / "c875.toml"
    path.write_text("preset = 'raw255'\nmean = 128\nscale = 1.0\nstd = [128.0]\nlabel_offset = 1\nsize = 192\n")
    recipe = load_preprocess(str(path))
    assert (recipe.mean, recipe.std, recipe.label_offset, recipe.size) == ((128.0,), (128.0,), 1, 192)
    assert "128" in recipe.describe()


def test_samples_of_the_input_size_are_reflected(tmp_path):
    report = verify(phase_classifier(20), save(tmp_path / "d.npz", x=stripes(2)))
    assert any("reflected" in note for note in report.notes)
    assert "samples reflected" in report.geometry


def test_open_sizes_come_from_the_data(tmp_path):
    data = save(tmp_path / "d.npz", x=np.zeros((2, 1, 64, 64), np.float32))
    assert "crops 56x56" in verify(phase_classifier("S"), data).geometry
    assert "crops 40x40" in verify(phase_classifier("S"), data, size=(40,)).geometry


def test_pink_noise_falls_as_one_over_f():
    noise = pink_noise((1, 128, 128), (0, 3), (1, 2))
    power = np.abs(np.fft.fft2(noise[0])) ** 2
    assert abs(float(noise.mean())) < 1e-6
    assert float(noise.std()) == pytest.approx(1, rel=1e-5)
    low, high = power[0, 4:8].mean(), power[0, 32:64].mean()
    assert 20 < low / high < 300  # amplitude 1/f: power falls 64-fold over a factor of 8
    assert np.array_equal(noise, pink_noise((1, 128, 128), (0, 3), (1, 2)))


def test_background_class_moves_the_labels(tmp_path):
    net = parse(
        """
    g (float[N,1,16,16] x) => (float[N,1001] y) <float[1001,1,1,1] w> {
        a = Conv(x, w)
        b = GlobalAveragePool(a)
        y = Flatten(b)
    }""".replace(
            "<float[1001,1,1,1] w>", "<float[1001,1,1,1] w = {" + ", ".join(["0"] * 4 + ["1"] + ["0"] * 996) + "}>"
        )
    )
    data = save(tmp_path / "d.npz", x=np.ones((3, 1, 20, 20), np.float32), labels=np.array([3, 3, 2]))
    report = verify(net, data)
    assert report.classification[0].top1.successes == 2  # label 3 is class 4
    assert any("background" in note for note in report.notes)


def test_limit_takes_the_first(folder):
    data = open_data(folder, limit=5)
    assert data.names == tuple(f"{i:02}.png" for i in range(5))
    assert "5 of 12" in data.description
