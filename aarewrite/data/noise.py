"""Synthetic samples: noise with the spectrum of natural images."""

from __future__ import annotations

import numpy as np

from aarewrite.data.arrays import Array, along
from aarewrite.data.dataset import Data, Loaded
from aarewrite.errors import UsageError
from aarewrite.texts import number


def open_noise(text: str, limit: int | None, seed: int) -> Data:
    """Open `synthetic` or `synthetic:N`; `UsageError` for an N that is no count."""
    given = text.partition(":")[2] or "64"
    wanted = number(given)
    if not wanted:
        raise UsageError(f"--data {text}: {given!r} is not a count", "write synthetic:64")
    count = min(wanted, limit or wanted)
    return Data(
        "synthetic",
        f"{count} synthetic 1/f noise samples (seed {seed}), not real data",
        tuple(f"noise[{i}]" for i in range(count)),
        lambda i: Loaded([]),  # `prepare` makes them, in the shape that the model wants
        is_float=True,
    )


def pink_noise(shape: tuple[int, ...], seed: tuple[int, int], axes: tuple[int, ...]) -> Array:
    """Noise whose amplitude falls as 1/f over `axes`, the spectrum of natural images; zero mean, unit variance.

    Other axes (channels) are independent. `seed` is that of all samples and this one's index.
    """
    noise = np.random.default_rng(seed).standard_normal(shape)
    sizes = [shape[axis] for axis in axes]
    frequency = np.sqrt(sum(along(np.fft.fftfreq(size), k, len(sizes)) ** 2 for k, size in enumerate(sizes)))
    frequency[frequency == 0] = np.inf  # removes the mean
    maps = np.moveaxis(noise, axes, range(-len(axes), 0))
    for place in np.ndindex(maps.shape[: -len(axes)]):  # one by one: spectra are large
        maps[place] = np.fft.ifftn(np.fft.fftn(maps[place]) / frequency).real
    noise /= noise.std() + 1e-12
    return noise.astype(np.float32)
