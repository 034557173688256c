"""A long verification's log: what was found so far, from which the same command goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from aarewrite.errors import UsageError
from aarewrite.options import Json
from aarewrite.verification.records import Found

PATIENCE = 10.0  # seconds: what takes no longer is not worth a file


class Log:
    """A file of what was found, a line a sample, behind a line that tells what it belongs to.

    Args:
        path: The file; None keeps nothing.
        identity: What decides on the figures; a file of another one is begun anew.
    """

    def __init__(self, path: Path | None, identity: Json) -> None:
        self.path, self._head = path, json.dumps(identity)
        self.found = list(self._read())

    def _read(self) -> Iterator[Found]:
        try:
            lines = self.path.read_text("utf-8").split("\n") if self.path else []
        except (OSError, UnicodeDecodeError):
            return
        if lines[:1] == [self._head]:
            for line in lines[1:]:
                try:
                    yield Found.of(json.loads(line))
                except (ValueError, RecursionError):  # it was cut off there
                    return

    def keep(self, found: Iterable[Found]) -> Iterator[Found]:
        """Yield what is found, and write it down once it took some seconds.

        Raises:
            UsageError: The file cannot be written.
        """
        if self.path is None:
            yield from found
            return
        began, waiting, stream = time.monotonic(), [self._head, *map(_line, self.found)], None
        try:
            for one in found:
                waiting.append(_line(one))
                if time.monotonic() - began >= PATIENCE:
                    stream = stream or self.path.open("w", encoding="utf-8")
                    stream.write("".join(f"{line}\n" for line in waiting))
                    stream.flush()
                    waiting = []
                yield one
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be written ({error.strerror})", "choose another place") from None
        finally:
            if stream is not None:
                stream.write("".join(f"{line}\n" for line in waiting))
                stream.close()


def _line(found: Found) -> str:
    return json.dumps(found.plain())
