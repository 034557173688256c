"""A picture as a data URI, so that a page needs no other file (PNG, W3C recommendation 2003)."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from aarewrite.data.arrays import Array


def data_uri(picture: Array) -> str:
    """Encode `(H, W, 3)` uint8 as `data:image/png;base64,...`."""
    height, width = picture.shape[:2]
    rows = np.zeros((height, 1 + width * 3), np.uint8)  # each row starts with its filter type, 0 = none
    rows[:, 1:] = picture.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
    return "data:image/png;base64," + base64.b64encode(png + _chunk(b"IEND", b"")).decode()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
