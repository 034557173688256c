"""Preprocessing that models bring along from a hub; our own files are tested with what they mean."""

from __future__ import annotations

import json

import pytest
from refusals import refused

from aarewrite.data.preprocess_files import load_preprocess

VIT = {
    "do_resize": True, "do_rescale": True, "rescale_factor": 0.00392156862745098, "do_normalize": True, "resample": 3,
    "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2], "size": {"height": 192, "width": 192},
}  # fmt: skip


def loaded(path, table, name="preprocessor_config.json"):
    (path / name).write_text(json.dumps(table))
    return load_preprocess(str(path / name))


def test_transformers(tmp_path):
    found = loaded(tmp_path, VIT)
    assert (found.mean, found.std, found.size) == ((0.5, 0.4, 0.3), (0.5, 0.25, 0.2), 192)
    assert (found.scale, found.interpolation, found.channels) == (pytest.approx(1 / 255), "bicubic", "rgb")
    assert "preprocessor_config.json: RGB" in found.describe()
    assert load_preprocess(str(tmp_path)) == found  # the folder will do


def test_crops_flipped_channels_and_bytes(tmp_path):
    table = {
        "do_normalize": False,
        "do_rescale": False,
        "do_flip_channel_order": True,
        "resample": 2,
        "image_mean": [1],
    }
    found = loaded(tmp_path, table | {"size": {"shortest_edge": 288}, "crop_size": {"height": 256, "width": 256}})
    assert (found.mean, found.std, found.scale) == ((0.0,), (1.0,), 1.0)
    assert (found.channels, found.size, found.interpolation) == ("bgr", 256, "bilinear")
    found = loaded(tmp_path, table | {"size": 288, "crop_size": 256, "do_center_crop": False})
    assert found.size == 288


def test_timm(tmp_path):
    config = {
        "input_size": [3, 240, 240],
        "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406],
        "std": [1, 1, 0.5],
    }
    found = loaded(tmp_path, {"architecture": "x", "pretrained_cfg": config}, "config.json")
    assert (found.mean, found.std, found.size) == ((0.485, 0.456, 0.406), (1, 1, 0.5), 240)
    assert (found.scale, found.interpolation) == (1 / 255, "bicubic")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a table"),
        ('{"architectures": ["x"]}', "no image_mean and no mean"),
        ('{"image_mean": [0], "image_std": [0]}', "std"),
        ('{"image_mean": [0], "resample": 9}', "interpolation"),
        ('{"image_mean": [0], "rescale_factor": "x"}', "scale"),
    ],
)
def test_files_that_cannot_be_read(net, tmp_path, text, word):
    (tmp_path / "p.json").write_text(text)
    refused(2, "p.json", word, args=[net, "--preprocess", str(tmp_path / "p.json")])


def test_a_folder_without_one(net, tmp_path):
    refused(2, "preprocessor_config.json", "no such file", args=[net, "--preprocess", str(tmp_path)])
