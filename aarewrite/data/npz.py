"""Samples and labels as arrays in an .npy or .npz file."""

from __future__ import annotations

import contextlib
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from aarewrite.data.arrays import Array
from aarewrite.data.dataset import Data, Loaded
from aarewrite.data.labels import class_index, read_table
from aarewrite.errors import UsageError

SAMPLE_KEYS = ("x", "images", "inputs", "input", "data", "x_test")
TRIPLET = ("ref", "p0", "p1")  # a reference and its two distorted versions
LABEL_KEYS = ("labels", "label", "y", "y_test")


def open_arrays(path: Path, labels: str | Path | None, limit: int | None, input_names: tuple[str, ...]) -> Data:
    """Open an .npy or .npz; `input_names` are the model's inputs, to recognise their arrays.

    Raises:
        UsageError: No samples in it, or labels that do not fit.
    """
    with _opened(path) as arrays:
        triplets = set(TRIPLET) <= set(arrays)
        keys = TRIPLET if triplets else (_sample_key(path, arrays, input_names),)
        totals, members = zip(*(_first(arrays, key, limit) for key in keys), strict=True)
        labelling = {key: arrays[key] for key in LABEL_KEYS if key in arrays and key not in keys}
        constants = {name: arrays[name] for name in input_names if name in arrays and name not in keys[:1]}
    if len({member.shape for member in members}) > 1 or len(set(totals)) > 1:
        shapes = ", ".join(
            f"{key} {(total, *member.shape[1:])}" for key, total, member in zip(keys, totals, members, strict=True)
        )
        raise UsageError(f"{path}: {shapes} differ", "give equal shapes")
    key, total, samples = keys[0], totals[0], members[0]
    if samples.ndim < 2 or 0 in samples.shape:
        raise UsageError(
            f"{path}: array {key!r} has shape {samples.shape}", "samples need a first axis that counts them"
        )
    if samples.dtype.kind not in "iuf":
        raise UsageError(f"{path}: array {key!r} holds {samples.dtype}", "samples must be real numbers")
    count = min(len(samples), limit or len(samples))
    indices, class_names = _labels(path, labelling, labels, total)
    return Data(
        "arrays",
        f"{count} of {total} samples {samples.shape[1:]} {samples.dtype} in {path.name}:{key}",
        tuple(f"{path.stem}[{i}]" for i in range(count)),
        lambda i: Loaded([np.asarray(member[i]) for member in members]),
        None if indices is None else indices[:count],
        class_names,
        sample_shape=samples.shape[1:],
        is_float=bool(np.issubdtype(samples.dtype, np.floating)),
        constants=constants,
        triplets=triplets,
    )


def read_arrays(path: Path) -> dict[str, Array]:
    """Read an .npy (memory-mapped, as `x`) or an .npz; `UsageError` if it is broken, empty or holds Python objects."""
    with _opened(path) as arrays:
        return dict(arrays)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, Array]]:
    """The arrays of an .npy (memory-mapped, as `x`) or an .npz, each read when it is asked for. Errors, in the block
    too, as of `read_arrays`."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(found, np.ndarray):
            yield {"x": found}
            return
        with found:
            if not found.files:
                raise UsageError(f"{path}: holds no array", "write it with numpy.savez(path, x=...)")
            yield found
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file", "name an existing .npz") from None
    except (OSError, ValueError, MemoryError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise UsageError(f"{path}: cannot be read: {error}", "write it with numpy.savez, without objects") from None


def _first(arrays: Mapping[str, Array], key: str, limit: int | None) -> tuple[int, Array]:
    """How many rows an array has, and the first of them: of an .npz, no more is read."""
    archive = arrays.zip if limit and isinstance(arrays, np.lib.npyio.NpzFile) else None
    if limit is None or archive is None or f"{key}.npy" not in archive.namelist():
        found = arrays[key]
        return len(found) if found.ndim else 0, found
    with archive.open(f"{key}.npy") as stream:
        old = np.lib.format.read_magic(stream) == (1, 0)
        header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = header(stream)
        if by_columns or dtype.hasobject or len(shape) < 2 or shape[0] <= limit:
            return shape[0] if shape else 0, arrays[key]
        rows = (limit, *shape[1:])
        data = stream.read(math.prod(rows) * dtype.itemsize)
    return shape[0], np.frombuffer(data, dtype).reshape(rows)


def _sample_key(path: Path, arrays: Mapping[str, Array], input_names: tuple[str, ...]) -> str:
    named = [key for key in (*input_names, *SAMPLE_KEYS) if key in arrays]
    rest = [key for key in arrays if key not in LABEL_KEYS]
    if named or len(rest) == 1:
        return (*named, *rest)[0]
    raise UsageError(
        f"{path}: cannot tell the samples among arrays {', '.join(arrays)}",
        f"name them x or like the model's input ({', '.join(input_names)})",
    )


def _labels(
    path: Path, arrays: Mapping[str, Array], labels: str | Path | None, count: int
) -> tuple[tuple[int, ...] | None, dict[int, str]]:
    key = next((key for key in LABEL_KEYS if key in arrays), None)
    names: dict[int, str] = {}
    source = f"{path}:{key}"
    if labels is not None:
        source, table = str(labels), read_table(labels)
        values = table.classes()
        names = table.names(values)
    elif key is None:
        return None, names
    else:
        array = arrays[key]
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            raise UsageError(f"{source}: labels of shape {array.shape}, {array.dtype}", "give one integer a sample")
        values = tuple(class_index(value, source) for value in array.tolist())
    if len(values) != count:
        raise UsageError(f"{source}: {len(values)} labels for {count} samples", "give one label a sample")
    return values, names
