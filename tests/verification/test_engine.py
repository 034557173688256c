"""The one pass over the data: decoded once, flat memory, the same numbers at any batch size."""

from __future__ import annotations

import os
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from small_nets import COLOUR, circular_classifier, parse, phase_classifier, save, stripes

from aarewrite.data import folders
from aarewrite.data.geometry import Geometry, Sample
from aarewrite.data.sources import open_data
from aarewrite.data.views import Views
from aarewrite.errors import CannotHandle
from aarewrite.verification import verify
from aarewrite.verification.classify import ClassifyStudy
from aarewrite.verification.engine import run_studies, share_cores
from aarewrite.verification.job import Asked, open_job
from aarewrite.verification.protocols import plan_shifts
from aarewrite.verification.records import Found

SUMMED = """
    net (float[N, 1, 16, 16] x) => (float[1, 4] y) <int64[2] shape = {-1, 4}, int64[1] first = {0}>
    {
        rows = Reshape(x, shape)
        y = ReduceSum(rows, first)
    }
"""


def test_every_image_is_decoded_once(folder, monkeypatch):
    decoded = []
    read = folders.read_image
    monkeypatch.setattr(
        folders, "read_image", lambda file, name: (decoded.append(Path(name).name), read(file, name))[1]
    )
    net = parse(COLOUR)
    report = verify(net, folder, protocols=("circular", "fractional"), names=("a", "b"))
    shown = {flip.name for flip in report.flips}  # and drawn from, afterwards
    assert report.n == 12
    assert Counter(decoded) == {f"{i:02}.png": 1 + (f"{i:02}.png" in shown) for i in range(12)}


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


def test_batches_that_run_side_by_side_find_the_same_in_the_same_order(tmp_path):
    data = save(tmp_path / "stripes.npz", x=stripes(21))
    job = open_job(Asked(phase_classifier(), data, names=("net", ""), max_shift=2, batch=3))
    load, studies = job.setup.sample, job.rounds[0][1]

    def found(**how: int) -> list[Found]:
        return list(run_studies(job.setup.models, load, range(21), studies, 3, **how))

    in_turn = found(workers=0)
    assert [one.index for one in in_turn] == list(range(21))
    assert found(runs=1) == found(runs=3) == in_turn


def test_a_model_that_refuses_in_the_background_ends_the_run(tmp_path):
    data = save(tmp_path / "stripes.npz", x=stripes(9))
    with pytest.raises(CannotHandle, match=r"net: output 'y' of shape \(1, 4\) has no batch axis for 4 inputs"):
        verify(parse(SUMMED), data, names=("net", ""), task="vector")


@pytest.mark.parametrize(("cores", "shared"), [(1, (1, 1)), (2, (2, 1)), (4, (4, 1)), (7, (4, 1)), (16, (4, 4))])
def test_the_cores_are_shared_by_batches_before_they_are_by_an_operator(monkeypatch, cores, shared):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert share_cores("cpu", 0) == shared
    assert share_cores("cpu", 3) == (1, 3)
    assert share_cores("cuda", 0) == (1, 0)


def test_fixed_batch_gives_the_same_numbers(tmp_path):
    data = save(tmp_path / "stripes.npz", x=stripes(5))
    results = [verify(phase_classifier(batch=n), data, names=("net", "")).classification for n in ("N", 1, 3)]
    assert results[0] == results[1] == results[2]


def test_pictures_are_the_crops_made_smaller():
    geometry = Geometry((8, 8), (12, 12))
    plan = plan_shifts("crop", geometry, 1, 0)
    study = ClassifyStudy(plan, Views("crop", geometry, (1, 2)), ["net"], ["y"], open_data("synthetic:1"))
    picture = np.random.default_rng(0).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    sample = Sample(0, np.zeros((1, 12, 12), np.float32), picture)
    whole, moved = study.pictures(sample, ((0, 0), (1, 2)), 8)
    assert np.array_equal(whole, picture[2:10, 2:10])
    assert np.array_equal(moved, picture[3:11, 4:12])
    (half,) = study.pictures(sample, ((0, 0),), 4)
    assert np.array_equal(half[0, 0], picture[2:4, 2:4].mean((0, 1)).astype(np.uint8))
    assert study.pictures(Sample(0, sample.canvas), ((0, 0),), 8) == ()
