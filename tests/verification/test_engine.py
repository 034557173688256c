"""The one pass over the data: decoded once, flat memory, the same numbers at any batch size."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
from small_nets import COLOUR, circular_classifier, parse, phase_classifier, save, stripes

from aarewrite.data import folders
from aarewrite.data.geometry import Geometry, Sample
from aarewrite.data.sources import open_data
from aarewrite.data.views import Views
from aarewrite.verification import verify
from aarewrite.verification.classify import ClassifyStudy
from aarewrite.verification.protocols import plan_shifts


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
