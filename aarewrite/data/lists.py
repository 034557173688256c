"""Images that a list names: CSV or JSON Lines with a column of files and one of classes, or text with a file a line."""

from __future__ import annotations

from pathlib import Path

from aarewrite.data.dataset import Data
from aarewrite.data.files import local_file
from aarewrite.data.folders import load_image
from aarewrite.data.labels import LABEL_COLUMNS, LINES, Table, by_file, read_table
from aarewrite.errors import UsageError

LIST_SUFFIXES = (".csv", *LINES, ".txt")


def open_list(path: Path, labels: str | Path | None, limit: int | None) -> Data:
    """Open a list of images; its files are relative to it.

    Raises:
        UsageError: It cannot be read, has no column of files, or labels that do not fit.
    """
    table = _lines(path) if path.suffix.lower() == ".txt" else read_table(path)
    if {"file_a", "file_b"} <= table.rows[0].keys():
        raise UsageError(f"{path}: a list of pairs", "give it with --pairs")
    found, table = len(table.rows), table.first(limit)
    names = table.files()
    indices, class_names = None, dict[int, str]()
    if labels is not None:
        indices, class_names = by_file(labels, names, path.name)
    elif table.column(LABEL_COLUMNS):
        indices = table.classes()
        class_names = table.names(indices)
    return Data(
        "images",
        f"{len(names)} of {found} images in {path.name}",
        names,
        lambda i: load_image(local_file(path.parent / names[i])),
        indices,
        class_names,
    )


def _lines(path: Path) -> Table:
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a readable text ({error})", "write a file a line") from None
    rows = [({"file": line}, number) for number, line in enumerate(lines, start=1) if line]
    if not rows:
        raise UsageError(f"{path}: no rows", "write a file a line")
    return Table(str(path), [row for row, _ in rows], [number for _, number in rows])
