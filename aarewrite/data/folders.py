"""Images in folders: nested, by pattern, in a bucket; classes from folders where every image lies in one of several."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from aarewrite.data.dataset import Data, Loaded, UnreadableSample
from aarewrite.data.files import File
from aarewrite.data.images import read_image
from aarewrite.data.labels import by_file


def open_images(files: Sequence[File], where: str, labels: str | Path | None, limit: int | None) -> Data:
    """Open image files; `where` is what they are called together.

    Without `labels`, folders are classes where there are several and every image lies in one: a folder called by a
    number is the class of that index, others are counted in alphabetical order. The classes then take turns, so that
    the first images are of all of them.

    Raises:
        UsageError: Labels that do not fit.
    """
    class_count = None
    folders = {file.name.partition("/")[0] for file in files if "/" in file.name}
    nested = len(folders) > 1 and all("/" in file.name for file in files)
    indices, class_names = None, dict[int, str]()
    if labels is None and nested:
        numbered = all(name.isdecimal() for name in folders)
        index = {name: int(name) if numbered else k for k, name in enumerate(sorted(folders))}
        files = _taking_turns(files)
        indices = tuple(index[file.name.partition("/")[0]] for file in files)
        class_names = {} if numbered else {k: name for name, k in index.items()}
        class_count = max(index.values()) + 1
    found, files = len(files), files[:limit]
    if labels is not None:
        indices, class_names = by_file(labels, [file.name for file in files], where)
    by_folder = f" in {len(folders)} class folders" if indices is not None and labels is None else ""
    return Data(
        "images",
        f"{len(files)} of {found} images in {where}{by_folder}",
        tuple(file.name for file in files),
        lambda i: load_image(files[i]),
        None if indices is None else indices[: len(files)],
        class_names,
        class_count,
    )


def load_image(file: File) -> Loaded:
    """Decode the image of a file; `UnreadableSample` as `read_image`, or if it cannot be opened."""
    try:
        with file.open() as stream:
            image, remark = read_image(stream, file.place)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        why = getattr(error, "strerror", None) or error
        raise UnreadableSample(f"{file.place}: cannot be opened: {why}", "check the file") from None
    return Loaded([image], remark)


def _taking_turns(files: Sequence[File]) -> list[File]:
    """Files with the first of every folder first, then the second ones."""
    seen, turns = Counter[str](), defaultdict[int, list[File]](list)
    for file in files:
        folder = file.name.partition("/")[0]
        turns[seen[folder]].append(file)
        seen[folder] += 1
    return [file for turn in sorted(turns) for file in turns[turn]]
