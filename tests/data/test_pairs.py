"""A user's own pairs of images."""

from __future__ import annotations

import pytest
from refusals import refused

from aarewrite.data.dataset import UnreadableSample
from aarewrite.data.pairs import open_pairs


def test_a_sample_is_both_images(folder):
    (folder / "pairs.csv").write_text("file_a,file_b,class_index,cluster\n00.png,01.png,3,clip\n02.png,03.png,4,\n")
    data = open_pairs(folder / "pairs.csv")
    assert data.names == ("00.png and 01.png", "02.png and 03.png")
    assert data.labels == (3, 4)
    assert data.clusters == ("clip", f"{folder / 'pairs.csv'} line 3")
    assert len(data.load(0).arrays) == 2


def test_a_broken_image_names_line_and_file(folder):
    (folder / "01.png").write_text("hello")
    (folder / "pairs.csv").write_text("file_a,file_b\n00.png,01.png\n")
    with pytest.raises(UnreadableSample, match=r"pairs.csv line 2: .*01\.png: cannot be decoded: no image"):
        open_pairs(folder / "pairs.csv").load(0)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("file,label\n00.png,1\n", "it needs `file_a` and `file_b`"),
        ("file_a,file_b\n00.png,\n", "line 2: a file is not named"),
        ("file_a,file_b\n00.png,gone.png\n", "line 2: gone.png: no such file"),
    ],
)
def test_pairs_that_cannot_be_read(colour_net, folder, text, word):
    (folder / "pairs.csv").write_text(text)
    refused(2, "pairs.csv", word, args=[colour_net, "--pairs", str(folder / "pairs.csv")])
