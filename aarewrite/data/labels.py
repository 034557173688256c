"""Tables of files and classes: CSV, or JSON Lines; which columns are read, and what is wrong with a row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from aarewrite.errors import UsageError

LABEL_COLUMNS = ("class_index", "label", "class", "index")
FILE_COLUMNS = ("file", "file_name", "filename", "path", "image")
LINES = (".jsonl", ".ndjson")
Row = Mapping[str, object]


class Table(NamedTuple):
    """The rows of a file, at least one, and the lines that they end on."""

    path: str
    rows: Sequence[Row]
    numbers: Sequence[int]

    def first(self, count: int | None) -> Table:
        """The table of the first so many rows."""
        return Table(self.path, self.rows[:count], self.numbers[:count])

    def column(self, names: Sequence[str]) -> str | None:
        """The first of these columns that there is."""
        return next((name for name in names if name in self.rows[0]), None)

    def classes(self) -> tuple[int, ...]:
        """The class index of every row; `UsageError` names the line."""
        column = self.column(LABEL_COLUMNS)
        if column is None:
            raise UsageError(f"{self.path}: columns are {self.columns}", f"it needs one of {', '.join(LABEL_COLUMNS)}")
        places = zip(self.rows, self.numbers, strict=True)
        return tuple(class_index(row.get(column), f"{self.path} line {number}") for row, number in places)

    def files(self) -> tuple[str, ...]:
        """The file of every row; `UsageError` names what is missing."""
        column = self.column(FILE_COLUMNS)
        if column is None:
            raise UsageError(f"{self.path}: columns are {self.columns}", f"it needs one of {', '.join(FILE_COLUMNS)}")
        for row, number in zip(self.rows, self.numbers, strict=True):
            if not isinstance(row.get(column), str) or not row[column]:
                raise UsageError(f"{self.path} line {number}: no {column}", "give every row a file")
        return tuple(str(row[column]) for row in self.rows)

    def names(self, classes: Sequence[int]) -> dict[int, str]:
        """The names of classes that a column `name` gives."""
        return {k: str(row["name"]) for k, row in zip(classes, self.rows, strict=True) if row.get("name")}

    @property
    def columns(self) -> str:
        """Its columns, in one line."""
        return ", ".join(self.rows[0])


def read_table(path: str | Path) -> Table:
    """Read a CSV with a header line, or JSON Lines.

    Raises:
        UsageError: It is not there, cannot be read or has no rows.
    """
    path = Path(path)
    lines = path.suffix.lower() in LINES
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            found = list(_json_rows(file)) if lines else _csv_rows(file)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file", "name an existing .csv or .jsonl") from None
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        kind = "JSON Lines" if lines else "CSV"
        raise UsageError(f"{path}: not a readable {kind} ({error})", "correct the file") from None
    if not found:
        raise UsageError(f"{path}: no rows", "it needs a header line and one row an image or pair")
    return Table(str(path), [row for row, _ in found], [number for _, number in found])


def _csv_rows(file: Iterator[str]) -> list[tuple[Row, int]]:
    reader = csv.DictReader(file)
    return [(row, reader.line_num) for row in reader]


def _json_rows(file: Iterator[str]) -> Iterator[tuple[Row, int]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no object")
            yield row, number


def class_index(value: object, where: str) -> int:
    """A class index as text or number; `UsageError` says `where` it is wrong."""
    try:
        index = int(str(value))
    except ValueError:
        raise UsageError(f"{where}: class index {value!r} is not a whole number", "correct the row") from None
    if index < 0:
        raise UsageError(f"{where}: class index {index} is negative", "correct the row")
    return index


def by_file(labels: str | Path, files: Sequence[str], where: str) -> tuple[tuple[int, ...], dict[int, str]]:
    """The classes of files, and names of classes, from a table whose files are theirs, or the folders they lie in.

    Raises:
        UsageError: The table does not say one of them.
    """
    table = read_table(labels)
    classes = table.classes()
    known: dict[str, int] = {}
    for file, index, number in zip(table.files(), classes, table.numbers, strict=True):
        if known.setdefault(file, index) != index:
            raise UsageError(
                f"{labels} line {number}: {file} is of class {index} and of {known[file]}", "correct the row"
            )

    def found(file: str) -> int | None:
        parts = file.split("/")
        return next((known[key] for key in (file, parts[-1], parts[0]) if key in known), None)

    indices = [found(file) for file in files]
    if missing := [file for file, index in zip(files, indices, strict=True) if index is None]:
        others = f" and {len(missing) - 1} other images" if len(missing) > 1 else ""
        raise UsageError(
            f"{labels}: no label for {missing[0]}{others} of {where}", "give every image a row, or leave --labels out"
        )
    return tuple(index for index in indices if index is not None), table.names(classes)
