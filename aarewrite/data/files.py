"""Finding files: in folders and those below, by a pattern, or behind an address that Arrow's file systems read."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from aarewrite.errors import CannotHandle, UsageError

FEW = "name a folder, a file or a pattern such as 'photos/*.jpg'"


@dataclass(frozen=True)
class File:
    """One file, wherever it lies."""

    name: str  # relative to the folder that was named, with slashes
    place: str  # path or address
    open: Callable[[], IO[bytes]]  # for reading, at any place

    @property
    def suffix(self) -> str:
        """The end of its name from the last dot on, in lower case."""
        return os.path.splitext(self.name)[1].lower()


def is_address(text: str) -> bool:
    """Whether it is an address such as s3://bucket/photos, and no path."""
    return re.match(r"[a-z][a-z0-9+]+://", text) is not None


def plain_address(address: str) -> str:
    """An address as it may be shown: without a key and what else says how it is reached."""
    scheme, _, rest = address.partition("?")[0].partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def local_file(path: Path, name: str | None = None) -> File:
    """A file of this machine."""
    return File(name or path.name, str(path), lambda: path.open("rb"))


def find_files(source: str) -> list[File]:
    """All files that a folder, a path, a pattern or an address leads to, sorted by name; hidden ones are left out.

    Links are followed. In a pattern `*`, `?`, `[...]` and `**` match as usual, and {000..012} counts.

    Raises:
        UsageError: Nothing is there.
        CannotHandle: An address, and no pyarrow.
    """
    if is_address(source):
        return _behind_address(source)
    path = Path(source)
    if path.is_dir():
        return sorted(_below(path), key=lambda file: file.name.split("/"))
    if path.is_file():
        return [local_file(path)]
    found = sorted({match for pattern in _counted(source) for match in glob.glob(pattern, recursive=True)})
    matched = [Path(match) for match in found if os.path.isfile(match)]
    if not matched:
        what = "neither a file nor a folder" if path.exists() else "no such file or folder"
        raise UsageError(f"{source}: {what}", FEW)
    base = os.path.commonpath([path.parent for path in matched])
    return [local_file(path, path.relative_to(base).as_posix()) for path in matched]


def _below(folder: Path) -> Iterator[File]:
    seen = set[str]()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [name for name in folders if not name.startswith(".") and real not in seen]
        if real in seen:  # a link that leads back
            continue
        seen.add(real)
        for name in names:
            path = Path(place, name)
            if not name.startswith(".") and path.is_file():  # a fifo would wait for whoever writes to it
                yield local_file(path, path.relative_to(folder).as_posix())


def _counted(pattern: str) -> Sequence[str]:
    """A pattern for each number of {000..012}, or the pattern itself."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if not found:
        return [pattern]
    first, last = found.groups()
    numbers = range(int(first), int(last) + 1)
    return [pattern[: found.start()] + f"{k:0{len(first)}}" + pattern[found.end() :] for k in numbers]


def _behind_address(address: str) -> list[File]:
    said = plain_address(address)
    try:
        from pyarrow import fs
    except ImportError:
        raise CannotHandle(
            f"{said}: reading addresses needs pyarrow, which is not installed", "pip install 'aarewrite[arrow]'"
        ) from None
    try:
        system, path = fs.FileSystem.from_uri(address)
        if system.get_file_info(path).type == fs.FileType.Directory:
            infos = system.get_file_info(fs.FileSelector(path, recursive=True))
        else:
            infos = [info for info in [system.get_file_info(path)] if info.type == fs.FileType.File]
            path = os.path.dirname(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{said}: cannot be listed: {error}", "check the address and who may read it") from None
    files = [info.path for info in infos if info.type == fs.FileType.File]
    named = {os.path.relpath(file, path).replace(os.sep, "/"): file for file in files}
    if not named:
        raise UsageError(f"{said}: no files there", FEW)
    shown = {name: file for name, file in named.items() if not any(part.startswith(".") for part in name.split("/"))}
    return [
        File(name, file, partial(system.open_input_file, file))
        for name, file in sorted(shown.items(), key=lambda item: item[0].split("/"))
    ]
