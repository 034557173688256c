"""The command line run in this process, as `aarewrite ARGUMENTS` is: any traceback fails the test."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import onnx
import pytest
from reference import build, weight

from aarewrite.cli.app import main


class Outcome(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """What was printed, without line breaks and columns."""
        return " ".join(self.out.split())


def aa(*arguments: object) -> Outcome:
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with (
        mock.patch.object(sys, "argv", ["aarewrite", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as stopped,
    ):
        main()
    printed = (stream.buffer.getvalue().decode("utf-8", "surrogateescape") for stream in (out, err))
    return Outcome(int(stopped.value.code or 0), *printed)


def failed(outcome: Outcome, status: int, *texts: str) -> None:
    """One line on stderr with the texts, nothing on stdout."""
    assert outcome.status == status, outcome
    assert outcome.out == ""
    assert outcome.err.startswith("aarewrite: error: ")
    assert outcome.err.count("\n") == 1
    assert "Traceback" not in outcome.err
    for text in texts:
        assert text in outcome.err


def small_net(file: Path) -> Path:
    """A strided conv and a max pool, written to a file."""
    model = build(
        """(float[1, 2, 17, 17] x) => (float[] y) {
        [conv] a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)
        [relu] b = Relu(a)
        [pool] c = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(b)
        [mean] y = GlobalAveragePool(c)
    }""",
        w=weight(4, 2, 3, 3),
    )
    onnx.save(model, file)
    return file


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}
