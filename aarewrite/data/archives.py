"""Images in tar archives; files that share their name up to the first dot are one sample, as WebDataset has it."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aarewrite.data.dataset import Data, Loaded, UnreadableSample
from aarewrite.data.files import File
from aarewrite.data.images import IMAGE_SUFFIXES, read_image
from aarewrite.data.labels import LABEL_COLUMNS, by_file, class_index
from aarewrite.errors import UsageError

TAR_SUFFIXES = (".tar", ".tgz", ".gz", ".bz2", ".xz")
LARGEST_TEXT = 1 << 20  # bytes of a file that says a class


class _Archive:
    """An archive and what lies in it; it is open only while something is read, unless it is compressed."""

    def __init__(self, file: File) -> None:
        self.file, self.guard = file, threading.Lock()
        self.tar: tarfile.TarFile | None = None
        try:
            try:
                with file.open() as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
                    self.members = [member for member in tar if member.isfile()]
            except tarfile.ReadError:  # a compressed one is read forwards, and again from its start
                self.tar = tarfile.open(fileobj=file.open(), mode="r:*")  # noqa: SIM115  # it lives as long as the data
                self.members = [member for member in self.tar if member.isfile()]
        except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
            raise UsageError(f"{file.place}: not a readable tar ({error})", "repair or remove it") from None

    def read(self, member: tarfile.TarInfo) -> bytes:
        if self.tar is None:
            with self.file.open() as plain:
                plain.seek(member.offset_data)
                return plain.read(member.size)
        with self.guard:  # one thread at a time
            stream = self.tar.extractfile(member)
            return stream.read() if stream else b""


@dataclass
class _Entry:
    """A sample: its image and what stands beside it, by suffix."""

    archive: _Archive
    image: tarfile.TarInfo | None = None
    beside: dict[str, tarfile.TarInfo] = field(default_factory=dict)


def open_archives(files: Sequence[File], where: str, labels: str | Path | None, limit: int | None) -> Data:
    """Open tar archives; classes are read from `.cls` files or from `.json` ones beside the images.

    Raises:
        UsageError: A broken archive, no images, or labels that do not fit.
    """
    entries = [entry for file in files for entry in _entries(_Archive(file))]
    if not entries:
        raise UsageError(f"{where}: no images in it", f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    found, entries = len(entries), entries[:limit]
    names = tuple(f"{entry.archive.file.name}/{entry.image.name}" for entry in entries if entry.image)
    indices, class_names = None, dict[int, str]()
    if labels is not None:
        indices, class_names = by_file(labels, names, where)
    else:
        values = [_class(entry) for entry in entries]
        if None not in values:
            indices = tuple(class_index(value, name) for value, name in zip(values, names, strict=True))

    def load(i: int) -> Loaded:
        entry = entries[i]
        try:
            data = entry.archive.read(entry.image) if entry.image else b""
        except (OSError, EOFError, tarfile.TarError) as error:
            raise UnreadableSample(f"{names[i]}: cannot be read: {error}", "repair the archive") from None
        image, remark = read_image(io.BytesIO(data), names[i])
        return Loaded([image], remark)

    return Data("images", f"{len(entries)} of {found} images in {where}", names, load, indices, class_names)


def _entries(archive: _Archive) -> Iterator[_Entry]:
    """Samples in the order of their first files."""
    found = dict[str, _Entry]()
    for member in archive.members:
        folder, _, name = member.name.rpartition("/")
        stem, dot, suffix = name.partition(".")
        if not stem:  # hidden
            continue
        entry = found.setdefault(f"{folder}/{stem}", _Entry(archive))
        if "." + suffix.rpartition(".")[2].lower() not in IMAGE_SUFFIXES:
            entry.beside[dot + suffix.lower()] = member
        elif entry.image is None:
            entry.image = member
    yield from (entry for entry in found.values() if entry.image is not None)


def _class(entry: _Entry) -> object:
    """What stands beside an image as its class, None for nothing."""

    def text(suffix: str) -> str | None:
        member = entry.beside.get(suffix)
        if member is None or member.size > LARGEST_TEXT:
            return None
        return entry.archive.read(member).decode("utf-8", "replace").strip()

    if (said := text(".cls")) is not None:
        return said
    try:
        table = json.loads(text(".json") or "null")
    except (ValueError, RecursionError):
        return None
    return next((table[key] for key in LABEL_COLUMNS if key in table), None) if isinstance(table, Mapping) else None
