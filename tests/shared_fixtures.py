"""Data and models that tests of several floors use."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from small_nets import COLOUR, parse, phase_classifier


@pytest.fixture
def net(tmp_path):
    onnx.save(phase_classifier(), tmp_path / "net.onnx")
    return str(tmp_path / "net.onnx")


@pytest.fixture
def colour_net(tmp_path):
    onnx.save(parse(COLOUR), tmp_path / "colour.onnx")
    return str(tmp_path / "colour.onnx")


@pytest.fixture
def folder(tmp_path):
    """Twelve small photographs, of a sort."""
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "images"
    path.mkdir()
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        image.fromarray(pixels).save(path / f"{i:02}.png")
    return path


@pytest.fixture
def in_bucket():
    """Puts a folder into a bucket of a server on this machine that speaks S3, and gives its address."""
    fs = pytest.importorskip("pyarrow.fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host = f"127.0.0.1:{server.get_host_and_port()[1]}"
    system = fs.S3FileSystem(
        access_key="key", secret_key="secret", endpoint_override=host, scheme="http", allow_bucket_creation=True
    )

    def put(folder: Path) -> str:
        system.create_dir("bucket")
        fs.copy_files(str(folder), f"bucket/{folder.name}", destination_filesystem=system)
        return f"s3://key:secret@bucket/{folder.name}?scheme=http&endpoint_override={host}"

    yield put
    server.stop()


@pytest.fixture
def hostile():
    """The folder of small files that mean harm."""
    shared = os.environ.get("AAREWRITE_SHARED")
    if not shared:
        pytest.skip("AAREWRITE_SHARED is not set")
    return Path(shared) / "cases" / "hostile"
