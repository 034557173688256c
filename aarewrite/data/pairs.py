"""Pairs of images of a user's own, neighbouring frames of a video say."""

from __future__ import annotations

from pathlib import Path

from aarewrite.data.dataset import Data, Loaded, UnreadableSample
from aarewrite.data.files import local_file
from aarewrite.data.folders import load_image
from aarewrite.data.labels import LABEL_COLUMNS, read_table
from aarewrite.errors import UsageError


def open_pairs(path: str | Path, limit: int | None = None) -> Data:
    """Open a table of pairs of images: columns file_a, file_b, and optionally a label and `cluster`, what a pair is of.

    Files are relative to the table. A sample is both images; a cluster is by default the row.

    Raises:
        UsageError: Unusable, or a file that is not there; the message names the line.
    """
    path = Path(path)
    table = read_table(path)
    if not {"file_a", "file_b"} <= table.rows[0].keys():
        raise UsageError(f"{path}: columns are {table.columns}", "it needs `file_a` and `file_b`")
    table = table.first(limit)
    pairs = [(str(row.get("file_a") or ""), str(row.get("file_b") or "")) for row in table.rows]
    places = [f"{path} line {number}" for number in table.numbers]
    for place, names in zip(places, pairs, strict=True):
        if "" in names:
            raise UsageError(f"{place}: a file is not named", "give file_a and file_b")
        if missing := next((name for name in names if not (path.parent / name).is_file()), None):
            raise UsageError(f"{place}: {missing}: no such file", "files are relative to the CSV")

    def load(i: int) -> Loaded:
        try:
            both = [load_image(local_file(path.parent / name)) for name in pairs[i]]
        except UnreadableSample as error:
            raise UnreadableSample(f"{places[i]}: {error.message}", error.next_step) from None
        said = [f"{name}: {one.remark}" for name, one in zip(pairs[i], both, strict=True) if one.remark]
        return Loaded([one.arrays[0] for one in both], "; ".join(said))

    return Data(
        "images",
        f"{len(pairs)} pairs of images in {path.name}",
        tuple(" and ".join(pair) for pair in pairs),
        load,
        table.classes() if table.column(LABEL_COLUMNS) else None,
        clusters=tuple(str(row.get("cluster") or place) for row, place in zip(table.rows, places, strict=True)),
    )
