"""Samples as arrays: which ones, how much is read, what is wrong with them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from refusals import refused
from small_nets import save, stripes

from aarewrite.data.sources import open_data


def test_npz_that_is_no_npz(net, tmp_path):
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 broken")
    refused(2, "d.npz", "cannot be read", args=[net, "--data", str(tmp_path / "d.npz")])


def test_npz_with_several_candidates(net, tmp_path):
    data = save(tmp_path / "d.npz", left=stripes(2), right=stripes(2))
    refused(2, "left, right", args=[net, "--data", data])


def test_labels_of_another_count(net, tmp_path):
    data = save(tmp_path / "d.npz", x=stripes(3), labels=np.array([0, 1]))
    refused(2, "2 labels for 3 samples", args=[net, "--data", data])


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
    assert np.array_equal(data.load(1).arrays[0], x[1])
    assert data.constants["extra"].shape == (3, 2)  # what is no samples is whole


def test_samples_that_are_no_real_numbers(net, tmp_path):
    data = save(tmp_path / "d.npz", x=np.zeros((2, 1, 20, 20), np.complex64))
    refused(2, "array 'x' holds complex64", "real numbers", args=[net, "--data", data])
