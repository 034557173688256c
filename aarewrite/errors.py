"""The errors aarewrite raises: one family, each with its exit status and what to do next."""

from __future__ import annotations


class AarewriteError(Exception):
    """Base of every error a caller can expect.

    Args:
        message: One line that names the node or file and the reason.
        next_step: One line that says what the user can do; appended to the message.
    """

    exit_status = 1

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(f"{message}; {next_step}" if next_step else message)
        self.message = message
        self.next_step = next_step


class CheckFailed(AarewriteError):
    """A proof, a comparison or a limit given by the user failed; nothing was written."""

    exit_status = 1


class UsageError(AarewriteError):
    """The request itself is wrong: an unknown recipe, a malformed option, a missing file."""

    exit_status = 2


class CannotHandle(AarewriteError):
    """The model, or this machine, cannot do what was asked; the message names the construct."""

    exit_status = 3
