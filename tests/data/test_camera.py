"""Views of a camera: what each effect does to pictures whose values are their coordinates, and how pairs are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from aarewrite.data.arrays import Array
from aarewrite.data.camera import CONDITIONS, Scene, View, draw_camera_pairs, scene
from aarewrite.data.geometry import Geometry, resize_to_cover
from aarewrite.data.views import Views, draw_pairs

GEOMETRY = Geometry((40, 48), (52, 60))
INNER = (slice(6, -6), slice(6, -6))  # of a view, away from reflected borders
LEVELS = 3.7  # grey levels a pixel of the ramps: no whole number, or every value would be rounded alike


def ramp(height: int, width: int, step: float = 1.0) -> Array:
    """Three channels: the row's centre, the column's centre, and grey; in canvas pixels when `step` is its size."""
    rows, columns = np.mgrid[:height, :width]
    planes = [(rows + 0.5) * step, (columns + 0.5) * step, np.full((height, width), 128)]
    return np.clip(np.rint(LEVELS * np.stack(planes, axis=-1)), 0, 255).astype(np.uint8)


def taken(stored: Array) -> Scene:
    canvas = resize_to_cover(stored, GEOMETRY.canvas, "bilinear")
    top, left = ((have - want) // 2 for have, want in zip(canvas.shape[:2], GEOMETRY.canvas, strict=True))
    canvas = canvas[top : top + GEOMETRY.canvas[0], left : left + GEOMETRY.canvas[1]]
    return scene(stored, canvas, GEOMETRY, "bilinear", lambda picture: picture.astype(np.float32))


@pytest.mark.parametrize("density", [1, 2, 3])
@pytest.mark.parametrize(
    "view",
    [
        View((0.0, 0.0)),
        View((0.25, -0.75)),
        View((5.5, -3.25), density=1.2),
        View((1.0, 2.0), scale=1.01),
        View((-2.0, 1.0), angle=0.5),
        View((0.5, 0.5), scale=0.99, angle=-0.5, density=1.1),
    ],
)
def test_a_view_shows_what_lies_there(view: View, density: int) -> None:
    seen = taken(ramp(52 * density, 60 * density, 1 / density))
    picture = seen.picture(view).astype(float) / LEVELS
    y, x = np.mgrid[:40, :48] + 0.5
    v, u = (y - 20) / view.scale, (x - 24) / view.scale
    cos, sin = np.cos(np.radians(view.angle)), np.sin(np.radians(view.angle))
    rows = 20 + GEOMETRY.base[0] + view.offset[0] + cos * v - sin * u
    columns = 24 + GEOMETRY.base[1] + view.offset[1] + sin * v + cos * u
    lower = 0.5 / LEVELS if view.angle else 0.0
    assert np.abs(picture[..., 0] + lower - rows)[INNER].max() < 0.8
    assert np.abs(picture[..., 1] + lower - columns)[INNER].max() < 0.8
    assert abs((picture[..., 0] + lower - rows)[INNER].mean()) < 0.05
    assert abs((picture[..., 1] + lower - columns)[INNER].mean()) < 0.05


def test_a_fraction_of_a_pixel_is_band_limited() -> None:
    wave = np.rint(128 + 80 * np.sin(2 * np.pi * np.arange(60) / 5 + 0.3))
    seen = taken(np.broadcast_to(wave[None, :, None], (52, 60, 3)).astype(np.uint8))
    row = seen.picture(View((0.0, 0.5)))[20, 8:-8, 0].astype(float)
    at = GEOMETRY.base[1] + 8 + 0.5 + np.arange(32)
    assert np.abs(row - (128 + 80 * np.sin(2 * np.pi * at / 5 + 0.3))).max() < 4


def test_noise_and_jpeg_do_what_they_say() -> None:
    seen = taken(np.full((52, 60, 3), 128, np.uint8))
    noisy = seen.picture(View((0, 0), noise=4.0, seed=(1,))).astype(float) - 128
    assert noisy.std() == pytest.approx(4, rel=0.05)
    assert np.array_equal(seen.picture(View((0, 0), noise=4.0, seed=(1,))), noisy + 128)
    assert not np.array_equal(seen.picture(View((0, 0), noise=4.0, seed=(2,))), noisy + 128)
    rng = np.random.default_rng(0)
    busy = taken(rng.integers(0, 256, (52, 60, 3)).astype(np.uint8))
    exact = busy.picture(View((0, 0))).astype(float)
    losses = [np.abs(busy.picture(View((0, 0), quality=quality)) - exact).mean() for quality in (95, 75, 30)]
    assert 1 < losses[0] < losses[1] < losses[2]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("density", [1, 3])
def test_severity_zero_is_the_crop_protocol(density: int, channels: int) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (52 * density, 60 * density, 3)).astype(np.uint8)
    seen = taken(stored)
    if channels == 1:
        seen = scene(seen.canvas[..., :1], seen.canvas[..., :1], GEOMETRY, "bilinear", seen.finish)
    crops = Views("crop", GEOMETRY, (0, 1))
    for index in range(5):
        pairs = draw_camera_pairs(7, index, GEOMETRY, count=2, severity=0)
        for pair in pairs:
            for view in pair.views:
                assert np.array_equal(seen.view(view), crops.at(seen.canvas, view.offset))
        far = [tuple(view.offset for view in pair.views) for pair in pairs if not pair.near]
        assert far == list(draw_pairs(7, index, GEOMETRY, 2)) * len(CONDITIONS)


def test_pairs_are_seeded_near_or_far_and_inside() -> None:
    for index in range(40):
        pairs = draw_camera_pairs(3, index, GEOMETRY, count=2)
        assert pairs == draw_camera_pairs(3, index, GEOMETRY, count=2)
        assert pairs != draw_camera_pairs(4, index, GEOMETRY, count=2)
        assert [pair.condition for pair in pairs] == [name for name in CONDITIONS for _ in range(4)]
        alone = draw_camera_pairs(3, index, GEOMETRY, ["jpeg"], count=2)
        assert alone == tuple(pair for pair in pairs if pair.condition == "jpeg")
        for pair in pairs:
            first, second = (np.asarray(view.offset) for view in pair.views)
            assert not pair.near or 0 < np.abs(first - second).max() <= 1
            for place in (first, second):
                assert (place + GEOMETRY.base >= 0).all()
                assert (place + GEOMETRY.base <= GEOMETRY.span).all()
            whole = all(offset % 1 == 0 for view in pair.views for offset in view.offset)
            assert whole == (pair.condition not in ("shift", "mixed"))


def test_each_condition_alone_and_all_at_once() -> None:
    pairs = {pair.condition: pair.views[0] for pair in draw_camera_pairs(0, 0, GEOMETRY)}
    plain = View((0, 0))
    effects = {
        name: {
            key
            for key in ("scale", "angle", "noise", "quality", "density")
            if getattr(view, key) != getattr(plain, key)
        }
        for name, view in pairs.items()
    }
    assert effects == {
        "shift": set(),
        "noise": {"noise"},
        "jpeg": {"quality"},
        "scale": {"scale"},
        "rotation": {"angle"},
        "resize": {"density"},
        "mixed": {"scale", "angle", "noise", "quality", "density"},
    }
    drawn = [
        view for index in range(200) for pair in draw_camera_pairs(0, index, GEOMETRY, ["mixed"]) for view in pair.views
    ]
    assert min(view.quality or 0 for view in drawn) == 75
    assert max(view.quality or 0 for view in drawn) == 95
    assert 4.9 < max(view.noise for view in drawn) <= 5
    assert 0.0099 < max(abs(view.scale - 1) for view in drawn) <= 0.01
    assert 0.49 < max(abs(view.angle) for view in drawn) <= 0.5
    assert 1.24 < max(view.density for view in drawn) <= 1.25
