"""Images that a list names."""

from __future__ import annotations

import pytest
from refusals import refused

from aarewrite.data.dataset import UnreadableSample
from aarewrite.data.sources import open_data


def test_csv_and_json_lines(folder):
    (folder / "list.csv").write_text("file,label,name\n03.png,1,red\n01.png,0,blue\n")
    (folder / "metadata.jsonl").write_text(
        '{"file_name": "03.png", "label": 1, "name": "red"}\n\n{"file_name": "01.png", "label": 0, "name": "blue"}\n'
    )
    for name in ("list.csv", "metadata.jsonl"):
        data = open_data(folder / name)
        assert (data.names, data.labels) == (("03.png", "01.png"), (1, 0))
        assert data.class_names == {0: "blue", 1: "red"}
        assert data.load(0).arrays[0].tolist() == open_data(folder).load(3).arrays[0].tolist()
        assert len(open_data(folder / name, limit=1)) == 1


def test_text_with_a_file_a_line(folder):
    (folder / "list.txt").write_text("02.png\n\n  nowhere.png\n")
    (folder / "labels.csv").write_text("file,class_index\n02.png,5\nnowhere.png,6\n")
    data = open_data(folder / "list.txt", folder / "labels.csv")
    assert (data.names, data.labels) == (("02.png", "nowhere.png"), (5, 6))
    with pytest.raises(UnreadableSample, match=r"nowhere\.png: cannot be opened"):
        data.load(1)


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("l.csv", "picture,label\na.png,1\n", "needs one of file, file_name"),
        ("l.csv", "file_a,file_b\na.png,b.png\n", "--pairs"),
        ("l.csv", "file,label\na.png,cat\n", "line 2"),
        ("l.jsonl", '{"file": "a.png"}\n{"label": 1}\n', "line 2: no file"),
        ("l.jsonl", "[1]\n", "line 1 is no object"),
        ("l.jsonl", "{\n", "not a readable JSON Lines"),
        ("l.txt", "\n", "no rows"),
    ],
)
def test_lists_that_cannot_be_read(net, tmp_path, name, text, word):
    (tmp_path / name).write_text(text)
    refused(2, name, word, args=[net, "--data", str(tmp_path / name)])
