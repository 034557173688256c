"""`python -m aarewrite`, and where the command `aarewrite` begins: what can be interrupted from the first moment on.

Importing the command line takes a tenth of a second. An interrupt meanwhile ends the process with a line, not with a
traceback; nothing has been begun.
"""

from __future__ import annotations

import os
import signal
from types import FrameType


def _interrupted(number: int, frame: FrameType | None) -> None:
    os.write(2, b"aarewrite: error: interrupted\n")
    os._exit(130)


def main() -> None:
    """The `aarewrite` command."""
    before = signal.signal(signal.SIGINT, _interrupted)
    from aarewrite.cli.app import main as run

    signal.signal(signal.SIGINT, before)
    run()


if __name__ == "__main__":
    main()
