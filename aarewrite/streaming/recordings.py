"""Signals of one's own: a WAV file, or arrays, cut to what a model's inputs take."""

from __future__ import annotations

import wave
import zipfile
from pathlib import Path

import numpy as np

from aarewrite.data.npz import SAMPLE_KEYS
from aarewrite.errors import UsageError
from aarewrite.model.types import Array
from aarewrite.rewriting.random_inputs import Feeds
from aarewrite.streaming.proof import Steps

SCALES = {1: 2.0**7, 2: 2.0**15, 3: 2.0**23, 4: 2.0**31}  # by bytes of a sample


def open_signal(path: Path, steps: Steps, sample: Feeds) -> Feeds:
    """The signal that a file holds, for every streamed input, in whole steps.

    Args:
        path: A .wav file (values from -1 to 1), or an .npz or .npy: arrays of the inputs' shapes but longer along the
            stream, or without a batch, or samples of one window each, which are laid one behind the other.
        steps: How the streaming model is fed.
        sample: A window of every input, whose shapes and types the signal gets.

    Raises:
        UsageError: It cannot be read, holds no array for an input, or fewer samples than a window and a step.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file", "give a .wav, .npz or .npy file")
    arrays = {"": _wav(path)} if path.suffix.lower() == ".wav" else _arrays(path)
    found = {}
    for name, axis in steps.inputs.items():
        key = next((key for key in (name, *SAMPLE_KEYS) if key in arrays), None)
        if key is None and len(arrays) == 1 and len(steps.inputs) == 1:
            key = next(iter(arrays))
        if key is None:
            raise UsageError(f"{path}: no array {name!r}", f"it has {', '.join(arrays)}")
        found[name] = _fitted(path, arrays[key], sample[name], axis)
    length = min(value.shape[steps.inputs[name]] for name, value in found.items()) // steps.step * steps.step
    if length < (steps.first_valid + 1) * steps.step:
        raise UsageError(f"{path}: {length} samples are no long signal for a window of {steps.window}", "give more")
    return {name: value[(slice(None),) * steps.inputs[name] + (slice(length),)] for name, value in found.items()}


def _fitted(path: Path, value: Array, like: Array, axis: int) -> Array:
    """An array with the shape of a window's, but for its length along the stream."""
    wanted = [*like.shape]
    alike = value.ndim == like.ndim and all(value.shape[k] == wanted[k] for k in range(1, like.ndim) if k != axis)
    if alike and axis > 0 and len(value) > 1:
        value = np.concatenate([*value[:, None]], axis)
    while value.ndim < like.ndim:
        value = value[None]
    rest = [k for k in range(like.ndim) if k != axis]
    if value.ndim != like.ndim or any(value.shape[k] not in (1, wanted[k]) for k in rest):
        shape, needed = ("x".join(map(str, sizes)) for sizes in (value.shape, wanted))
        raise UsageError(f"{path}: {shape} does not fit {needed}", f"let it be longer along axis {axis} alone")
    wanted[axis] = value.shape[axis]
    return np.ascontiguousarray(np.broadcast_to(value, wanted).astype(like.dtype))


def _wav(path: Path) -> Array:
    """The samples of a WAV file, from -1 to 1, (channels, length); (length,) where there is one channel."""
    try:
        with wave.open(str(path), "rb") as stream:
            width, channels = stream.getsampwidth(), stream.getnchannels()
            data = stream.readframes(stream.getnframes())
    except (wave.Error, EOFError, OSError) as error:
        raise UsageError(f"{path}: not a WAV file of PCM samples ({error})", "convert it, or give an .npz") from None
    raw = np.frombuffer(data, np.uint8).reshape(-1, width)
    if width == 1:
        values = raw[:, 0].astype(np.float64) - 128
    else:  # little-endian, signed
        wide = np.zeros((len(raw), 8), np.uint8)
        wide[:, 8 - width :] = raw
        values = wide.view("<i8")[:, 0].astype(np.float64) / 2.0 ** (64 - 8 * width)
    found = (values / SCALES[width]).reshape(-1, channels).T
    return np.asarray(found[0] if channels == 1 else found)


def _arrays(path: Path) -> dict[str, Array]:
    try:
        loaded = np.load(path, allow_pickle=False)
        return dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"": loaded}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: not an .npz or .npy file ({error})", "give arrays saved by numpy") from None
