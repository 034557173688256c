"""Where samples come from: a folder of images, an .npy/.npz file, or synthetic noise.

Every source loads one sample at a time, so memory does not grow with their number.
"""

from __future__ import annotations

import contextlib
import csv
import math
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from aarewrite.data.arrays import Array, along
from aarewrite.errors import CannotHandle, UsageError

S = TypeVar("S")
T = TypeVar("T")
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
SAMPLE_KEYS = ("x", "images", "inputs", "input", "data", "x_test")
TRIPLET = ("ref", "p0", "p1")  # a reference and its two distorted versions
LABEL_KEYS = ("labels", "label", "y", "y_test")
LABEL_COLUMNS = ("class_index", "label", "class", "index")


@dataclass(frozen=True)
class Data:
    """Samples to measure on."""

    kind: str  # `images`, `arrays` or `synthetic`
    description: str  # one line for reports
    names: tuple[str, ...]  # one name a sample
    # Decodes sample i: `(H, W, 3)` uint8 for images, else the array as stored; for two-input metrics `ref`, `p0` and
    # `p1`. Called once a sample.
    load: Callable[[int], list[Array]]
    labels: tuple[int, ...] | None = None  # class index a sample, or None
    # Names of classes by index, as far as the labels file gives them
    class_names: Mapping[int, str] = field(default_factory=dict)
    sample_shape: tuple[int, ...] | None = None  # shape of one stored sample for arrays, None where samples differ
    is_float: bool = False  # the samples are floating-point numbers, taken to be in the model's units by default
    # Arrays of an .npz that are named like an input of the model and are no samples
    constants: Mapping[str, Array] = field(default_factory=dict)
    triplets: bool = False  # whether a sample is three arrays
    clusters: tuple[str, ...] | None = None  # of pairs of images, what each pair is from; None where samples are one

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.names)


def open_data(
    source: str | Path,
    labels: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    input_names: tuple[str, ...] = (),
) -> Data:
    """Open what `--data` names; arguments as `verify`, and the model's inputs to recognise their arrays in an .npz.

    Raises:
        UsageError: Nothing usable there, or labels that do not match; the message names the file.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: needs at least one sample", "give 1 or more")
    text = str(source)
    if text == "synthetic" or text.startswith("synthetic:"):
        if labels is not None:
            raise UsageError("--labels with synthetic data: noise has no classes", "leave --labels out")
        return _synthetic(text, limit, seed)
    path = Path(source)
    if path.is_dir():
        return _folder(path, labels, limit)
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder", "name a folder of images, an .npy/.npz, or synthetic[:N]")
    if path.suffix in (".npy", ".npz") and path.is_file():
        return _arrays(path, labels, limit, input_names)
    raise UsageError(f"{path}: neither a folder of images nor an .npy/.npz file", "see --help for --data")


def read_image(path: Path) -> Array:
    """Decode an image file as RGB, `(H, W, 3)` uint8; `UsageError` for a file that is truncated or no image."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise CannotHandle(
            "reading images needs Pillow, which is not installed", "pip install 'aarewrite[report]'"
        ) from None
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        reason = "no image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise UsageError(f"{path}: cannot be decoded: {reason}", "repair or remove the file") from None


