"""Tables of files and classes."""

from __future__ import annotations

import pytest
from refusals import refused


def test_labels_without_a_row_for_an_image(colour_net, folder, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("file,class_index\n00.png,1\n01.png,0\n")
    command = [colour_net, "--data", str(folder), "--labels", str(labels)]
    refused(2, "labels.csv: no label for 02.png and 9 other images of", args=command)
    labels.write_text("file,class_index\n" + "".join(f"{i:02d}.png,1\n" for i in range(11)))
    refused(2, "labels.csv: no label for 11.png of", args=command)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("file,class_index\n00.png,1\n00.png,1\n00.png,0\n", "labels.csv line 4: 00.png is of class 0 and of 1"),
        ("a,b\n1,2\n", "columns are a, b"),
        ("file,class_index\n00.png,cat\n", "line 2"),
        ("", "no rows"),
    ],
)
def test_labels_that_cannot_be_read(colour_net, folder, tmp_path, text, word):
    labels = tmp_path / "labels.csv"
    labels.write_text(text)
    refused(2, "labels.csv", word, args=[colour_net, "--data", str(folder), "--labels", str(labels)])
