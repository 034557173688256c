"""Decoding images to upright RGB bytes; what is no plain picture is said, and what is none is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from aarewrite.data.arrays import Array
from aarewrite.data.dataset import UnreadableSample
from aarewrite.errors import CannotHandle

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

# HEIC is among them to be refused by name: Pillow reads it only with a plug-in.
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff", ".ppm", ".pgm",
     ".pbm", ".heic", ".heif")
)  # fmt: skip


def read_image(file: Path | IO[bytes], name: str) -> tuple[Array, str]:
    """Decode an image as RGB, `(H, W, 3)` uint8, turned as its EXIF orientation says, and what had to be done for it.

    Of several frames it is the first; transparency is dropped, as training pipelines do.

    Raises:
        UnreadableSample: A file that is truncated, too large or no image; the message begins with `name`.
        CannotHandle: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise CannotHandle(
            "reading images needs Pillow, which is not installed", "pip install 'aarewrite[report]'"
        ) from None
    try:
        with Image.open(file) as image:
            deep = (
                "16" in str(image.tile[0][-1]) if image.tile else False
            )  # of RGB, Pillow takes 8 bits and says nothing
            image.load()
            rgb, remark = _as_rgb(image)
            if deep and not remark:
                remark = "16 bits a channel, of which the upper 8 were taken"
            return np.asarray(ImageOps.exif_transpose(rgb)), remark
    except Image.DecompressionBombError:
        reason = f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6} million pixels, a decompression bomb"
    except UnidentifiedImageError:
        reason = "no image that Pillow reads"
    except Exception as error:  # Pillow raises what its decoders happen to run into
        reason = f"{error}" or type(error).__name__
    raise UnreadableSample(f"{name}: cannot be decoded: {reason}", "repair or remove the file")


def _as_rgb(image: Picture) -> tuple[Picture, str]:
    """The picture in RGB, with what it says of orientation, and the remark."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("floating-point values, no picture; give an .npz")
    if image.mode.startswith("I"):  # convert("RGB") would cut off all above 255
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit values, no picture; give an .npz")
        grey = Image.fromarray((values >> 8).astype(np.uint8))
        grey.getexif().update(image.getexif())
        return grey.convert("RGB"), "16-bit grey values, of which the upper 8 bits were taken"
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB"), ""
    profile = "its colour profile" if "icc_profile" in image.info else "a colour profile"
    return image.convert("RGB"), f"CMYK, converted to RGB without {profile}" if image.mode == "CMYK" else ""
