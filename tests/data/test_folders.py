"""Images in folders: which are taken, in which order, and what their folders say of their classes."""

from __future__ import annotations

import os
import shutil

import numpy as np
import onnx
import pytest
from command import aa
from refusals import refused
from small_nets import COLOUR, parse

from aarewrite.data.setup import open_setup
from aarewrite.data.sources import open_data


@pytest.fixture
def class_folders(folder, tmp_path):
    """Photographs of three classes: 6, 4 and 2 of them."""
    for k, name in enumerate(["cat"] * 6 + ["dog"] * 4 + ["eel"] * 2):
        (tmp_path / "sorted" / name / "deep").mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / f"{k:02}.png", tmp_path / "sorted" / name / ("deep" if k % 2 else ".") / f"{k:02}.png")
    return tmp_path / "sorted"


def test_limit_takes_the_first(folder):
    data = open_data(folder, limit=5)
    assert data.names == tuple(f"{i:02}.png" for i in range(5))
    assert "5 of 12" in data.description


def test_folders_are_classes_and_take_turns(class_folders):
    data = open_data(class_folders, limit=7)
    assert [name.partition("/")[0] for name in data.names] == ["cat", "dog", "eel", "cat", "dog", "eel", "cat"]
    assert data.labels == (0, 1, 2, 0, 1, 2, 0)
    assert data.class_names == {0: "cat", 1: "dog", 2: "eel"}
    assert data.description == "7 of 12 images in sorted/ in 3 class folders"
    assert data.load(1).arrays[0].shape == (30, 40, 3)


def test_folders_called_by_numbers_are_those_classes(class_folders):
    for old, new in (("cat", "00"), ("dog", "10"), ("eel", "2")):
        (class_folders / old).rename(class_folders / new)
    data = open_data(class_folders)
    assert set(zip((name.partition("/")[0] for name in data.names), data.labels, strict=True)) == {
        ("00", 0), ("10", 10), ("2", 2)
    }  # fmt: skip
    assert (data.class_count, data.class_names) == (11, {})


def test_folders_that_are_no_classes_of_the_model(class_folders, tmp_path):
    """The net has two classes: three folders are none of them, two are."""
    net = parse(COLOUR)
    setup = open_setup(net, class_folders)
    assert setup.data.labels is None
    assert any("3 class folders" in note and "2 values" in note for note in setup.notes)
    shutil.rmtree(class_folders / "eel")
    onnx.save(net, tmp_path / "net.onnx")
    assert open_setup(net, class_folders).data.labels == (0, 1) * 4 + (0, 0)
    assert "top-1" in aa("verify", tmp_path / "net.onnx", "--data", class_folders).out


def test_one_nested_folder_and_mixed_ones_have_no_classes(folder):
    (folder / "more").mkdir()
    shutil.copy(folder / "00.png", folder / "more" / "x.png")
    data = open_data(folder)
    assert (len(data), data.labels) == (13, None)
    assert data.names[-1] == "more/x.png"
    assert open_data(folder.parent).labels is None  # only images/ lies there


def test_labels_of_folders_from_a_table(class_folders, tmp_path):
    (tmp_path / "classes.csv").write_text("file,class_index,name\ncat,281,tabby\ndog,207,retriever\neel,390,eel\n")
    data = open_data(class_folders, tmp_path / "classes.csv")
    assert data.labels == (281,) * 6 + (207,) * 4 + (390,) * 2
    assert data.class_names[207] == "retriever"


def test_empty_folder(net, tmp_path):
    (tmp_path / "none").mkdir()
    refused(2, "none", "no images", args=[net, "--data", str(tmp_path / "none")])


def test_a_fifo_or_a_folder_named_like_an_image_is_not_waited_for(colour_net, folder):
    os.mkfifo(folder / "00a.png")
    (folder / "00b.png").mkdir()
    assert len(open_data(folder)) == 12
    os.mkfifo(folder.parent / "x.npz")
    refused(2, "x.npz", args=[colour_net, "--data", folder.parent / "x.npz"])


def test_an_image_that_vanishes_is_listed(colour_net, folder):
    (folder / "gone.png").symlink_to(folder / "00.png")
    data = open_data(folder)
    assert np.array_equal(data.load(12).arrays[0], data.load(0).arrays[0])
    (folder / "gone.png").unlink()
    with pytest.raises(Exception, match=r"gone\.png: cannot be opened: No such file"):
        data.load(12)


def test_a_name_that_no_file_can_have_is_listed(folder, tmp_path):
    listed = tmp_path / "list.jsonl"
    listed.write_text('{"file": "a\\u0000.png"}\n')
    data = open_data(listed)
    with pytest.raises(Exception, match="cannot be opened: embedded null"):
        data.load(0)
