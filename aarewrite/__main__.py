"""`python -m aarewrite`, and where the command `aarewrite` begins."""

from __future__ import annotations

import os
import signal
from types import FrameType


def main() -> None:
    """The `aarewrite` command; what can be interrupted from here on, be it while it is still being imported."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # in the background of a script
        signal.signal(signal.SIGINT, _interrupt)
    from aarewrite.cli.app import main as run

    run()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End by `KeyboardInterrupt`; but in the middle of an import at once, for an exception that goes through a C++
    module half imported may be anything, a crash included. Nothing is being written then."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, b"aarewrite: error: interrupted\n")
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
