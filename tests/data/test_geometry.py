"""Sizes of inputs and canvases."""

from __future__ import annotations

import numpy as np
import pytest
from refusals import refused
from small_nets import phase_classifier, save, stripes

from aarewrite.data.geometry import _middle, plan_geometry, prepare
from aarewrite.data.preprocess import PRESETS
from aarewrite.data.sources import open_data
from aarewrite.errors import CannotHandle
from aarewrite.model.runner import InputSpec
from aarewrite.verification import verify

SPEC = InputSpec("x", np.dtype(np.float32), "nchw", None, 3, (224, 224))


def test_paper_geometry_for_a_model_of_224(folder):
    data = open_data(folder)
    geometry = plan_geometry(SPEC, data, PRESETS["imagenet"], None)
    assert (geometry.canvas, geometry.span, geometry.base) == ((256, 256), (32, 32), (16, 16))
    sample = prepare(data, 0, SPEC, PRESETS["imagenet"], geometry, 0)
    assert sample.canvas.shape == (3, 256, 256)
    assert sample.picture.shape == (256, 256, 3)


def test_samples_of_the_input_size_are_reflected(tmp_path):
    report = verify(phase_classifier(20), save(tmp_path / "d.npz", x=stripes(2)))
    assert any("reflected" in note for note in report.notes)
    assert "samples reflected" in report.geometry


def test_open_sizes_come_from_the_data(tmp_path):
    data = save(tmp_path / "d.npz", x=np.zeros((2, 1, 64, 64), np.float32))
    assert "crops 56x56" in verify(phase_classifier("S"), data).geometry
    assert "crops 40x40" in verify(phase_classifier("S"), data, size=(40,)).geometry


def test_wrong_shaped_npz(net, tmp_path):
    data = save(tmp_path / "d.npz", x=np.zeros((3, 5, 20, 20), np.float32))
    refused(2, "(5, 20, 20)", "nchw ?x1x16x16", args=[net, "--data", data])


def test_samples_too_small(net, tmp_path):
    data = save(tmp_path / "d.npz", x=np.zeros((3, 1, 8, 8), np.float32))
    refused(2, "8x8", "smaller", args=[net, "--data", data])


@pytest.mark.parametrize("shape", [(1, 8000), (8000, 1), (3, 100_000)])
def test_of_a_picture_like_a_line_only_the_middle_is_scaled(tmp_path, shape):
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[tuple(extent // 2 for extent in shape)] = 200
    image.fromarray(pixels).save(tmp_path / "line.png")
    data = open_data(tmp_path)
    geometry = plan_geometry(SPEC, data, PRESETS["raw255"], None)
    sample = prepare(data, 0, SPEC, PRESETS["raw255"], geometry, 0)
    assert sample.canvas.shape == (3, 256, 256)
    assert sample.canvas.max() > 100  # the middle is still in the middle
    assert max(sample.raw[0].shape) <= 8 * min(shape)


def test_pictures_of_common_shapes_are_taken_whole():
    for shape in [(100, 800, 3), (375, 500, 3), (8, 8, 3)]:
        image = np.zeros(shape, np.uint8)
        assert _middle(image, (256, 256)) is image


def test_sizes_that_nothing_says():
    noise = open_data("synthetic:1")
    sizes = {"ncl": (1024,), "nchw": (224, 224), "ncdhw": (32, 32, 32)}
    for layout, size in sizes.items():
        spec = InputSpec("x", np.dtype(np.float32), layout, None, 3, (None,) * len(size))
        assert plan_geometry(spec, noise, PRESETS["none"], None).size == size


def test_samples_that_no_memory_holds():
    spec = InputSpec("x", np.dtype(np.float32), "nchw", 1, 3, (None, 2**40))
    with pytest.raises(CannotHandle, match=r"a synthetic sample of 224x1099511627776 is too large.*or give real data"):
        plan_geometry(spec, open_data("synthetic:1"), PRESETS["none"], None)


def test_samples_of_full_hd_are_made_up_and_those_of_4k_read(tmp_path):
    spec = InputSpec("x", np.dtype(np.float32), "nchw", 1, 3, (1080, 1920))
    assert plan_geometry(spec, open_data("synthetic:1"), PRESETS["none"], None).size == (1080, 1920)
    spec = InputSpec("x", np.dtype(np.float32), "nchw", 1, 3, (2160, 3840))
    with pytest.raises(CannotHandle, match="a synthetic sample of 2160x3840 is too large"):
        plan_geometry(spec, open_data("synthetic:1"), PRESETS["none"], None)
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    assert plan_geometry(spec, open_data(str(tmp_path)), PRESETS["none"], None).size == (2160, 3840)


def test_a_batch_that_no_memory_holds(net):
    refused(2, "--batch 99999999: the largest for views of this size is 524288", args=[net, "--batch", "99999999"])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_no_picture(tmp_path, value):
    samples = np.zeros((2, 3, 32, 32), np.float32)
    samples[1, 0, 4, 4] = value
    data = open_data(save(tmp_path / "d.npz", x=samples))
    spec = InputSpec("x", np.dtype(np.float32), "nchw", None, 3, (32, 32))
    geometry = plan_geometry(spec, data, PRESETS["none"], None)
    shown = [prepare(data, i, spec, PRESETS["none"], geometry, 0).picture for i in range(2)]
    assert [picture is None for picture in shown] == [False, True]
