"""`--isolate`: the command in a process of its own, where a crash or a hang of a library is one line here.

The program starts itself again and waits. A timer in the new process lets Python say, through a pipe, that it still
moves: it can between two of its own steps, so not while a call into a library does not come back. Where the process
dies, Python's fault handler has written into the same pipe where it was.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import NoReturn

from aarewrite.errors import CannotHandle

CHANNEL = "AAREWRITE_ISOLATED"  # environment of the new process: the pipe
SECONDS = "AAREWRITE_ISOLATE_SECONDS"  # environment: how long nothing may move
LONGEST = 600.0  # seconds, by default
BEAT = 0.5  # seconds
PATIENCE = 5.0  # seconds that a fault handler has
MOVED = b"\0"
LONGEST_TEXT = 8192  # bytes
PROGRAM = (sys.executable, "-P", "-m", "aarewrite")  # -P: nothing is imported from the current folder
HINT = "the model may be made to harm; --isolate kept it from this process"


def begin() -> bool:
    """In the process that was started again, begin to say that it lives; whether this is that process."""
    channel = os.environ.pop(CHANNEL, None)
    if channel is None:
        return False
    faulthandler.enable(int(channel), all_threads=False)

    def beat(number: int, frame: object) -> None:
        try:
            os.write(int(channel), MOVED)
        except OSError:  # whoever waited is gone
            signal.setitimer(signal.ITIMER_REAL, 0)
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGALRM, beat)
    signal.siginterrupt(signal.SIGALRM, False)
    signal.setitimer(signal.ITIMER_REAL, BEAT, BEAT)
    atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)  # the handler is gone before the process is
    return True


def run_isolated(words: Sequence[str], program: Sequence[str] = PROGRAM) -> NoReturn:
    """Run the program with these words in a process of its own, and end with its exit status.

    Raises:
        CannotHandle: That process was ended by a signal (a segmentation fault, the want of memory), or nothing moved
            in it for `LONGEST` seconds; the message says where it was.
    """
    limit = float(os.environ.get(SECONDS, LONGEST))
    reading, writing = os.pipe()
    here = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    try:
        child = subprocess.Popen(
            [*program, *words], env=os.environ | {CHANNEL: str(writing), "PYTHONPATH": paths}, pass_fds=[writing],
            start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(writing)
    with open(reading, "rb", buffering=0) as told, _handing_on(child) as asked:
        said, moves = _listen(told, limit)
        if not moves:
            child.send_signal(signal.SIGABRT)  # its fault handler says where it is
            said += _listen(told, PATIENCE)[0]
            child.kill()
        status = child.wait()
    if not moves:
        raise CannotHandle(f"nothing moved for {limit:g} s{_place(said)}", HINT)
    if -status in asked:
        os.kill(os.getpid(), -status)
    if status < 0:
        raise CannotHandle(f"the process was ended by {signal.Signals(-status).name}{_place(said)}", HINT)
    sys.exit(status)


def _listen(told: FileIO, limit: float) -> tuple[bytes, bool]:
    """What a process says until it ends, or until nothing is heard of it for so many seconds: then False."""
    said = b""
    while select.select([told], [], [], limit)[0]:
        news = told.read(4096)
        if not news:
            return said, True
        said = (said + news.replace(MOVED, b""))[:LONGEST_TEXT]
    return said, False


def _place(said: bytes) -> str:
    found = re.search(r'File "([^"]*)", line (\d+) in (\S+)', said.decode("utf-8", "replace"))
    return f", in {found[3]} ({Path(found[1]).name}:{found[2]})" if found else ""


@contextlib.contextmanager
def _handing_on(child: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """In the block, what asks this process to end asks the other one; yields the numbers of those signals."""
    asked: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        asked.append(number)
        child.send_signal(number)

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {one: signal.signal(one, hand_on) for one in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
