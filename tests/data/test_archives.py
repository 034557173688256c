"""Images in tar archives."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
from refusals import refused

from aarewrite.data.dataset import UnreadableSample
from aarewrite.data.sources import open_data


def pack(path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_shards(folder, suffix):
    data = [(folder / f"{i:02}.png").read_bytes() for i in range(4)]
    shards = folder.parent / "shards"
    shards.mkdir()
    pack(shards / f"a-000{suffix}", {"x/1.png": data[0], "x/1.cls": b"5\n", "x/2.PNG": data[1], "x/2.cls": b"6"})
    pack(shards / f"a-001{suffix}", {"3.json": b'{"label": 7}', "3.seg.png": data[2], ".4.png": b"", "5.txt": b""})
    opened = open_data(shards)
    assert opened.labels == (5, 6, 7)
    assert opened.names == (f"a-000{suffix}/x/1.png", f"a-000{suffix}/x/2.PNG", f"a-001{suffix}/3.seg.png")
    flat = open_data(folder)
    for i in (2, 0, 1, 0):
        assert np.array_equal(opened.load(i).arrays[0], flat.load(i).arrays[0])
    counted = open_data(str(shards / ("a-{000..001}" + suffix)), limit=2)
    assert counted.description == "2 of 3 images in a-{000..001}" + suffix


def test_a_truncated_archive_and_a_broken_image(colour_net, folder):
    pack(folder.parent / "s.tar", {"a.png": b"hello", "b.png": (folder / "00.png").read_bytes()})
    data = open_data(folder.parent / "s.tar")
    assert data.labels is None
    with pytest.raises(UnreadableSample, match=r"s\.tar/a\.png: cannot be decoded"):
        data.load(0)
    (folder.parent / "s.tar").write_bytes((folder.parent / "s.tar").read_bytes()[:1400])
    refused(2, "s.tar", args=[colour_net, "--data", str(folder.parent / "s.tar")])
    pack(folder.parent / "s.tar", {"a.txt": b"hello"})
    refused(2, "s.tar", "no images in it", args=[colour_net, "--data", str(folder.parent / "s.tar")])
