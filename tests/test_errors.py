"""One family of errors, each with its exit status, its message in one line and the next step."""

from __future__ import annotations

import pytest

import aarewrite
from aarewrite import errors
from aarewrite.errors import AarewriteError, CannotHandle, CheckFailed, UsageError

STATUSES = {AarewriteError: 1, CheckFailed: 1, UsageError: 2, CannotHandle: 3}


@pytest.mark.parametrize(("kind", "status"), STATUSES.items())
def test_every_kind_has_its_exit_status_and_is_public(kind: type[AarewriteError], status: int) -> None:
    assert kind.exit_status == status
    assert issubclass(kind, AarewriteError)
    assert getattr(aarewrite, kind.__name__) is kind


def test_there_are_no_other_kinds() -> None:
    kinds = {one for one in vars(errors).values() if isinstance(one, type)}
    assert kinds == STATUSES.keys()


def test_the_next_step_follows_the_reason() -> None:
    error = UsageError("net.onnx: no such file", "give the path of an .onnx file")
    assert str(error) == "net.onnx: no such file; give the path of an .onnx file"
    assert (error.message, error.next_step) == ("net.onnx: no such file", "give the path of an .onnx file")


def test_without_a_next_step_the_message_is_all() -> None:
    error = CheckFailed("the proof failed")
    assert str(error) == error.message == "the proof failed"
    assert error.next_step == ""
