"""Decoding: upright 8-bit RGB whatever the file has, said where that changes it; broken files refused by name."""

from __future__ import annotations

import json
import sys
import zlib

import numpy as np
import pytest
from command import aa
from refusals import refused

from aarewrite.data.dataset import UnreadableSample
from aarewrite.data.images import read_image

Image = pytest.importorskip("PIL.Image")
RGB = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)


def saved(path, image, **how):
    image.save(path, **how)
    return read_image(path, path.name)


def png(path, width: int, height: int, depth: int, colour: int, rows: bytes) -> None:
    """Write a PNG by hand: Pillow writes no 16-bit colours and no false sizes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((depth, colour, 0, 0, 0))
    parts = (b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


def test_what_is_plain_is_read_as_it_is(tmp_path):
    pixels, remark = saved(tmp_path / "a.png", Image.fromarray(RGB))
    assert np.array_equal(pixels, RGB)
    assert remark == ""


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels, remark = saved(tmp_path / "a.png", Image.fromarray(RGB), exif=exif)
    turned = {
        1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.swapaxes(0, 1), 6: np.rot90(RGB, -1),
        7: RGB[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(RGB),
    }  # fmt: skip
    assert np.array_equal(pixels, turned[orientation])
    assert remark == ""


def test_palettes_and_transparency(tmp_path):
    palette = Image.fromarray(RGB).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(saved(tmp_path / "p.png", palette)[0], expected)
    assert np.array_equal(saved(tmp_path / "t.png", palette, transparency=b"\x00\x80")[0], expected)
    alpha = Image.fromarray(np.dstack([RGB, np.full(RGB.shape[:2], 7, np.uint8)]))
    assert np.array_equal(saved(tmp_path / "a.png", alpha)[0], RGB)


def test_16_bit_grey_keeps_its_upper_bits(tmp_path):
    grey = np.arange(54, dtype=np.uint16).reshape(6, 9) * 1200
    for suffix in ("png", "tif"):
        pixels, remark = saved(tmp_path / f"deep.{suffix}", Image.fromarray(grey))
        assert np.array_equal(pixels, np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=-1))
        assert "16-bit" in remark


def test_16_bit_colours_are_said(tmp_path):
    row = b"\x00" + bytes((200, 9, 100, 9, 50, 9)) * 2
    png(tmp_path / "deep.png", 2, 2, 16, 2, row * 2)
    pixels, remark = read_image(tmp_path / "deep.png", "deep.png")
    assert pixels[0, 0].tolist() == [200, 100, 50]
    assert "16 bits" in remark


def test_cmyk_is_converted_and_said(tmp_path):
    pixels, remark = saved(tmp_path / "print.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), quality=95)
    assert np.abs(pixels.astype(int) - (255, 0, 0)).max() < 6
    assert remark == "CMYK, converted to RGB without a colour profile"


def test_values_that_are_no_picture(tmp_path):
    Image.fromarray(np.float32([[0.5, 1e9]])).save(tmp_path / "f.tif")
    with pytest.raises(UnreadableSample, match=r"f\.tif: cannot be decoded: floating-point"):
        read_image(tmp_path / "f.tif", "f.tif")
    Image.fromarray(np.int32([[-5, 7]])).save(tmp_path / "i.tif")
    with pytest.raises(UnreadableSample, match="32-bit"):
        read_image(tmp_path / "i.tif", "i.tif")


def test_decompression_bomb(tmp_path):
    png(tmp_path / "bomb.png", 30000, 30000, 8, 0, b"\x00" * 100)
    with pytest.raises(UnreadableSample, match=r"bomb\.png: cannot be decoded: more than 178 million pixels"):
        read_image(tmp_path / "bomb.png", "bomb.png")


def test_four_odd_images_among_good_ones(colour_net, folder):
    """Each is named; the rest is measured."""
    whole = (folder / "01.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("hello")
    Image.new("CMYK", (30, 30)).save(folder / "cmyk.jpg")
    Image.fromarray(np.zeros((30, 30), np.uint16)).save(folder / "deep.png")
    png(folder / "bomb.png", 30000, 30000, 8, 0, b"\x00" * 100)
    result = aa("verify", colour_net, "--data", folder, "--json", folder.parent / "out.json")
    assert (result.status, result.err) == (0, "")
    found = json.loads((folder.parent / "out.json").read_text())
    assert found["n"] == 12 + 2
    assert found["classification"][0]["n"] == 14
    assert {odd["name"]: odd["measured"] for odd in found["odd"]} == {
        "bomb.png": False, "cmyk.jpg": True, "deep.png": True, "text.png": False, "truncated.png": False
    }  # fmt: skip
    for name in ("bomb.png", "cmyk.jpg", "deep.png", "text.png", "truncated.png"):
        assert name in result.out
    refused(2, "bomb.png", "decompression bomb", args=[colour_net, "--data", str(folder), "--strict"])
    (folder / "bomb.png").unlink()
    refused(2, "cmyk.jpg", "CMYK", "--strict", args=[colour_net, "--data", str(folder), "--strict"])


def test_nothing_but_broken_images(colour_net, tmp_path):
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "a.png").write_text("hello")
    refused(2, "none of 1 of 1 images", "a.png", args=[colour_net, "--data", str(tmp_path / "all")])


def test_pillow_missing_names_the_install_line(colour_net, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    refused(3, "Pillow", "pip install 'aarewrite[report]'", args=[colour_net, "--data", str(folder)])
