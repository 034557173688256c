"""Where a command writes: never onto what it reads, onto nothing but files, and whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
import unicodedata
import uuid
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from aarewrite.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module for mypy

STDOUT = "-"
PIECE = 1 << 20  # bytes
OLD = 10  # seconds; before, a file may be so new that its process has not taken it yet
NO_FILES = {
    stat.S_IFDIR: "a folder", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
}  # fmt: skip
Key = tuple[object, ...]  # equal for two paths that lead to one file


def check_outputs(
    inputs: Iterable[tuple[str, Path]],
    outputs: Iterable[tuple[str, Path | str | None]],
    image_suffixes: Collection[str] = (),
) -> None:
    """Refuse, before any work, an output that cannot be written, or that is an input or another output.

    Two paths are one file when they lead to the same device and inode; of files that do not exist yet, when they
    have the same folder and the same name but for case, which some file systems ignore.

    Args:
        inputs: What is read, and what to call it: "what --plan reads". Paths that lead nowhere are left out.
        outputs: Option and path of what is written; None: not asked for, "-": stdout.
        image_suffixes: In a folder among the inputs, the files with these suffixes are read.

    Raises:
        UsageError: The message names the output's path, what is in the way, and the option.
    """
    taken, folders = dict[Key, str](), dict[Key, str]()
    for what, path in inputs:
        with contextlib.suppress(OSError):  # what cannot be read says so when it is read
            found = {_key(path): what} if path.exists() else {}
            if path.is_dir():
                folders |= found
                images = (file for file in path.iterdir() if file.suffix.lower() in image_suffixes)
                found |= {_key(file): f"among {what}" for file in images if file.exists()}
            taken = found | taken
    for option, given in outputs:
        if given is None:
            continue
        key: Key = (STDOUT,)
        if str(given) != STDOUT:
            with _target(Path(given)) as target, tempfile.TemporaryFile(dir=target.parent):
                pass  # on Linux such a file never has a name
            key = _key(target)
            folder = folders.get(_key(target.parent))
            if folder and target.suffix.lower() in image_suffixes and key not in taken:
                raise UsageError(f"{given}: would be among {folder}", f"choose another {option}")
        if key in taken:
            raise UsageError(f"{given}: is {taken[key]}", f"choose another {option}")
        taken[key] = f"the file of {option}"


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary file that takes the place of `path` only when the block ends well.

    A link is followed: the file it leads to is replaced. A file that exists keeps its mode. A signal that asks the
    process to end does so when the temporary file is gone.

    Raises:
        UsageError: The place cannot be written, or is no file.
    """
    with _ending_tidily(), _target(path) as target:
        _sweep(target.parent)
        temporary = target.with_name(f".aarewrite-{uuid.uuid4().hex}.part")
        try:
            descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600 if target.exists() else 0o666)
            with open(descriptor, "rb") as held:
                _lock(held)
                yield temporary
            if target.exists():
                shutil.copymode(target, temporary)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


class _Ended(BaseException):
    """A signal asks the process to end."""


@contextlib.contextmanager
def _ending_tidily() -> Iterator[None]:
    """In the block, signals that would end the process at once let it leave the block before they do."""
    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has one
    numbers = [number for number in known if signal.getsignal(number) is signal.SIG_DFL]  # nohup sets SIGHUP aside
    if threading.current_thread() is not threading.main_thread() or not numbers:
        yield
        return

    def end(number: int, frame: object) -> None:
        for one in numbers:
            signal.signal(one, signal.SIG_IGN)  # once is enough
        raise _Ended(number)

    for number in numbers:
        signal.signal(number, end)
    ended = None
    try:
        yield
    except _Ended as error:
        ended = int(error.args[0])
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
    if ended is not None:
        os.kill(os.getpid(), ended)


def _lock(file: BinaryIO) -> bool:
    """Take a file for as long as it is open; whether nobody has it. The system gives back what a killed process had."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove the temporary files that processes which were killed have left in a folder: old, and held by nobody."""
    for left in folder.glob(".aarewrite-*.part"):
        with contextlib.suppress(OSError), left.open("rb") as file:
            if time.time() - left.stat().st_mtime > OLD and _lock(file):
                left.unlink(missing_ok=True)


def write_bytes(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file whole or not at all; "-" is stdout.

    Raises:
        UsageError: The place cannot be written.
    """
    if str(path) == STDOUT:
        sys.stdout.buffer.writelines(pieces)
        sys.stdout.buffer.flush()
        return
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        stream.writelines(pieces)


def copy(source: Path, path: Path) -> None:
    """Write a file's bytes as they are."""
    with source.open("rb") as stream:
        write_bytes(path, iter(lambda: stream.read(PIECE), b""))


@contextlib.contextmanager
def text_output(path: Path | str | None, text: str) -> Iterator[None]:
    """Write a text when the block ends well; None: nowhere, "-": stdout.

    Raises:
        UsageError: The place cannot be written; the block is then not begun.
    """
    if path is None or str(path) == STDOUT:
        yield
        sys.stdout.write(text if path else "")
        return
    with atomic_file(Path(path)) as temporary:
        temporary.write_text(text, "utf-8")
        yield


@contextlib.contextmanager
def _target(path: Path) -> Iterator[Path]:
    """The file that would be replaced: what a link leads to, absent or a plain file that may be written.

    What keeps it from being written, then or in the block, is a UsageError.
    """
    try:
        target = Path(os.path.realpath(path))
        with contextlib.suppress(FileNotFoundError):
            kind = stat.S_IFMT(path.stat().st_mode)
            if kind != stat.S_IFREG:
                raise OSError(0, f"it is {NO_FILES.get(kind, 'no file')}")
            if not os.access(target, os.W_OK):
                raise PermissionError(0, "Permission denied")
        yield target
    except BrokenPipeError:  # stdout, not the file
        raise
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})", "choose another place") from None


def _key(path: Path) -> Key:
    try:
        found, name = path.stat(), ""
    except FileNotFoundError:
        folder, name = os.path.split(os.path.realpath(path))
        found, name = os.stat(folder), unicodedata.normalize("NFC", name).casefold()
    return found.st_dev, found.st_ino, name
