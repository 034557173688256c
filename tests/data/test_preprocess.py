"""From pixels to the model's units."""

from __future__ import annotations

import numpy as np
import pytest
from refusals import refused

from aarewrite.data.preprocess import PRESETS, channels_last, to_model_units
from aarewrite.data.preprocess_files import load_preprocess
from aarewrite.model.runner import InputSpec


def spec(layout="nchw", channels=3, size=(16, 16), dtype=np.float32):
    return InputSpec("x", np.dtype(dtype), layout, None, channels, size)


def in_units(raw, spec, recipe):
    return to_model_units(channels_last(raw, spec), spec, recipe)


def test_caffe_preset_is_bgr_minus_means():
    pixel = np.array([[[10, 20, 30]]], np.uint8)
    out = in_units(pixel, spec(size=(1, 1)), PRESETS["caffe"])
    np.testing.assert_allclose(out.ravel(), [30 - 104, 20 - 117, 10 - 123])


def test_imagenet_preset_and_layouts():
    pixel = np.array([[[255, 0, 51]]], np.uint8)
    expected = (np.array([1.0, 0.0, 0.2]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    for layout, shape in (("nchw", (3, 1, 1)), ("nhwc", (1, 1, 3))):
        out = in_units(pixel, spec(layout, size=(1, 1)), PRESETS["imagenet"])
        assert out.shape == shape
        np.testing.assert_allclose(out.ravel(), expected, rtol=1e-5)


def test_integer_inputs_are_rounded_and_clipped():
    pixel = np.array([[[0, 200, 255]]], np.uint8)
    recipe = load_preprocess("raw255")
    assert in_units(pixel, spec(dtype=np.uint8, size=(1, 1)), recipe).ravel().tolist() == [0, 200, 255]
    assert in_units(pixel, spec(dtype=np.int8, size=(1, 1)), recipe).ravel().tolist() == [0, 127, 127]


def test_preprocess_file(tmp_path):
    path = tmp_path / "c875.toml"
    path.write_text("preset = 'raw255'\nmean = 128\nscale = 1.0\nstd = [128.0]\nlabel_offset = 1\nsize = 192\n")
    recipe = load_preprocess(str(path))
    assert (recipe.mean, recipe.std, recipe.label_offset, recipe.size) == ((128.0,), (128.0,), 1, 192)
    assert "128" in recipe.describe()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("scale = ", "not valid TOML"),
        ("colour = 1", "colour"),
        ("preset = 'x'", "'x'"),
        ("std = [0]", "std"),
        ("interpolation = 'cubic'", "interpolation = 'cubic' is not one of nearest, box, bilinear"),
        ("mean = []", "mean = [] is not a number, or one a channel"),
        ("mean = 'grey'", "mean"),
        ("size = 0", "a number of pixels"),
        ("scale = '1'", "is not a number"),
        ("scale = 0", "is not a number other than 0"),
        ("channels = 'hsv'", "rgb, bgr"),
        ("name = 'mine'", "unknown key 'name'"),
        ("preset = [1]", "[1]"),
    ],
)
def test_preprocess_files(net, tmp_path, text, word):
    path = tmp_path / "p.toml"
    path.write_text(text)
    refused(2, "p.toml", word, args=[net, "--preprocess", str(path)])
