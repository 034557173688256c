"""Samples from folders, arrays and noise: the right ones, one at a time; and what is wrong with them, named."""

from __future__ import annotations

import os
import sys
import tracemalloc

import numpy as np
import pytest
from refusals import refused
from small_nets import save, stripes

from aarewrite.data.sources import open_data, pink_noise, prefetch


def test_prefetch_keeps_order_and_a_bound():
    started = []

    def load(i: int) -> int:
        started.append(i)
        return i * i

    stream = prefetch(load, range(50), workers=2, ahead=4)
    taken = [next(stream) for _ in range(3)]
    assert taken == [(0, 0), (1, 1), (2, 4)]
    assert max(started) <= 3 + 4
    assert [i for i, _ in stream] == list(range(3, 50))


def test_prefetch_hands_on_the_error_of_the_sample():
    def load(i: int) -> int:
        if i == 2:
            raise ValueError("two")
        return i

    stream = prefetch(load, range(9))
    assert [next(stream)[0] for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(stream)


def test_pink_noise_falls_as_one_over_f():
    noise = pink_noise((1, 128, 128), (0, 3), (1, 2))
    power = np.abs(np.fft.fft2(noise[0])) ** 2
    assert abs(float(noise.mean())) < 1e-6
    assert float(noise.std()) == pytest.approx(1, rel=1e-5)
    low, high = power[0, 4:8].mean(), power[0, 32:64].mean()
    assert 20 < low / high < 300  # amplitude 1/f: power falls 64-fold over a factor of 8
    assert np.array_equal(noise, pink_noise((1, 128, 128), (0, 3), (1, 2)))


def test_limit_takes_the_first(folder):
    data = open_data(folder, limit=5)
    assert data.names == tuple(f"{i:02}.png" for i in range(5))
    assert "5 of 12" in data.description


def test_truncated_image(colour_net, folder):
    whole = (folder / "01.png").read_bytes()
    (folder / "01.png").write_bytes(whole[: len(whole) // 2])
    refused(2, "01.png", "cannot be decoded", args=[colour_net, "--data", str(folder)])


def test_file_that_is_no_image(colour_net, folder):
    (folder / "02.png").write_text("hello")
    refused(2, "02.png", "no image", args=[colour_net, "--data", str(folder)])


def test_npz_that_is_no_npz(net, tmp_path):
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 broken")
    refused(2, "d.npz", "cannot be read", args=[net, "--data", str(tmp_path / "d.npz")])


def test_npz_with_several_candidates(net, tmp_path):
    data = save(tmp_path / "d.npz", left=stripes(2), right=stripes(2))
    refused(2, "left, right", args=[net, "--data", data])


def test_labels_of_another_count(net, tmp_path):
    data = save(tmp_path / "d.npz", x=stripes(3), labels=np.array([0, 1]))
    refused(2, "2 labels for 3 samples", args=[net, "--data", data])


def test_labels_without_a_row_for_an_image(colour_net, folder, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("file,class_index\n00.png,1\n01.png,0\n")
    refused(2, "labels.csv", "02.png", args=[colour_net, "--data", str(folder), "--labels", str(labels)])


@pytest.mark.parametrize(
    ("text", "word"),
    [("a,b\n1,2\n", "columns are a, b"), ("file,class_index\n00.png,cat\n", "line 2"), ("", "no rows")],
)
def test_labels_that_cannot_be_read(colour_net, folder, tmp_path, text, word):
    labels = tmp_path / "labels.csv"
    labels.write_text(text)
    refused(2, "labels.csv", word, args=[colour_net, "--data", str(folder), "--labels", str(labels)])


def test_empty_folder(net, tmp_path):
    (tmp_path / "none").mkdir()
    refused(2, "none", "no images", args=[net, "--data", str(tmp_path / "none")])


def test_pillow_missing_names_the_install_line(colour_net, folder, monkeypatch):

    monkeypatch.setitem(sys.modules, "PIL", None)
    refused(3, "Pillow", "pip install 'aarewrite[report]'", args=[colour_net, "--data", str(folder)])


def test_a_fifo_or_a_folder_named_like_an_image_is_not_waited_for(colour_net, folder):
    os.mkfifo(folder / "00a.png")
    (folder / "00b.png").mkdir()
    assert len(open_data(folder)) == 12
    os.mkfifo(folder.parent / "x.npz")
    refused(2, "x.npz", args=[colour_net, "--data", folder.parent / "x.npz"])


@pytest.mark.parametrize("save_it", [np.savez, np.savez_compressed])
def test_limit_reads_no_more_than_the_first_samples(tmp_path, save_it):
    x = np.random.default_rng(0).integers(0, 255, (4000, 32, 32, 3), np.uint8)  # 12 MB
    save_it(tmp_path / "d.npz", x=x, y=np.arange(4000), extra=np.float32([[1, 2], [3, 4], [5, 6]]))
    tracemalloc.start()
    data = open_data(tmp_path / "d.npz", limit=2, input_names=("x", "extra"))
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()
    assert (len(data), data.labels) == (2, (0, 1))
    assert data.description == "2 of 4000 samples (32, 32, 3) uint8 in d.npz:x"
    assert np.array_equal(data.load(1)[0], x[1])
    assert data.constants["extra"].shape == (3, 2)  # what is no samples is whole


def test_samples_that_are_no_real_numbers(net, tmp_path):
    data = save(tmp_path / "d.npz", x=np.zeros((2, 1, 20, 20), np.complex64))
    refused(2, "array 'x' holds complex64", "real numbers", args=[net, "--data", data])
