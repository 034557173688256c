"""What spoils a picture: fifteen corruptions of any severity, 0 to 5, and short sequences of frames of each.

Own definitions in numpy (and Pillow for resizing and JPEG), of noise, blur, weather and what digitising does; they are
no benchmark's. Severity 0 is the picture itself, bit for bit; between whole severities parameters are interpolated.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from aarewrite.data.arrays import Array
from aarewrite.errors import CannotHandle

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SEVERITIES = (1, 2, 3, 4, 5)
RISING = (1 / 3, 2 / 3)  # severities of the frames between the picture itself and severity 1
FRESH = 2  # further frames of a noise, at severity 1
Corrupt = Callable[[Array, Sequence[float], np.random.Generator], Array]  # of `(h, w, c)`, 0..1; parameters; the draw


def _gaussian_noise(x: Array, given: Sequence[float], rng: np.random.Generator) -> Array:
    return np.asarray(x + rng.normal(0, given[0], x.shape))


def _shot_noise(x: Array, given: Sequence[float], rng: np.random.Generator) -> Array:
    return np.asarray(rng.poisson(x / given[0]) * given[0])  # photons, each so bright


def _impulse_noise(x: Array, given: Sequence[float], rng: np.random.Generator) -> Array:
    drawn = rng.random(x.shape)
    return np.where(drawn < given[0], (drawn < given[0] / 2).astype(float), x)


def _defocus_blur(x: Array, given: Sequence[float], rng: np.random.Generator) -> Array:
    reach = int(np.ceil(given[0])) + 1
    distance = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    return _filtered(x, np.clip(given[0] + 0.5 - distance, 0, 1))  # a disc with a soft edge


def _glass_blur(x: Array, given: Sequence[float], rng: np.random.Generator) -> Array:
    places = np.indices(x.shape[:2]) + np.rint(rng.uniform(-given[0], given[0], (2, *x.shape[:2]))).astype(int)
    rows, columns = (np.clip(place, 0, size - 1) for place, size in zip(places, x.shape, strict=False))
    return _filtered(x[rows, columns], _bell(given[0] / 3))


def _motion_blur(x: Array, given: Sequence[float], rng: np.random.Generator) -> Array:
    return _filtered(x, _line(given[0], rng.uniform(0, np.pi)))


def _zoom_blur(x: Array, given: Sequence[float], rng: np.random.Generator) -> Array:
    height, width = x.shape[:2]
    total = np.zeros_like(x)
    for factor in np.linspace(1, 1 + given[0], 9):
        h, w = height / factor, width / factor
        total += _resized(
            x, (width, height), "BILINEAR", ((width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2)
        )
    return np.asarray(total / 9)


def _snow(x: Array, given: Sequence[float], rng: np.random.Generator) -> Array:
    flakes = _filtered(rng.standard_normal((*x.shape[:2], 1)), _bell(1.0))
    flakes = np.clip(flakes / flakes.std() - 3 + given[0], 0, 1)  # those that stand out
    flakes = np.clip(2 * _filtered(flakes, _line(6, rng.uniform(np.pi / 4, 3 * np.pi / 4))), 0, 1)
    whiter = x + given[1] * (0.5 + 0.5 * x.mean(-1, keepdims=True) - x)  # little light, little colour
    return np.asarray(whiter + flakes * (1 - whiter))


def _frost(x: Array, given: Sequence[float], rng: np.random.Generator) -> Array:
    ridges = 1 - np.abs(_clouds(x.shape[:2], 1.2, rng)) * 4  # thin bright lines between dark patches
    edges = np.clip(ridges, 0, 1)[..., None] ** 2
    return np.asarray(x * (1 - given[0]) + given[0] * (0.35 * x + 0.65 * edges) + 0.3 * given[0] * edges)


def _fog(x: Array, given: Sequence[float], rng: np.random.Generator) -> Array:
    thick = given[0] * (0.75 + 0.5 * _clouds(x.shape[:2], 2.0, rng)[..., None])
    return np.asarray(x * (1 - thick) + 0.85 * thick)


def _brightness(x: Array, given: Sequence[float], rng: np.random.Generator) -> Array:
    return np.asarray(x + given[0])


def _contrast(x: Array, given: Sequence[float], rng: np.random.Generator) -> Array:
    mean = x.mean((0, 1), keepdims=True)
    return np.asarray(mean + (x - mean) * (1 - given[0]))


def _elastic(x: Array, given: Sequence[float], rng: np.random.Generator) -> Array:
    field = _filtered(rng.uniform(-1, 1, (*x.shape[:2], 2)), _bell(4.0))
    moved = np.indices(x.shape[:2]) + given[0] * np.moveaxis(field / field.std(), -1, 0)
    return _sampled(x, moved)


def _pixelate(x: Array, given: Sequence[float], rng: np.random.Generator) -> Array:
    height, width = x.shape[:2]
    small = max(1, round(width * (1 - given[0]))), max(1, round(height * (1 - given[0])))
    return _resized(_resized(x, small, "BOX"), (width, height), "NEAREST")


def _jpeg(x: Array, given: Sequence[float], rng: np.random.Generator) -> Array:
    from PIL import Image

    stream = io.BytesIO()
    _picture(x).save(stream, "JPEG", quality=round(100 - given[0]))
    with Image.open(stream) as image:
        return np.asarray(image).reshape(x.shape) / 255


# Each with its parameters, one list a parameter: at severities 1 to 5; at 0 all are 0, which changes nothing
KINDS: dict[str, tuple[Corrupt, Sequence[Sequence[float]]]] = {
    "gaussian noise": (_gaussian_noise, [(0.04, 0.08, 0.12, 0.18, 0.26)]),
    "shot noise": (_shot_noise, [(0.01, 0.025, 0.05, 0.1, 0.18)]),
    "impulse noise": (_impulse_noise, [(0.01, 0.03, 0.06, 0.11, 0.18)]),
    "defocus blur": (_defocus_blur, [(1.0, 2.0, 3.0, 4.5, 6.5)]),
    "glass blur": (_glass_blur, [(0.8, 1.4, 2.2, 3.2, 4.5)]),
    "motion blur": (_motion_blur, [(3.0, 6.0, 9.0, 13.0, 18.0)]),
    "zoom blur": (_zoom_blur, [(0.06, 0.1, 0.15, 0.2, 0.26)]),
    "snow": (_snow, [(0.8, 1.1, 1.4, 1.7, 2.0), (0.1, 0.18, 0.25, 0.32, 0.4)]),
    "frost": (_frost, [(0.2, 0.35, 0.5, 0.62, 0.75)]),
    "fog": (_fog, [(0.25, 0.4, 0.5, 0.6, 0.7)]),
    "brightness": (_brightness, [(0.1, 0.2, 0.3, 0.4, 0.5)]),
    "contrast": (_contrast, [(0.3, 0.5, 0.65, 0.78, 0.88)]),
    "elastic": (_elastic, [(0.8, 1.4, 2.0, 2.8, 3.8)]),
    "pixelate": (_pixelate, [(0.4, 0.55, 0.66, 0.74, 0.8)]),
    "jpeg": (_jpeg, [(75.0, 82.0, 86.0, 90.0, 94.0)]),
}
NOISES = tuple(kind for kind in KINDS if kind.endswith("noise"))


def corrupted(picture: Array, kind: str, severity: float, seed: tuple[int, ...]) -> Array:
    """A picture `(h, w, c)` of bytes, spoilt; at severity 0 itself.

    What is drawn depends on kind and seed alone: of one seed, a higher severity is more of the same.

    Raises:
        CannotHandle: Pillow is needed and not installed.
    """
    if severity == 0:
        return picture
    spoil, levels = KINDS[kind]
    given = [float(np.interp(severity, (0, *SEVERITIES), (0, *values))) for values in levels]
    rng = np.random.default_rng((*seed, list(KINDS).index(kind)))
    try:
        return _bytes(spoil(picture / 255, given, rng))
    except ImportError:
        raise CannotHandle(
            f"corruption {kind!r} needs Pillow, which is not installed", "pip install 'aarewrite[report]'"
        ) from None


def _bytes(x: Array) -> Array:
    values: Array = np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)
    return values


def _picture(x: Array) -> Picture:
    from PIL import Image

    values = _bytes(x)
    return Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)


def _resized(x: Array, size: tuple[int, int], how: str, box: tuple[float, float, float, float] | None = None) -> Array:
    """Resize to (width, height) what lies in a box."""
    from PIL import Image

    found = np.asarray(_picture(x).resize(size, Image.Resampling[how], box=box))
    return found.reshape(size[1], size[0], x.shape[-1]) / 255


def _filtered(x: Array, kernel: Array) -> Array:
    """Convolve `(h, w, c)` with a kernel `(k, k)`, k odd, whose sum counts as 1; reflected at the borders."""
    reach = len(kernel) // 2
    padded = np.pad(
        x, [(reach, reach), (reach, reach), (0, 0)], mode="symmetric" if min(x.shape[:2]) >= reach else "edge"
    )
    shape = padded.shape[:2]
    spectrum = np.fft.rfft2(kernel / kernel.sum(), shape)[..., None] * np.fft.rfft2(padded, axes=(0, 1))
    whole = np.fft.irfft2(spectrum, shape, axes=(0, 1))
    return np.asarray(whole[2 * reach :, 2 * reach :])


@lru_cache
def _bell(sigma: float) -> Array:
    reach = max(1, int(np.ceil(3 * sigma)))
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.outer(line, line)


def _line(length: float, angle: float) -> Array:
    """A kernel like a line through its centre, of a length in px."""
    reach = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    along = np.linspace(-length / 2, length / 2, 4 * reach + 1)
    places = reach + np.stack([along * np.sin(angle), along * np.cos(angle)])
    corner = np.floor(places).astype(int)
    far = places - corner
    for dy in (0, 1):
        for dx in (0, 1):
            weight = np.abs(1 - dy - far[0]) * np.abs(1 - dx - far[1])
            np.add.at(kernel, (corner[0] + dy, corner[1] + dx), weight)
    return kernel


def _clouds(size: Sequence[int], exponent: float, rng: np.random.Generator) -> Array:
    """Noise whose amplitude falls with frequency to a power; from -1 to 1."""
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in size), indexing="ij"))
    frequency[0, 0] = np.inf
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal(tuple(size))) / frequency**exponent).real
    return np.asarray(noise / (np.abs(noise).max() or 1))


def _sampled(x: Array, places: Array) -> Array:
    """`(h, w, c)` at fractional places (2, h, w), bilinearly; the border goes on outside."""
    rows, columns = (np.clip(place, 0, size - 1) for place, size in zip(places, x.shape, strict=False))
    top, left = (
        np.minimum(np.floor(place).astype(int), size - 2) for place, size in ((rows, x.shape[0]), (columns, x.shape[1]))
    )
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    upper = x[top, left] * (1 - right) + x[top, left + 1] * right
    lower = x[top + 1, left] * (1 - right) + x[top + 1, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down)