def _folder(path: Path, labels: str | Path | None, limit: int | None) -> Data:
    named = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    files = [file for file in named if file.is_file()]  # a fifo would wait for whoever writes to it
    if not files:
        raise UsageError(f"{path}: no images in this folder", f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    found = len(files)
    files = files[:limit]
    indices, class_names = None, dict[int, str]()
    if labels is not None:
        rows, values, class_names = _read_labels(labels, "file")
        by_file = {row["file"]: index for row, index in zip(rows, values, strict=True)}
        if missing := [file.name for file in files if file.name not in by_file]:
            raise UsageError(
                f"{labels}: no label for {missing[0]} and {len(missing) - 1} other images of {path.name}/",
                "give every image a row, or leave --labels out",
            )
        indices = tuple(by_file[file.name] for file in files)
    return Data(
        "images",
        f"{len(files)} of {found} images in {path.name}/",
        tuple(file.name for file in files),
        lambda i: [read_image(files[i])],
        indices,
        class_names,
    )


def open_pairs(path: str | Path, limit: int | None = None) -> Data:
    """Open a CSV of pairs of images: columns file_a, file_b, and optionally a label and `cluster`, what a pair is from.

    Files are relative to the CSV. A sample is both images; a cluster is by default the row.

    Raises:
        UsageError: Unusable, or a file that is not there or no image; the message names the line.
    """
    path = Path(path)
    rows, numbers = _read_csv(path)
    if not {"file_a", "file_b"} <= rows[0].keys():
        raise UsageError(f"{path}: columns are {', '.join(rows[0])}", "it needs `file_a` and `file_b`")
    rows, numbers = rows[:limit], numbers[:limit]
    pairs = [(row["file_a"], row["file_b"]) for row in rows]
    places = [f"{path} line {number}" for number in numbers]
    for place, names in zip(places, pairs, strict=True):
        if missing := next((name for name in names if not name or not (path.parent / name).is_file()), None):
            raise UsageError(f"{place}: {missing}: no such file", "files are relative to the CSV")
        if None in names or "" in names:
            raise UsageError(f"{place}: a file is not named", "give file_a and file_b")

    def load(i: int) -> list[Array]:
        try:
            return [read_image(path.parent / name) for name in pairs[i]]
        except UsageError as error:
            raise UsageError(f"{places[i]}: {error.message}", error.next_step) from None

    labelled = any(name in rows[0] for name in LABEL_COLUMNS)
    return Data(
        "images",
        f"{len(rows)} pairs of images in {path.name}",
        tuple(" and ".join(pair) for pair in pairs),
        load,
        tuple(_class_indices(path, rows, numbers)) if labelled else None,
        clusters=tuple(row.get("cluster") or place for row, place in zip(rows, places, strict=True)),
    )


def _read_labels(labels: str | Path, *needed: str) -> tuple[list[dict[str, str]], list[int], dict[int, str]]:
    """The rows of a CSV, their class indices, and the names of classes that it gives."""
    rows, numbers = _read_csv(Path(labels))
    values = _class_indices(labels, rows, numbers, *needed)
    return rows, values, {index: row["name"] for index, row in zip(values, rows, strict=True) if row.get("name")}


def _read_csv(path: Path) -> tuple[list[dict[str, str]], list[int]]:
    """The rows of a CSV, at least one, and the lines that they end on."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            found = [(row, reader.line_num) for row in reader]
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file", "name an existing .csv") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: not a readable CSV ({error})", "correct the file") from None
    if not found:
        raise UsageError(f"{path}: no rows", "it needs a header line and one row an image or pair")
    return [row for row, _ in found], [number for _, number in found]


def _class_indices(
    path: str | Path, rows: Sequence[Mapping[str, str]], numbers: Sequence[int], *needed: str
) -> list[int]:
    column = next((name for name in LABEL_COLUMNS if name in rows[0]), None)
    if column is None or not {*needed} <= rows[0].keys():
        wanted = "".join(f"`{name}` and " for name in needed)
        raise UsageError(
            f"{path}: columns are {', '.join(rows[0])}", f"it needs {wanted}one of {', '.join(LABEL_COLUMNS)}"
        )
    return [_label(row[column], f"{path} line {number}") for row, number in zip(rows, numbers, strict=True)]


def _label(text: str | int, where: str) -> int:
    try:
        index = int(text)
    except (TypeError, ValueError):
        raise UsageError(f"{where}: class index {text!r} is not a whole number", "correct the row") from None
    if index < 0:
        raise UsageError(f"{where}: class index {index} is negative", "correct the row")
    return index


def _arrays(path: Path, labels: str | Path | None, limit: int | None, input_names: tuple[str, ...]) -> Data:
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
    indices, class_names = _array_labels(path, labelling, labels, total)
    return Data(
        "arrays",
        f"{count} of {total} samples {samples.shape[1:]} {samples.dtype} in {path.name}:{key}",
        tuple(f"{path.stem}[{i}]" for i in range(count)),
        lambda i: [np.asarray(member[i]) for member in members],
        None if indices is None else indices[:count],
        class_names,
        samples.shape[1:],
        bool(np.issubdtype(samples.dtype, np.floating)),
        constants,
        triplets,
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


def _array_labels(
    path: Path, arrays: Mapping[str, Array], labels: str | Path | None, count: int
) -> tuple[tuple[int, ...] | None, dict[int, str]]:
    key = next((key for key in LABEL_KEYS if key in arrays), None)
    names: dict[int, str] = {}
    source = f"{path}:{key}"
    if labels is not None:
        source = str(labels)
        _, values, names = _read_labels(labels)
    elif key is None:
        return None, names
    else:
        array = arrays[key]
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            raise UsageError(f"{source}: labels of shape {array.shape}, {array.dtype}", "give one integer a sample")
        values = [_label(value, source) for value in array.tolist()]
    if len(values) != count:
        raise UsageError(f"{source}: {len(values)} labels for {count} samples", "give one label a sample")
    return tuple(values), names


def _synthetic(text: str, limit: int | None, seed: int) -> Data:
    number = text.partition(":")[2] or "64"
    if not number.isdigit() or int(number) < 1:
        raise UsageError(f"--data {text}: {number!r} is not a count", "write synthetic:64")
    count = min(int(number), limit or int(number))
    return Data(
        "synthetic",
        f"{count} synthetic 1/f noise samples (seed {seed}), not real data",
        tuple(f"noise[{i}]" for i in range(count)),
        lambda i: [],  # `prepare` makes them, in the shape that the model wants
        is_float=True,
    )


def pink_noise(shape: tuple[int, ...], seed: tuple[int, int], axes: tuple[int, ...]) -> Array:
    """Noise whose amplitude falls as 1/f over `axes`, the spectrum of natural images; zero mean, unit variance.

    Other axes (channels) are independent. `seed` is that of all samples and this one's index.
    """
    white = np.random.default_rng(seed).standard_normal(shape)
    frequency = np.sqrt(sum(along(np.fft.fftfreq(shape[axis]), axis, len(shape)) ** 2 for axis in axes))
    frequency[frequency == 0] = np.inf  # removes the mean
    spectrum = np.fft.fftn(white, axes=axes) / frequency
    noise = np.fft.ifftn(spectrum, axes=axes).real
    result: Array = (noise / (noise.std() + 1e-12)).astype(np.float32)
    return result


def prefetch(load: Callable[[S], T], items: Iterable[S], workers: int = 2, ahead: int = 8) -> Iterator[tuple[S, T]]:
    """Yield `(item, load(item))` in order, loading at most `ahead` of them in the background.

    Decoding and rendering overlap with the model's run (both release the GIL); the bound keeps memory flat.
    """
    rest = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="prefetch") as pool:
        waiting = deque((item, pool.submit(load, item)) for item in islice(rest, ahead))
        try:
            while waiting:
                item, found = waiting.popleft()
                loaded = found.result()
                waiting.extend((item, pool.submit(load, item)) for item in islice(rest, 1))
                yield item, loaded
        finally:
            pool.shutdown(cancel_futures=True)
