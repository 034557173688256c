"""Images in Parquet files, as data sets on hubs come: bytes in a column, classes in another."""

from __future__ import annotations

import io
import json
import threading
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from aarewrite.data.dataset import Data, Loaded, UnreadableSample
from aarewrite.data.files import File
from aarewrite.data.images import read_image
from aarewrite.data.labels import LABEL_COLUMNS, by_file, class_index
from aarewrite.errors import CannotHandle, UsageError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "content")
KEPT = 2  # groups of rows whose images are held at a time


def open_parquet(files: Sequence[File], where: str, labels: str | Path | None, limit: int | None) -> Data:
    """Open Parquet files with a column of encoded images, as bytes or as a struct with `bytes` and `path`.

    Raises:
        UsageError: No such column, or labels that do not fit.
        CannotHandle: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as pq
        from pyarrow import ArrowException
    except ImportError:
        raise CannotHandle(
            f"{where}: reading Parquet needs pyarrow, which is not installed", "pip install 'aarewrite[arrow]'"
        ) from None
    tables = []
    for file in files:
        try:
            tables.append(pq.ParquetFile(file.open()))
        except (OSError, ArrowException) as error:
            raise UsageError(f"{file.place}: not a readable Parquet file ({error})", "repair or remove it") from None
    schema = tables[0].schema_arrow
    column = next((name for name in IMAGE_COLUMNS if name in schema.names), None)
    if column is None:
        raise UsageError(
            f"{files[0].place}: columns are {', '.join(schema.names)}", f"images need one of {', '.join(IMAGE_COLUMNS)}"
        )
    groups = [(table, k) for table in tables for k in range(table.num_row_groups)]
    ends = list(accumulate(table.metadata.row_group(k).num_rows for table, k in groups))
    found = ends[-1] if ends else 0
    count = min(found, limit or found)
    if not count:
        raise UsageError(f"{where}: no rows", "give a file with images")
    guard = threading.Lock()

    @lru_cache(maxsize=KEPT)
    def group(k: int) -> list[object]:
        table, number = groups[k]
        values: list[object] = table.read_row_group(number, columns=[column]).column(column).to_pylist()
        return values

    def load(i: int) -> Loaded:
        k = bisect_right(ends, i)
        with guard:  # one thread reads a group, the others then find it
            value = group(k)[i - (ends[k - 1] if k else 0)]
        data = value.get("bytes") if isinstance(value, Mapping) else value
        if not isinstance(data, bytes):
            raise UnreadableSample(f"{names[i]}: no bytes of an image in column {column}", "repair or remove the row")
        image, remark = read_image(io.BytesIO(data), names[i])
        return Loaded([image], remark)

    names = tuple(f"{file.name}[{i}]" for file, table in zip(files, tables, strict=True) for i in _rows(table))[:count]
    label = next((name for name in LABEL_COLUMNS if name in schema.names), None)
    indices, class_names = None, dict[int, str]()
    if labels is not None:
        indices, class_names = by_file(labels, names, where)
    elif label is not None:
        values = [value for table in tables for value in table.read(columns=[label]).column(label).to_pylist()]
        indices = tuple(class_index(value, f"{where}: {label}") for value in values[:count])
        class_names = _hub_names(schema.metadata, label)
    return Data("images", f"{count} of {found} images in {where}", names, load, indices, class_names)


def _rows(table: ParquetFile) -> range:
    return range(table.metadata.num_rows)


def _hub_names(metadata: Mapping[bytes, bytes] | None, label: str) -> dict[int, str]:
    """Names of classes as Hugging Face's data sets say them in the schema."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
        return dict(enumerate(map(str, names)))
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
