"""A picture as a data URI: what a decoder reads back is what was given."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from aarewrite.show.png import data_uri


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (112, 90)])
def test_a_decoder_reads_back_every_pixel(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    head, _, encoded = data_uri(picture).partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(encoded, validate=True))) as image:
        image.load()
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", size[::-1])
        np.testing.assert_array_equal(np.asarray(image), picture)
