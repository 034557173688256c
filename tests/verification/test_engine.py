"""The one pass over the data: decoded once, flat memory, the same numbers at any batch size."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path

from small_nets import COLOUR, circular_classifier, parse, phase_classifier, save, stripes

from aarewrite.data import folders
from aarewrite.verification import verify


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
