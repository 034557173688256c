"""Images in Parquet files."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from refusals import refused

from aarewrite.data.dataset import UnreadableSample
from aarewrite.data.sources import open_data

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def hub(folder):
    """Two files as a hub has them, linked from where their contents lie: 12 images in groups of 4 rows."""
    data = [(folder / f"{i:02}.png").read_bytes() for i in range(12)]
    kinds = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    names = {"info": {"features": {"label": {"names": ["red", "blue"], "_type": "ClassLabel"}}}}
    (folder.parent / "hub").mkdir()
    for k, rows in enumerate((range(7), range(7, 12))):
        images = pa.array([{"bytes": data[i], "path": None} for i in rows], kinds)
        table = pa.table({"image": images, "label": pa.array([i % 2 for i in rows])})
        table = table.replace_schema_metadata({"huggingface": json.dumps(names)})
        pq.write_table(table, folder / f"blob{k}", row_group_size=4)
        (folder.parent / "hub" / f"test-{k:05}-of-00002.parquet").symlink_to(folder / f"blob{k}")
    return folder.parent / "hub"


def test_rows_across_groups_and_files(hub, folder):
    data = open_data(hub)
    assert (len(data), data.labels, data.class_names) == (12, (0, 1) * 6, {0: "red", 1: "blue"})
    assert data.names[7] == "test-00001-of-00002.parquet[0]"
    flat = open_data(folder)
    for i in (0, 11, 6, 7, 3, 4):
        assert np.array_equal(data.load(i).arrays[0], flat.load(i).arrays[0])
    assert open_data(hub, limit=8).description == "8 of 12 images in hub/"


def test_plain_bytes_by_pattern_and_address(hub, folder):
    table = pa.table({"jpg": [b"no image", (folder / "05.png").read_bytes(), None]})
    pq.write_table(table, hub / "plain.parquet")
    for source in (str(hub / "pl*.parquet"), f"file://{hub}/plain.parquet"):
        data = open_data(source)
        assert data.load(1).arrays[0].shape == (30, 40, 3)
        with pytest.raises(UnreadableSample, match=r"plain\.parquet\[0\]: cannot be decoded"):
            data.load(0)
        with pytest.raises(UnreadableSample, match="no bytes of an image in column jpg"):
            data.load(2)


def test_files_that_cannot_be_read(colour_net, tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    refused(2, "a.parquet", "not a readable Parquet", args=[colour_net, "--data", str(tmp_path)])
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "a.parquet")
    refused(2, "a.parquet", "columns are text", args=[colour_net, "--data", str(tmp_path)])
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    refused(3, "pip install 'aarewrite[arrow]'", args=[colour_net, "--data", str(tmp_path)])
