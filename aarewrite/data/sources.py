"""What `--data` names: images in folders, lists, archives, Parquet files or buckets, arrays, or synthetic noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from aarewrite.data.archives import TAR_SUFFIXES, open_archives
from aarewrite.data.dataset import Data
from aarewrite.data.files import File, find_files, is_address, plain_address
from aarewrite.data.folders import open_images
from aarewrite.data.images import IMAGE_SUFFIXES
from aarewrite.data.lists import LIST_SUFFIXES, open_list
from aarewrite.data.noise import open_noise
from aarewrite.data.npz import open_arrays
from aarewrite.data.parquet import open_parquet
from aarewrite.errors import UsageError

Opener = Callable[[Sequence[File], str, str | Path | None, int | None], Data]
# Of the files in a folder, those of the first kind that there are
KINDS: tuple[tuple[frozenset[str], Opener], ...] = (
    (IMAGE_SUFFIXES, open_images),
    (frozenset((".parquet",)), open_parquet),
    (frozenset(TAR_SUFFIXES), open_archives),
)


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
        CannotHandle: Reading it needs a library that is not installed.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: needs at least one sample", "give 1 or more")
    text = str(source)
    if text == "synthetic" or text.startswith("synthetic:"):
        if labels is not None:
            raise UsageError("--labels with synthetic data: noise has no classes", "leave --labels out")
        return open_noise(text, limit, seed)
    path = Path(text)
    if not is_address(text) and path.is_file():
        if path.suffix in (".npy", ".npz"):
            return open_arrays(path, labels, limit, input_names)
        if path.suffix.lower() in LIST_SUFFIXES:
            return open_list(path, labels, limit)
    files, said = find_files(text), plain_address(text) if is_address(text) else text
    where = f"{path.name}/" if path.is_dir() else said.rstrip("/").rpartition("/")[2]
    for suffixes, opener in KINDS:
        if chosen := [file for file in files if file.suffix in suffixes]:
            return opener(chosen, where, labels, limit)
    known = sorted(suffix for suffixes, _ in KINDS for suffix in suffixes)
    if path.is_file():
        raise UsageError(f"{path}: no images, samples or list of them", "see --help for --data")
    raise UsageError(f"{said}: no images in this folder", f"looked for {', '.join(known)}")
