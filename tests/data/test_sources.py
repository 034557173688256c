"""What `--data` names: one image, and what is nothing of all that."""

from __future__ import annotations

import shutil

from refusals import refused

from aarewrite.data.sources import open_data


def test_a_single_image(folder):
    data = open_data(folder / "07.png")
    assert (data.names, data.labels, data.description) == (("07.png",), None, "1 of 1 images in 07.png")


def test_by_pattern(folder):
    assert open_data(str(folder / "0[12].png")).names == ("01.png", "02.png")


def test_class_folders_by_pattern(folder):
    for name in ("a", "b"):
        (folder / name).mkdir()
        shutil.copy(folder / "00.png", folder / name / "x.png")
    assert open_data(str(folder / "*" / "*.png")).labels == (0, 1)


def test_what_is_no_data(net, tmp_path):
    (tmp_path / "notes.md").write_text("x")
    refused(2, "notes.md", "no images, samples or list", args=[net, "--data", str(tmp_path / "notes.md")])
    refused(2, "*.png", "no such file or folder", args=[net, "--data", str(tmp_path / "*.png")])
    refused(2, "--labels with synthetic", args=[net, "--data", "synthetic", "--labels", "x.csv"])
